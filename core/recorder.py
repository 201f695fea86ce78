"""Writes down what a job tells: events.jsonl, the state in run.json, and the readable log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TextIO

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
from core.contract.liveness import identity
from core.contract.record import RunRecord, State
from core.contract.runs import LOGS, RunFolder
from core.contract.wording import describe

STATES: dict[type, State] = {
    RunStarted: "running", RunPaused: "paused", RunResumed: "running", RunStopped: "stopped", RunFinished: "finished",
    RunFailed: "failed",
}


def record(events: Iterator[Event], folder: RunFolder) -> Iterator[Event]:
    """Pass a job's events through, each on disk before it goes on.

    A second ctrl+c ends the job at once; it is written down as a stop all the same.
    """
    log = EventLog(folder.events_file)
    readable = LOGS / f"soft_prompt_training_{time.strftime('%Y%m%d-%H%M%S')}.log"
    LOGS.mkdir(exist_ok=True)
    step = 0
    with contextlib.closing(log), open(readable, "a", encoding="utf-8") as lines:

        def write(event: Event) -> None:
            log.append(event)
            _write_lines(lines, event)
            _update_record(folder, event)

        try:
            for event in events:
                step = getattr(event, "step", step)
                write(event)
                yield event
        except KeyboardInterrupt:
            last = folder.checkpoints / "last.pt"
            write(RunStopped(step=step, checkpoint=str(last) if last.exists() else None))
            raise


def _write_lines(file: TextIO, event: Event) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
    for line in describe(event):
        print(f"{stamp}  {line}", file=file, flush=True)


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
