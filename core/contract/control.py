"""Commands from a front end to a running engine: lines of control.jsonl, read between micro-batches."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from core.contract.events import Event, RunPaused, RunResumed

PAUSE_POLL_SECONDS = 0.1


class Command(StrEnum):
    """What a front end may ask of a running job."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


def send(control_file: Path, command: Command) -> None:
    """Append one command; the engine obeys within one micro-batch."""
    with open(control_file, "a", encoding="utf-8") as file:
        file.write(json.dumps({"time": time.time(), "command": command.value}) + "\n")


class ControlInbox:
    """The engine's end: `state` is what was last asked for.

    Args:
        control_file: lines to follow; None for a job that only signals control (`request`).
    """

    def __init__(self, control_file: Path | None = None) -> None:
        self._file = control_file
        # Commands from before this engine started were meant for an earlier one.
        self._offset = control_file.stat().st_size if control_file and control_file.exists() else 0
        self._state = Command.RESUME
        self._interruptible = False

    def request(self, command: Command) -> None:
        """Ask from inside the process (a signal handler). A stop is never taken back."""
        if self._state != Command.STOP:
            self._state = command

    def interrupt(self) -> None:
        """Ask for a stop from a signal handler; inside an `interruptible` block that ends the block at once."""
        self.request(Command.STOP)
        if self._interruptible:
            raise KeyboardInterrupt  # no Exception: nothing on the way takes it for a failure of its own

    @property
    def may_be_left(self) -> bool:
        """Whether an `interruptible` block goes on."""
        return self._interruptible

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that may be left at any point, for a long call that asks nobody: importing torch, loading a model.

        Raises:
            StopRequested: `interrupt` was called, before the block or within it.
        """
        self._interruptible = True
        try:
            if self._state == Command.STOP:
                raise StopRequested
            yield
        except KeyboardInterrupt:
            raise StopRequested from None
        finally:
            self._interruptible = False

    @property
    def state(self) -> Command:
        """PAUSE, RESUME (meaning: run) or STOP, after reading what has arrived."""
        for command in self._arrived():
            self.request(command)
        return self._state

    def _arrived(self) -> list[Command]:
        if self._file is None:
            return []
        try:
            with open(self._file, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0  # another file, of the same name
                file.seek(self._offset)
                data = file.read()
        except OSError:  # not there yet, or not for the moment: nobody asks for anything
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        commands = []
        for line in whole.splitlines():
            try:
                commands.append(Command(json.loads(line)["command"]))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # a line of a newer front end, or not ours: nothing this engine can obey
        return commands


class StopRequested(Exception):
    """Raised inside a job that was asked to stop; the job saves what it has and ends with RunStopped."""


def heed(inbox: ControlInbox) -> Iterator[Event]:
    """Obey what has been asked: wait out a pause (with its two events), raise StopRequested for a stop."""
    state = inbox.state
    if state == Command.PAUSE:
        yield RunPaused()
        while (state := inbox.state) == Command.PAUSE:
            time.sleep(PAUSE_POLL_SECONDS)
        if state == Command.RESUME:
            yield RunResumed()
    if state == Command.STOP:
        raise StopRequested
