"""The UI's end of an engine: start one, attach to one, read its events, send it commands, notice its death.

The engine is a process of its own (`python -m core train`), in a session of its own, so that closing the terminal does
not reach it. Everything between the two goes through the run folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.contract.config import Config
from core.contract.control import Command, send
from core.contract.errors import SofttuneError
from core.contract.event_log import EventTail
from core.contract.events import Event
from core.contract.liveness import locked, oom_kills
from core.contract.record import ACTIVE, RunRecord, State
from core.contract.runs import RUNS, RunFolder, RunSummary, create_run, list_runs, summarize
from tui import deaths
from tui.visible import visible

EngineCommand = Callable[[RunFolder], list[str]]
"""Gives the command line that runs a queued run; a test gives another one."""

PART = 4_000_000
"""Bytes of events taken in at once: a long log shows up in parts instead of after a wait."""

ENGINE_NICENESS = 5
"""Where both want the same core, a key goes before a matrix product; an engine that is alone loses nothing."""

LOG_TAIL_LINES = 4
_LOG_TAIL_BYTES = 16_384


def engine_command(folder: RunFolder) -> list[str]:
    """The real engine. `-P` keeps a folder named `core` in the user's directory from being imported instead."""
    return [sys.executable, "-P", "-m", "core", "train", "--queued", folder.run_id]


def resume_command(folder: RunFolder) -> list[str]:
    """The real engine, going on with a run that was stopped or has died."""
    return [sys.executable, "-P", "-m", "core", "train", "--detached", "--resume", folder.run_id]


@dataclass(frozen=True)
class Condition:
    """What the machine knows of a run's process, beyond what its events say."""

    state: State
    reason: str = ""
    pid: int | None = None
    """The engine's process, where it is at work on this machine."""
    engine: int | None = None
    """The process that has taken the run up last, or is about to, wherever that is or was."""

    @property
    def active(self) -> bool:
        """Whether an engine is at it, or about to be."""
        return self.state in ACTIVE


Taker = tuple[int | None, float | None]
"""The process that has taken a run up last, as run.json tells: its pid and its start time."""


