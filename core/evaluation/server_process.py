"""The engine's end of one sandbox server: start it, hand it programs, and be certain that it ends."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Task:
    """A program to execute, and why."""

    program: Program
    timeout: float
    """Seconds."""
    last_try: bool = False
    """It already cost a server."""
    alone: bool = False
    """It was starved while others ran; nothing runs beside it now."""
    measures: str = ""
    """The canonical solution that it executes, to learn how long it takes; "" for a candidate."""


class ServerProcess:
    """One server, which executes one program at a time.

    Args:
        level: the isolation to start it with; its first message says whether the machine grants that.
    """

    def __init__(self, level: Isolation) -> None:
        self.level = level
        self.ready = False
        self.task: Task | None = None
        self._since = time.monotonic()
        self._limit = _START_SECONDS
        self._folder = tempfile.mkdtemp(prefix="softtune-") if level != "namespaces" else ""
        self.connection, theirs = socket.socketpair()
        self._tests, their_tests = socket.socketpair()
        for end in (self.connection, self._tests):
            end.settimeout(_GRACE)
        # -P -s, and an environment of ours, is all that -I does, but -I would ignore the hash seed.
        command = [sys.executable, "-P", "-s", "-X", "utf8", str(_SERVER), level, self._folder,
                   str(their_tests.fileno())]
        with theirs, their_tests:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                env=_ENVIRONMENT, start_new_session=True, pass_fds=(their_tests.fileno(),),
            )

    def submit(self, task: Task, memory_bytes: int) -> None:
        """Hand over a program.

        Raises:
            OSError: this server is gone.
            ValueError: the program is larger than a message may be; nothing was handed over.
        """
        program = task.program
        source = program.source.encode("utf-8", "surrogatepass")
        if len(source) > wire.LARGEST:
            raise ValueError(f"a program of {len(source)} bytes")
        job = wire.pack({"source_bytes": len(source), "entry_point": program.entry_point,
                         "timeout": task.timeout, "memory_bytes": memory_bytes})
        tests = wire.pack({"tests": program.tests, "call": program.call, "entry_point": program.entry_point,
                           "prompt": program.prompt, "line": program.line})
        self.task = task
        self._since = time.monotonic()
        self._limit = LOADED_MACHINE * task.timeout + _GRACE
        self.connection.sendall(job + source)
        self._tests.sendall(tests)

    def receive(self) -> dict[str, Any] | None:
        """The message that has arrived; None when the server is gone or talks nonsense."""
        try:
            message = wire.receive(self.connection)
            for name, length in (message or {}).get("kept", {}).items():
                message[name] = (wire.read(self.connection, length) or b"").decode("utf-8", "backslashreplace")
            return message
        except (OSError, ValueError):
            return None

    @property
    def seconds(self) -> float:
        """Since it was started, or since its program was handed over."""
        return time.monotonic() - self._since

    @property
    def stuck(self) -> bool:
        """Whether it has been silent for longer than can be."""
        return (self.task is not None or not self.ready) and self.seconds > self._limit

    def hang_up(self) -> None:
        """Ask it to end: it kills what it runs, then goes."""
        self.connection.close()
        self._tests.close()

    def wait(self, seconds: float) -> int:
        """Wait until it is gone, by force after `seconds`; its exit status."""
        self.hang_up()
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
