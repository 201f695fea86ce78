"""The engine's end of one sandbox server: start it, hand it programs, and be certain that it ends."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from core.evaluation.server import wire
from core.evaluation.server.processes import LOADED_MACHINE, remove_tree
from core.evaluation.verdicts import Isolation, Program

_SERVER = Path(__file__).with_name("server")
_START_SECONDS = 60.0
_GRACE = 10.0
"""Seconds beyond a program's own limit after which its server counts as stuck."""
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # one order of sets: a verdict that depends on it is the same every time
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class ServerProcess:
    """One server, which executes one program at a time.

    Args:
        level: the isolation to start it with; its first message says whether the machine grants that.
    """

    def __init__(self, level: Isolation) -> None:
        self.level = level
        self.ready = False
        self.program: Program | None = None
        self.last_try = False
        self._since = time.monotonic()
        self._limit = _START_SECONDS
        self._folder = tempfile.mkdtemp(prefix="softtune-") if level == "process" else ""
        self.connection, theirs = socket.socketpair()
        self.connection.settimeout(_GRACE)
        # -P -s, and an environment of ours, is all that -I does, but -I would ignore the hash seed. -B: no bytecode.
        command = [sys.executable, "-P", "-s", "-B", "-X", "utf8", str(_SERVER), level, self._folder]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                env=_ENVIRONMENT, start_new_session=True,
            )

    def submit(self, program: Program, timeout: float, memory_bytes: int, last_try: bool) -> None:
        """Hand over a program, `last_try` when it already cost a server; raises OSError when this one is gone."""
        self.program = program
        self.last_try = last_try
        self._since = time.monotonic()
        self._limit = LOADED_MACHINE * timeout + _GRACE
        job = {"source": program.source, "call": program.call, "timeout": timeout, "memory_bytes": memory_bytes}
        wire.send(self.connection, job)

    def receive(self) -> dict[str, Any] | None:
        """The message that has arrived; None when the server is gone or talks nonsense."""
        try:
            return wire.receive(self.connection)
        except (OSError, ValueError):
            return None

    @property
    def seconds(self) -> float:
        """Since it was started, or since its program was handed over."""
        return time.monotonic() - self._since

    @property
    def stuck(self) -> bool:
        """Whether it has been silent for longer than can be."""
        return (self.program is not None or not self.ready) and self.seconds > self._limit

    def hang_up(self) -> None:
        """Ask it to end: it kills what it runs, then goes."""
        self.connection.close()

    def wait(self, seconds: float) -> int:
        """Wait until it is gone, by force after `seconds`; its exit status."""
        self.connection.close()
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = self._kill()
        if self._folder:
            with contextlib.suppress(OSError):  # what a server that was killed could not remove
                remove_tree(self._folder)
        return status

    def _kill(self) -> int:
        with contextlib.suppress(psutil.NoSuchProcess):
            tree = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        return self._process.wait()
