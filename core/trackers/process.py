"""The engine's end of the process that has a tracker's package: a thread writes to it, so that the engine never waits.

A package may hang, raise, print, and leave hooks that keep its process from ending: a process can be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import Any

MOST_WAITING = 10_000
"""Messages that may wait: minutes of a fast run, some megabytes."""
LAST_WORDS_SECONDS = 0.5
"""For what the process has printed to come through, where a service of its own still holds its stderr."""


class TrackerProcess:
    """`python -m core.trackers NAME`, started with the first message and given up at the first `fault`."""

    def __init__(self, name: str) -> None:
        self.fault = ""
        self._command = [sys.executable, "-P", "-m", "core.trackers", name]
        self._messages: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def send(self, *message: Any) -> None:
        """Have a message written after those before it."""
        self._put(json.dumps(message) + "\n")

    def finish(self, seconds: float) -> None:
        """Wait until everything is taken and the process has ended, for this long at most; then it is killed."""
        if self._thread is None:
            return
        self._put(None)
        if not self.fault:
            self._thread.join(seconds)
            if self._thread.is_alive():
                self._give_up(f"it was not done {seconds:g} s after the run was")

    def _give_up(self, why: str) -> None:
        self.fault = self.fault or why
        if self._process:  # else the thread, which is about to start it, sees the fault
            _kill(self._process)

    def _put(self, line: str | None) -> None:
        if self.fault:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="tracker", daemon=True)
            self._thread.start()
        try:
            self._messages.put_nowait(line)
        except queue.Full:
            self._give_up(f"it does not keep up: {MOST_WAITING:,} messages wait")

    def _write(self) -> None:
        try:
            ours, theirs = os.pipe()
            copying = threading.Thread(target=_copy_to_stderr, args=[ours], name="tracker's stderr", daemon=True)
            copying.start()
            try:
                # A session of its own: ctrl+c in the terminal is the engine's to hear.
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, encoding="utf-8",
                    errors="replace", start_new_session=True,
                )
            finally:
                os.close(theirs)
            with self._process:
                assert self._process.stdin and self._process.stdout
                with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
                    while not self.fault and (line := self._messages.get()) is not None:
                        pipe.write(line)
                        pipe.flush()
                if self.fault:
                    _kill(self._process)
                said = self._process.stdout.read().strip()
                status = self._process.wait()
            copying.join(LAST_WORDS_SECONDS)
            if status:
                self.fault = self.fault or said or f"its process ended with status {status}"
        except OSError as error:
            self.fault = f"its process cannot be started: {error.strerror}"


def _kill(process: subprocess.Popen[str]) -> None:
    """End it, and what it has started in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _copy_to_stderr(pipe: int) -> None:
    """Pass on what comes, until nobody holds the other end.

    A package's own service may outlive its process, even in another session. It holds this pipe then, not the engine's
    stderr, whose reader would wait for it.
    """
    with open(pipe, "rb", buffering=0) as file:
        while said := file.read(1 << 16):
            with contextlib.suppress(OSError):
                os.write(2, said)
