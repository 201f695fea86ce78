"""What is known of a sweep: one frozen snapshot, built from its events by a pure function."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from core.contract import events as ev
from core.contract.events import Event
from core.contract.sweep_plan import place

State = Literal["complete", "running", "pruned", "failed", "cut short"]

@dataclass(frozen=True)
class Trial:
    """A point of a sweep, and what it came to so far."""

    number: int
    parameters: Mapping[str, Any]
    state: State = "running"
    value: float | None = None
    """The objective, once it was measured."""
    heldout_loss: float | None = None
    """The best one; of a running trial the best so far, of a pruned one that of its last epoch."""
    epoch: int | None = None
    score: ev.Score | None = None
    seconds: float | None = None
    reason: str = ""
    """Why it was pruned or failed."""
    rank: int | None = None
    """From 1, among those that are complete."""

    @property
    def key(self) -> str:
        """What tells it from every other."""
        return str(self.number)


@dataclass(frozen=True)
class SweepView:
    """A sweep as its events tell it."""

    planned: ev.SweepPlanned | None = None
    trials: Mapping[int, Trial] = field(default_factory=lambda: MappingProxyType({}))
    """By number: a sweep that goes on tells again what it knows."""

    @property
    def maximize(self) -> bool:
        """Whether more of the objective is better."""
        return self.planned is not None and self.planned.objective == "heldout_pass_at_1"

    def member(self, number: int) -> str:
        """The name of a trial's run, in a cross-validation of its first one."""
        folds = self.planned.folds if self.planned else None
        return f"trial-{number:04d}" + ("-fold-01" if folds else "")


def advance(view: SweepView, events: Iterable[Event]) -> SweepView:
    """The view after some more events; the old one is left as it is, and is given back where they change nothing."""
    planned, trials = view.planned, dict(view.trials)
    for event in events:
        if isinstance(event, ev.SweepPlanned):
            planned = event
        elif isinstance(event, ev.TrialStarted):
            trials[event.number] = Trial(event.number, event.parameters)
        elif isinstance(event, ev.TrialCompleted):
            trials[event.number] = Trial(
                event.number, event.parameters, event.state, event.value, event.heldout_loss, event.epoch, event.score,
                event.seconds, event.reason)
        elif isinstance(event, ev.ValidationCompleted) and event.epoch > 0 and not (planned and planned.folds):
            trial = trials.get(event.member)
            if trial is not None and trial.state == "running" and _better(event.loss, trial.heldout_loss):
                trials[event.member] = replace(trial, heldout_loss=event.loss, epoch=event.epoch)
    if planned == view.planned and trials == view.trials:
        return view
    return SweepView(planned, MappingProxyType(trials))


def _better(loss: float, known: float | None) -> bool:
    return math.isfinite(loss) and (known is None or loss < known)


def ranked(view: SweepView, active: bool) -> list[Trial]:
    """The trials, best first: complete ones with their rank, running ones, pruned ones, failed ones.

    Args:
        view: the sweep.
        active: whether an engine is at it; of one that has ended, what runs was cut short.
    """
    trials = [trial if active or trial.state != "running" else replace(trial, state="cut short")
              for trial in view.trials.values()]
    trials.sort(key=lambda one: place(one.state, one.value, one.heldout_loss, one.number, view.maximize))
    return [replace(trial, rank=at) if trial.state == "complete" else trial for at, trial in enumerate(trials, start=1)]


def parameters(view: SweepView) -> list[str]:
    """What is varied: as planned, then what trials have besides."""
    names = list(view.planned.parameters) if view.planned else []
    return list(dict.fromkeys([*names, *(name for trial in view.trials.values() for name in trial.parameters)]))


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Settings by their key alone, where no two sections share it: "learning_rate"."""
    keys = [(name, name.rpartition(".")[2]) for name in names]
    often = [key for _, key in keys]
    return {name: key if often.count(key) == 1 else name for name, key in keys}
