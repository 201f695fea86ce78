"""Where the time of training goes: seconds by section, and a trace of a few steps by torch's profiler."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch


class Section(Protocol):
    """Opens a section of the time split, around a block; its seconds are divided by `threads` that have the same."""

    def __call__(self, name: str, threads: int = 1) -> AbstractContextManager[None]: ...


def untimed(name: str, threads: int = 1) -> AbstractContextManager[None]:
    """The section where nobody looks at the time."""
    return contextlib.nullcontext()


class Stopwatch:
    """Seconds by section. A section within a section is no part of the outer one.

    Threads that compute side by side each have sections of their own; their seconds are divided by `threads`.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextlib.contextmanager
    def __call__(self, name: str, threads: int = 1) -> Iterator[None]:
        """Time the block, until the device has done what was asked of it."""
        open_sections: list[str] = self._local.__dict__.setdefault("open", [])
        self._charge(open_sections, threads)
        open_sections.append(name)
        try:
            with torch.profiler.record_function(f"softtune: {name}"):
                yield
        finally:
            self._charge(open_sections, threads)
            open_sections.pop()

    def _charge(self, open_sections: list[str], threads: int) -> None:
        """Charge the time since the last look to the innermost open section."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if open_sections:
            with self._lock:
                self.seconds[open_sections[-1]] += (now - self._local.looked) / threads
        self._local.looked = now
