"""Writes down what a job tells: events.jsonl, the state in run.json, and the readable log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core.contract.control import Command, ControlInbox, StopRequested
from core.contract.event_log import EventLog
from core.contract.events import (
    CheckpointSaved,
    EvaluationCompleted,
    Event,
    RunFailed,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    TrainingPlanned,
    ValidationCompleted,
)
from core.contract.files import LineFile, sweep, sweep_old
from core.contract.liveness import identity
from core.contract.record import RunRecord, State
from core.contract.runs import LOGS, SOFT_PROMPTS, RunFolder
from core.contract.wording import describe
from core.storage import Reserve, until_written

STATES: dict[type, State] = {
    RunStarted: "running", RunPaused: "paused", RunResumed: "running", RunStopped: "stopped", RunFinished: "finished",
    RunFailed: "failed",
}


def record(events: Iterator[Event], folder: RunFolder, control: ControlInbox | None = None) -> Iterator[Event]:
    """Pass a job's events through, each on disk before it goes on.

    Where the disk does not take them the job waits, unless `control` says stop. A second ctrl+c ends the job at once;
    it is written down as a stop all the same.
    """
    step = 0
    with contextlib.closing(Recorder(folder, control or ControlInbox())) as recorder:
        try:
            for event in events:
                step = getattr(event, "step", step)
                yield from recorder.written(event)
                yield event
        except KeyboardInterrupt:
            last = folder.checkpoints / "last.pt"
            recorder.add(RunStopped(step=step, checkpoint=str(last) if last.exists() else None))
            raise


class Recorder:
    """The files that a run's events go to; those of a member have no readable log, its run has one of all."""

    def __init__(self, folder: RunFolder, control: ControlInbox) -> None:
        sweep(folder.root)
        self._folder, self._control = folder, control
        self._readable: LineFile | None = None
        if not folder.is_member:
            LOGS.mkdir(exist_ok=True)
            output = Path(folder.read_config().inference.output_path)
            for place, name in ((SOFT_PROMPTS, "*.pt"), (output.parent, output.name)):
                sweep_old(place, name)
            self._readable = LineFile(LOGS / f"soft_prompt_training_{time.strftime('%Y%m%d-%H%M%S')}.log")
        self._log = EventLog(folder.events_file)
        self._left: list[Callable[[], None]] = []
        """What is still to be written, in order, each whole or not at all."""
        self._ended = False
        """Whether the log has the job's last event."""
        self._reserve = Reserve(folder.reserve_file)
        with contextlib.suppress(OSError):  # the first event will tell
            self._reserve.take()

    def close(self) -> None:
        """Try once more to write what is left, and make everything durable."""
        self._reserve.give_up()
        with contextlib.suppress(OSError):
            self._write_left()
        self._log.close()
        if self._readable:
            self._readable.close()
        sweep(self._folder.root)

    def add(self, event: Event) -> None:
        """Let an event be written with the next one, or at the end."""
        self._left += self._writes(event)

    def written(self, event: Event) -> Iterator[Event]:
        """Write an event down; what is yielded tells of waiting for a disk, which nobody does who wants to stop."""
        self.add(event)
        if self._control.state == Command.STOP:
            with contextlib.suppress(OSError):
                self._write_left()
            return
        waited = False

        def write() -> None:
            if waited and not self._ended:
                self._reserve.take()
            self._write_left()

        with contextlib.suppress(StopRequested):  # the job will hear of the stop by itself
            for said in until_written(write, self._control):
                waited = True
                if not isinstance(said, RunResumed):
                    self._reserve.give_up()
                over = isinstance(said, RunResumed) and isinstance(event, RunPaused)  # another pause has begun
                if not self._ended and not over:  # nothing comes after the end
                    self._try_to_write(said)
                yield said

    def _write_left(self) -> None:
        while self._left:
            self._left[0]()
            del self._left[0]

    def _try_to_write(self, event: Event) -> None:
        """Write an event down now, before what is left, if the disk takes it."""
        for write in self._writes(event):
            with contextlib.suppress(OSError):
                write()

    def _tell_readers(self, lines: str) -> None:
        """Add to the readable log, where it can be: everything in it is in the events too."""
        with contextlib.suppress(OSError):
            if self._readable:
                self._readable.append(lines.encode())

    def _writes(self, event: Event) -> list[Callable[[], None]]:
        """What an event has to have written, each whole or not at all."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
        lines = "".join(f"{stamp}  {line}\n" for line in describe(event))

        def append() -> None:
            self._log.append(event)
            self._ended = isinstance(event, RunFinished | RunStopped | RunFailed)

        return [
            append,
            *([lambda: self._tell_readers(lines)] if lines else []),
            # A run whose record says that it is over is never taken up again, so nothing may be left behind by then.
            *([self._reserve.give_up] if isinstance(event, RunFinished | RunStopped | RunFailed) else []),
            lambda: _update_record(self._folder, event),
        ]


def _update_record(folder: RunFolder, event: Event) -> None:
    """Keep run.json in step with the events that change what a list of runs shows."""
    changes = _changes(event)
    if changes:
        record = folder.read_record()
        folder.write_record(RunRecord.model_validate({**record.model_dump(), **changes}))


def _changes(event: Event) -> dict[str, object]:
    changes: dict[str, object] = {}
    if type(event) in STATES:
        changes["state"] = STATES[type(event)]
    match event:
        case RunStarted():
            changes |= identity() | {"ended": None, "error": ""}
        case RunFinished():
            changes["ended"] = event.time
        case RunStopped():
            changes |= {"ended": event.time, "step": event.step}
        case RunFailed():
            changes |= {"ended": event.time, "error": event.what}
        case TrainingPlanned():
            changes["total_steps"] = event.total_steps
        case CheckpointSaved():
            changes["step"] = event.step
        case ValidationCompleted() if event.is_best:
            changes |= {"heldout_loss": event.loss, "step": event.step}
        case EvaluationCompleted():
            scores = {"all": event.overall, "train": event.train, "heldout": event.heldout}
            changes["pass_at_1"] = {name: score.pass_at_1 for name, score in scores.items()}
    return changes
