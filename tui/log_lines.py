"""Events as readable log lines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from core.contract import events as ev
from core.contract.events import Event
from core.contract.wording import describe, samples_each, schedule_text
from tui.formatting import counted, duration, figure, rate, small_percent
from tui.visible import visible_line

Kind = Literal["plain", "good", "warning", "bad"]

GLYPHS: dict[Kind, str] = {"plain": "·", "good": "✓", "warning": "!", "bad": "✗"}
"""A sign for each kind, so that colour is never alone."""


GOES_ON_BY_ITSELF = "make room, or mend it: it goes on by itself"
"""What to do about a run that waits for something."""


@dataclass(frozen=True)
class LogLine:
    """One line of the log: when, of what kind, what, and what to do about it."""

    time: float
    kind: Kind
    text: str
    remedy: str = ""


def log_line(event: Event) -> LogLine | None:
    """The line for an event; None for one that the plots and bars show."""
    words = _WORDS.get(type(event))
    if words is None:
        return None
    said: tuple[Kind, str, str] | None = words(event)
    if said is None:
        return None
    kind, text, remedy = said
    name = getattr(event, "name", "")
    return LogLine(event.time, kind, visible_line(f"{name}: {text}" if name else text), visible_line(remedy))


Said = tuple[Kind, str, str] | None


def _run_started(event: ev.RunStarted) -> Said:
    again = f", going on from step {event.resumed_from_step}" if event.resumed_from_step else ""
    return "plain", f"run {event.run_id} started with {event.model}{again}", ""


def _model_loaded(event: ev.ModelLoaded) -> Said:
    total = event.frozen_parameters
    ratio = small_percent(event.trainable_parameters / total) if total else "–"
    return (
        "plain",
        f"model loaded in {event.seconds:.1f} s on {event.device_name} ({event.device}, {event.dtype}); "
        f"{event.num_virtual_tokens} virtual tokens × {event.embedding_dim}, {event.trainable_parameters:,} trainable "
        f"parameters, {total:,} frozen ({ratio})",
        "",
    )


def _planned(event: ev.TrainingPlanned) -> Said:
    return (
        "plain",
        f"{event.train_problems} training and {event.heldout_problems} held-out problems; "
        f"{counted(event.total_steps, 'steps')} in {counted(event.num_epochs, 'epochs')}, effective batch "
        f"{event.effective_batch}, learning rate {rate(event.learning_rate)} after "
        f"{counted(event.warmup_steps, 'warm-up steps')}, then {schedule_text(event.schedule)}",
        "",
    )


def _step(event: ev.StepCompleted) -> Said:
    if math.isfinite(event.loss) or event.skipped:
        return None  # a notice tells of a step that was skipped
    return ("warning", f"step {event.step}: the loss is {figure(event.loss)}",
            "lower training.learning_rate, or raise training.warmup_steps")


def _epoch(event: ev.EpochCompleted) -> Said:
    return ("plain", f"epoch {event.epoch}/{event.num_epochs}: training loss {figure(event.train_loss)} "
                     f"in {duration(event.seconds)}", "")


def _validated(event: ev.ValidationCompleted) -> Said:
    measured = f"held-out loss {figure(event.loss)}, perplexity {figure(event.perplexity, 2)}"
    if event.epoch == 0:
        return "plain", f"untrained prompt: {measured}", ""
    if not event.is_best:
        return "plain", f"epoch {event.epoch}: {measured}", ""
    was = f" (was {figure(event.previous_best)})" if event.previous_best is not None else ""
    return "good", f"epoch {event.epoch}: {measured}, the best so far{was}", ""


def _time_split(event: ev.TimeSplit) -> Said:
    parts = sorted(event.sections.items(), key=lambda part: -part[1])[:3]
    shares = ", ".join(f"{name} {seconds / event.seconds:.0%}" for name, seconds in parts if event.seconds > 0)
    return "plain", f"{duration(event.seconds)} of training: {shares}", f"trace in {event.trace}" if event.trace else ""


def _saved(event: ev.CheckpointSaved) -> Said:
    if not event.is_best:
        return None  # one an epoch, and as the run goes on: what is worth a line is a better one
    return "good", f"new best checkpoint saved to {event.published[0] if event.published else event.path}", ""


def _notice(event: ev.Notice) -> Said:
    about = f"{event.setting}: " if event.setting else ""
    return "warning" if event.level == "warning" else "plain", about + event.what, event.remedy


def _scored(event: ev.EvaluationCompleted) -> Said:
    train, heldout, each = event.train, event.heldout, samples_each([event.overall])
    meaning = f" with at least one of {each} samples" if each else ""
    return ("good", f"{event.checkpoint}: {event.overall.passed} of {event.overall.total} problems pass{meaning}; "
                    f"training {train.passed} of {train.total}, held-out {heldout.passed} of {heldout.total}", "")


def _baseline(event: ev.BaselineCompleted) -> Said:
    score = event.evaluation.overall
    return "plain", f"the model alone: {score.passed} of {score.total} problems pass", ""


def _cross_validated(event: ev.CrossValidated) -> Said:
    score = event.score
    passed = f"; {score.passed} of {score.total} problems pass, each with the fold that held it out" if score else ""
    return "good", f"{len(event.folds)} folds: held-out loss {figure(event.heldout_loss)}{passed}", ""


def _sweep_planned(event: ev.SweepPlanned) -> Said:
    return "plain", describe(event)[0], ""


def _trial(event: ev.TrialCompleted) -> Said:
    kind: Kind = "good" if event.state == "complete" else "warning" if event.state == "failed" else "plain"
    return kind, describe(event)[0], ""


def _stopped(event: ev.RunStopped) -> Said:
    if not event.checkpoint:
        return "warning", f"stopped at step {event.step}", ""
    run_id = PurePath(event.checkpoint).parent.parent.name or "last"  # RUN/checkpoints/last.pt
    return "warning", f"stopped at step {event.step}", f"softtune train --resume {run_id} goes on"


def _finished(event: ev.RunFinished) -> Said:
    best = ""
    if event.best_heldout_loss is not None:
        of = f" (epoch {event.best_epoch})" if event.best_epoch is not None else ""
        best = f"; best held-out loss {figure(event.best_heldout_loss)}{of}"
    where = event.published[0] if event.published else event.best_checkpoint
    return "good", f"finished in {duration(event.seconds)}{best}" + (f"; soft prompt in {where}" if where else ""), ""


def _paused(event: ev.RunPaused) -> Said:
    return ("warning", f"waiting: {event.reason}", GOES_ON_BY_ITSELF) if event.reason else ("plain", "paused", "")


def _failed(event: ev.RunFailed) -> Said:
    return "bad", event.what + (f": {event.why}" if event.why else ""), event.remedy


_WORDS: dict[type[Any], Callable[[Any], Said]] = {
    ev.RunStarted: _run_started, ev.ModelLoaded: _model_loaded, ev.TrainingPlanned: _planned, ev.StepCompleted: _step,
    ev.EpochCompleted: _epoch, ev.ValidationCompleted: _validated, ev.CheckpointSaved: _saved, ev.Notice: _notice,
    ev.TimeSplit: _time_split, ev.EvaluationCompleted: _scored, ev.BaselineCompleted: _baseline,
    ev.CrossValidated: _cross_validated, ev.SweepPlanned: _sweep_planned, ev.TrialCompleted: _trial,
    ev.RunStopped: _stopped, ev.RunFinished: _finished, ev.RunFailed: _failed,
    ev.RunPaused: _paused, ev.RunResumed: lambda event: ("plain", "going on", ""),
}
