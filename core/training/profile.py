"""Where the time of training goes: seconds by section, and a trace of a few steps by torch's profiler."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from core.contract.control import StopRequested
from core.contract.events import Event, Progress, StepCompleted, TimeSplit

if TYPE_CHECKING:
    from core.training.loop import Trainer

SECTIONS = ("data", "forward", "head", "backward", "optimizer", "validation", "writing", "tracing")
TRACED_STEPS = 2
"""More would make a file that no viewer opens: two steps of SmolLM2-135M on a CPU are some hundred thousand events."""


class Section(Protocol):
    """Opens a section of the time split, around a block; its seconds are divided by `threads` that have the same."""

    def __call__(self, name: str, threads: int = 1) -> AbstractContextManager[None]: ...


def untimed(name: str, threads: int = 1) -> AbstractContextManager[None]:
    """The section where nobody looks at the time."""
    return contextlib.nullcontext()


class Stopwatch:
    """Seconds by section. A section within a section is no part of the outer one.

    Threads that compute side by side have sections of their own; the seconds of each are divided by their number. Soft
    prompts that go through the layers beside their rows have none: where rows wait for them, that is the rows' time.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextlib.contextmanager
    def __call__(self, name: str, threads: int = 1) -> Iterator[None]:
        """Time the block, until the device has done what was asked of it."""
        self._charge()
        self._open.append((name, threads))
        try:
            with torch.profiler.record_function(f"softtune: {name}"):
                yield
        finally:
            self._charge()
            self._open.pop()

    @property
    def _open(self) -> list[tuple[str, int]]:
        """This thread's open sections, the innermost last."""
        stack: list[tuple[str, int]] = self._local.__dict__.setdefault("open", [])
        return stack

    def _charge(self) -> None:
        """Charge the time since this thread's last look to its innermost open section."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if self._open:
            name, threads = self._open[-1]
            with self._lock:
                self.seconds[name] += (now - self._local.looked) / threads
        self._local.looked = now


def profiled(trainer: Trainer, trace: Path) -> Iterator[Event]:
    """What `trainer.fit` tells, and after it, also when it was stopped, where the time went.

    The time in which the caller has an event, and writes it down, counts as writing. Sections wait for a GPU to end
    what it was given, which takes a little time of its own.

    Args:
        trace: file for the trace of the first steps, JSON compressed by gzip, which Perfetto and chrome://tracing show.
    """
    stopwatch = Stopwatch(trainer.device)
    trainer.section = trainer.passes.section = stopwatch
    trace.parent.mkdir(parents=True, exist_ok=True)
    begun, steps = time.perf_counter(), 0
    stopped: StopRequested | None = None
    with contextlib.ExitStack() as tracing:
        try:
            for event in trainer.fit():
                with stopwatch("writing"):
                    yield event
                if isinstance(event, Progress) and event.stage == "training" and not steps:
                    tracing.enter_context(_tracer(trace))
                if isinstance(event, StepCompleted):
                    steps += 1
                    if steps == TRACED_STEPS * len(trainer.members):
                        with stopwatch("tracing"):
                            tracing.close()
        except StopRequested as asked:
            stopped = asked
        with stopwatch("tracing"):
            tracing.close()
    seconds = time.perf_counter() - begun
    yield TimeSplit(
        sections={name: stopwatch.seconds[name] for name in SECTIONS if name in stopwatch.seconds}, seconds=seconds,
        steps=steps, trace=str(trace) if trace.exists() else None,
    )
    if stopped:
        raise stopped


@contextlib.contextmanager
def _tracer(trace: Path) -> Iterator[None]:
    """Trace the block, in all threads, into a file."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    everywhere = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with torch.profiler.profile(activities=activities, experimental_config=everywhere) as tracer:
        yield
    tracer.export_chrome_trace(str(trace))