class RunLink:
    """One run that the UI follows.

    Args:
        folder: the run.
        process: the engine, where this UI started it; kept so that it can be reaped.
        before: who had the run when that engine was started.
    """

    def __init__(
        self, folder: RunFolder, process: subprocess.Popen[bytes] | None = None, before: Taker = (None, None)
    ) -> None:
        self.folder = folder
        self._tail = EventTail(Path(folder.events_file))
        self._process = process
        self._before = before
        self._oom_kills = oom_kills() if process else None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.folder.run_id

    @property
    def unreadable(self) -> int:
        """Event lines so far that were no events: torn, foreign, or of a newer version."""
        return self._tail.skipped + self._tail.unknown

    @property
    def behind(self) -> bool:
        """Whether the last `read` left something for the next one."""
        return self._tail.behind

    def read(self) -> list[Event]:
        """New events, oldest first.

        Raises:
            SofttuneError: the events file is there and cannot be read.
        """
        try:
            return self._tail.read(PART)
        except OSError as error:
            raise SofttuneError(
                f"{self.folder.events_file} cannot be read: {error.strerror}", "check the permissions of the run folder"
            ) from None

    def condition(self) -> Condition:
        """Whether an engine lives, whoever started it. Reaps one that this UI started and that has ended.

        Where that one died without a word it is written down in run.json, so that everybody knows what of.
        """
        process = self._process
        status = process.poll() if process else None  # before its last words are read
        summary = summarize(self.folder)
        taker = _taker(summary.record)
        taken_up = taker != self._before
        if process is None or summary.record is None or _is_anothers(summary, process.pid):
            return _judged(summary)  # an engine that was refused the run leaves it to the one that has it
        if status is None:
            waits = not taken_up and summary.state not in ACTIVE
            return Condition("queued", engine=process.pid) if waits else _judged(summary)
        unsaid = taker[0] == process.pid and summary.record is not None and summary.record.state in ACTIVE
        return self._died(status, taker, process.pid) if unsaid or not taken_up else _judged(summary)

    def _died(self, status: int, taker: Taker, pid: int) -> Condition:
        """Write down that the engine died, unless another one has the run by now."""
        when = " before it took the run up" if taker == self._before else ""
        reason = deaths.of_status(status, deaths.killed_since(self._oom_kills), when)
        with (contextlib.suppress(SofttuneError, OSError, ValueError),  # it is known here all the same
              locked(Path(self.folder.lock_file), "another engine has it", "")):
            record = self.folder.read_record()
            if _taker(record) == taker:
                told = {"state": "crashed", "error": reason, "ended": time.time(), "pid": pid}
                self.folder.write_record(record.model_copy(update=told))
        now = summarize(self.folder)
        return _judged(now) if _is_anothers(now, pid) else Condition("crashed", reason, engine=pid)

    @property
    def own(self) -> bool:
        """Whether an engine that this UI started is alive."""
        return self._process is not None and self._process.poll() is None

    def settled(self) -> bool:
        """Whether the engine that this UI started has taken the run up, or has ended."""
        return not self.own or _taker(summarize(self.folder).record) != self._before

    def send(self, command: Command) -> None:
        """Ask the engine to pause, resume or stop; to stop, by a signal where the control file cannot be written.

        Raises:
            SofttuneError: it cannot be asked.
        """
        try:
            send(Path(self.folder.control_file), command)
        except OSError as error:
            pid = self.condition().pid  # known to be the engine's by its start time
            if command == Command.STOP and pid is not None:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)
                    return
            raise SofttuneError(
                f"{self.folder.control_file} cannot be written: {error.strerror}",
                "check the folder's permissions and the free space (df -h)",
            ) from None

    def last_words(self) -> str:
        """The end of engine.log, made safe to show; "" where there is none."""
        try:
            with open(self.folder.engine_log, "rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _LOG_TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
        return visible("\n".join(lines[-LOG_TAIL_LINES:]))


def start(config: Config, name: str, runs: Path = RUNS, command: EngineCommand = engine_command) -> RunLink:
    """Make a run folder and start its engine, detached, in the current folder.

    Raises:
        SofttuneError: the folder cannot be made or the engine cannot be started.
    """
    folder = create_run(config, name, runs)
    return RunLink(folder, _spawn(folder, command))


def resume(folder: RunFolder, command: EngineCommand = resume_command) -> RunLink:
    """Start an engine, detached, that goes on with a run from its last checkpoint, or begins it again without one.

    Raises:
        SofttuneError: the engine cannot be started.
    """
    before = _taker(summarize(folder).record)
    return RunLink(folder, _spawn(folder, command), before)


def _spawn(folder: RunFolder, command: EngineCommand) -> subprocess.Popen[bytes]:
    try:
        with open(folder.engine_log, "ab") as log:
            process = subprocess.Popen(
                command(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                close_fds=True,
            )
            with contextlib.suppress(OSError):  # it has ended already
                os.setpriority(os.PRIO_PROCESS, process.pid, ENGINE_NICENESS)
            return process
    except OSError as error:
        raise SofttuneError(f"the engine cannot be started: {error}", "`softtune train` may show more") from None


def _taker(record: RunRecord | None) -> Taker:
    return (record.pid, record.pid_started) if record else (None, None)


def _is_anothers(summary: RunSummary, pid: int) -> bool:
    """Whether another engine than this one is at work on the run."""
    return summary.state in ACTIVE and _taker(summary.record)[0] not in (None, pid)


def _judged(summary: RunSummary) -> Condition:
    """What the files say, as everybody reads them."""
    record = summary.record
    if record is None:
        return Condition(summary.state, summary.reason)
    unsaid = summary.state == "crashed" and record.state in ACTIVE
    reason = deaths.of_record(summary.reason, record) if unsaid else summary.reason
    local = summary.state in ACTIVE and record.host == socket.gethostname()
    return Condition(summary.state, reason, record.pid if local else None, record.pid)


def active_run(runs: Path = RUNS) -> RunSummary | None:
    """The newest run that an engine is at; None where there is none."""
    return next((summary for summary in list_runs(runs) if summary.state in ACTIVE), None)


def newest_run(runs: Path = RUNS) -> RunSummary | None:
    """The newest run that can be read; one that was imported only where nothing was trained here."""
    readable = [summary for summary in list_runs(runs) if summary.record is not None]
    trained = [summary for summary in readable if summary.record and summary.record.kind != "import"]
    return next(iter(trained or readable), None)


def damaged_runs(runs: Path = RUNS) -> list[RunSummary]:
    """The runs that cannot be read, newest first; none where the folder of runs cannot be read either."""
    try:
        return [summary for summary in list_runs(runs) if summary.state == "damaged"]
    except SofttuneError:
        return []  # the app tells that one itself
