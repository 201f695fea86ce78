"""A trial of a sweep: the runs that it is made of, and how they are trained, pruned and measured."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.errors import SofttuneError
from core.contract.events import Event, RunStopped, TrialCompleted, TrialStarted, ValidationCompleted
from core.contract.runs import RunFolder, create_member
from core.contract.sweep_plan import SweepPlan, changed
from core.failure import failure
from core.folds import Fold, choose_epochs, finish, pooled_loss, score_folds, seats_of
from core.model.loading import LoadedModel
from core.population import MemberLogs, Seat, populations, prepare, train_population


@dataclass
class Trial:
    """A point that is tried: its number, its settings, and the seats that train it, one a fold."""

    number: int
    parameters: dict[str, Any]
    config: Config
    seats: list[Seat] = field(repr=False)
    began: float = field(default_factory=time.perf_counter)
    losses: dict[int, dict[int, float]] = field(default_factory=dict)
    """Held-out losses by epoch and seat."""
    ended: bool = False


class Judge(Protocol):
    """Who hears what trials find."""

    plan: SweepPlan

    def report(self, trial: Trial, epoch: int, loss: float) -> bool:
        """Note the held-out loss after an epoch; whether the trial is to end there."""

    def tell(self, completed: TrialCompleted) -> None:
        """Note what a trial came to."""


def open_trial(config: Config, plan: SweepPlan, folder: RunFolder, number: int, parameters: dict[str, Any]) -> Trial:
    """A trial with its seats; their folders are made where they are not there yet."""
    own = changed(config, plan.settings(parameters))
    name = f"trial-{number:04d}"
    if plan.folds:
        seats = seats_of(own, folder, plan.folds, prefix=f"{name}-", first=number * plan.folds)
    else:
        seats = [Seat(number, create_member(folder, name, own), own)]
    return Trial(number, parameters, own, seats)


def try_trials(
    trials: Sequence[Trial], judge: Judge, loaded: LoadedModel, logs: MemberLogs, control: ControlInbox
) -> Iterator[Event]:
    """Train trials, pruning what falls behind, and measure what is left."""
    owner = {seat.number: trial for trial in trials for seat in trial.seats}
    for trial in trials:
        yield TrialStarted(number=trial.number, parameters=trial.parameters)
        for seat in trial.seats:
            yield from prepare(seat, control)
    for together in populations([seat for trial in trials for seat in trial.seats], loaded):
        try:
            for event in train_population(together, loaded, logs, control):
                yield event
                if isinstance(event, ValidationCompleted) and event.epoch > 0:
                    yield from _heard(owner[event.member], event, judge)
        except SofttuneError as error:  # no member of it can be trained
            for seat in together:
                yield from _end(owner[seat.number], judge, state="failed", reason=error.what)
        for seat in together:
            if owner[seat.number].ended:
                yield from logs.written(seat, RunStopped(step=seat.member.standing.step if seat.member else 0))
    for trial in trials:
        if not trial.ended:
            yield from _measure(trial, judge, loaded, logs, control)


def _heard(trial: Trial, event: ValidationCompleted, judge: Judge) -> Iterator[Event]:
    """Take in a held-out loss, and prune the trial where all its folds together are behind the others."""
    losses = trial.losses.setdefault(event.epoch, {})
    losses[event.member] = event.loss
    if trial.ended or len(losses) < len(trial.seats) or not all(map(math.isfinite, losses.values())):
        return
    loss = pooled_loss([Fold(seat, event.epoch, losses[seat.number]) for seat in trial.seats])
    if judge.report(trial, event.epoch, loss) and event.epoch < trial.config.training.num_epochs:
        for seat in trial.seats:
            seat.trained.pruned = True
        reason = f"after epoch {event.epoch} its held-out loss was above the median of the others"
        yield from _end(trial, judge, state="pruned", heldout_loss=loss, epoch=event.epoch, reason=reason)


def _measure(
    trial: Trial, judge: Judge, loaded: LoadedModel, logs: MemberLogs, control: ControlInbox
) -> Iterator[Event]:
    """The objective of a trial that has trained to its end."""
    failures = [seat.trained.failure for seat in trial.seats if seat.trained.failure]
    try:
        if failures:
            raise failures[0]
        folds = _folds(trial)
        loss, scores, epoch = pooled_loss(folds), None, folds[0].epoch if len(folds) == 1 else None
        if judge.plan.maximize:
            dataset = trial.seats[0].prepared
            target = trial.seats[0].folder.root.parent.parent / "evaluations" / f"trial-{trial.number:04d}"
            scores = yield from score_folds(trial.config, loaded, folds, dataset.selected, target, logs, control)
    except SofttuneError as error:
        for seat in trial.seats:
            yield from logs.written(seat, failure(error, ""))
        yield from _end(trial, judge, state="failed", reason=error.what)
        return
    score = scores.heldout if scores else None
    value = loss if not judge.plan.maximize else score.pass_at_1 if score else None
    for fold in folds:
        yield from logs.of(fold.seat, finish(fold))
    yield from _end(trial, judge, state="complete", value=value, heldout_loss=loss, epoch=epoch, score=score)


def _folds(trial: Trial) -> list[Fold]:
    """The folds of a trial with the epochs that are taken; without cross-validation the one split, at its best."""
    if len(trial.seats) > 1:
        return [Fold(seat, *taken) for seat, taken in zip(trial.seats, choose_epochs(trial.seats), strict=True)]
    (seat,) = trial.seats
    standing = seat.trained.standing
    if standing.best_loss is None or standing.best_epoch is None:
        raise SofttuneError("no validation gave a finite loss", "lower training.learning_rate")
    return [Fold(seat, standing.best_epoch, standing.best_loss)]


def _end(trial: Trial, judge: Judge, **found: Any) -> Iterator[Event]:
    """Note what a trial came to, and tell."""
    if trial.ended:
        return
    trial.ended = True
    completed = TrialCompleted(
        number=trial.number, parameters=trial.parameters, seconds=time.perf_counter() - trial.began,
        config=str(trial.seats[0].folder.config_file), **found,
    )
    judge.tell(completed)
    yield completed
