"""Shows a run in the tracker that its settings name. Whatever becomes of the tracker, the run goes on.

A tracker is sent messages (`__main__` has their forms): what runs to begin, figures of an event, a run's end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from core.contract.config import Config
from core.contract.event_log import EventTail
from core.contract.events import (
    CrossValidated,
    Event,
    MemberEvent,
    Notice,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    StepCompleted,
    TrialCompleted,
    ValidationCompleted,
)
from core.contract.runs import RunFolder
from core.trackers.figures import fold_summary, scalars, summary, trial_summary
from core.trackers.process import TrackerProcess
from core.trackers.tracker import CLOSING_SECONDS, Figure, Outcome, package

OUTCOMES: dict[type, Outcome] = {RunFinished: "finished", RunStopped: "stopped", RunFailed: "failed"}
TRIAL_OUTCOMES: dict[Literal["complete", "pruned", "failed"], Outcome] = {
    "complete": "finished", "pruned": "stopped", "failed": "failed",
}
LEAVING_SECONDS = 1.0
"""What a tracker has where the process was told to end at once."""


def tracked(events: Iterator[Event], config: Config, folder: RunFolder) -> Iterator[Event]:
    """Pass a run's events on, and show them in the tracker of `logging.tracker`.

    Where that fails, or takes too long, one Notice says so and the run is shown no more. The run's last event comes
    after the tracker is done, so that the Notice is in time.
    """
    if config.logging.tracker == "none":
        yield from events
        return
    with contextlib.closing(Tracking(config, folder)) as tracking:
        for event in events:
            outcome = OUTCOMES.get(type(event))
            if outcome is None:
                yield event
            tracking.tell(event)
            if outcome is not None:
                tracking.end(outcome)
            yield from tracking.faults()
            if outcome is not None:
                yield event


class Tracking:
    """A run in a tracker, and its members as runs of their own."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self._name, self._folder = config.logging.tracker, folder
        self._package = package(self._name)
        self._grouped = folder.read_record().kind != "training"
        self._told = _told_before(folder)
        self._process = TrackerProcess(self._name)
        self._known: set[str] = set()
        """Runs that were begun in the tracker, by the names of members; "" for the run itself."""
        self._over: set[str] = set()
        """Those of them that have ended."""
        self._steps: dict[str, int] = {}
        self._complained = False

    def tell(self, event: Event) -> None:
        """Show what an event says."""
        if isinstance(event, RunStarted):
            self._steps[""] = event.resumed_from_step
            self._begin("", event.resumed_from_step + 1)
        member = event.name if isinstance(event, MemberEvent) else ""
        points = scalars(event)
        if isinstance(event, StepCompleted | ValidationCompleted):
            self._steps[member] = event.step
            # The row of a step that was validated stays: a stop in the middle has only the validation made again.
            self._begin(member, event.step + isinstance(event, ValidationCompleted))
            if not self._package.FORGETS and event.step <= self._told.get(member, {}).get(type(event), -1):
                points = {}
        step = self._steps.get(member, 0) if member else max(self._steps.values(), default=0)
        if points:
            self._send("scalars", member, step, points)
        self._summarize(member, summary(event))
        if isinstance(event, CrossValidated):
            for fold in event.folds:
                self._summarize(fold.run_id.rpartition("/")[2], fold_summary(fold))
        if isinstance(event, TrialCompleted):
            self._end_trial(event)

    def end(self, outcome: Outcome, seconds: float | None = None) -> None:
        """The run is over, and so are those of its members that are not yet; wait for the tracker, a while."""
        for member in sorted(self._known - self._over, reverse=True):  # the run itself is the last
            self._close(member, outcome)
        self._process.finish(CLOSING_SECONDS[outcome] if seconds is None else seconds)

    def close(self) -> None:
        """The job may have been left in its middle."""
        self.end("stopped", LEAVING_SECONDS)

    def faults(self) -> Iterator[Notice]:
        """What went wrong, once."""
        if self._process.fault and not self._complained:
            self._complained = True
            yield Notice(what=f"{self._name} is left out from here on: {self._process.fault}",
                         remedy=self._package.REMEDY, setting="logging.tracker")

    def _begin(self, member: str, first_step: int) -> None:
        """Have a run begun in the tracker, if it is not yet."""
        if member not in self._known:
            self._known.add(member)
            folder = self._folder.member(member) if member else self._folder
            self._send("begin", member, {"folder": str(folder.root), "grouped": self._grouped,
                                         "first_step": first_step, "resumed": member in self._told})

    def _summarize(self, member: str, figures: Mapping[str, Figure]) -> None:
        if figures:
            self._send("summary", member, figures)

    def _end_trial(self, trial: TrialCompleted) -> None:
        name = f"trial-{trial.number:04d}"
        for member in sorted(self._known - self._over):
            if member == name or member.startswith(f"{name}-"):
                self._summarize(member, trial_summary(trial))
                self._close(member, TRIAL_OUTCOMES[trial.state])

    def _close(self, member: str, outcome: Outcome) -> None:
        self._send("close", member, outcome)
        self._over.add(member)

    def _send(self, what: str, member: str, *said: Any) -> None:
        """Send a message about a run that was begun and has not ended."""
        if member in self._known - self._over:
            self._process.send(what, member, *said)


def _told_before(folder: RunFolder) -> dict[str, dict[type, int]]:
    """The last step and the last validation that engines before this one told of, by members; {} for a new run."""
    logs = {"": folder, **{member.root.name: member for member in folder.members()}}
    told: dict[str, dict[type, int]] = {}
    for name, part in logs.items():
        with contextlib.suppress(OSError):  # then it is told again
            for event in EventTail(part.events_file).read():
                known = told.setdefault(name, {})
                if isinstance(event, StepCompleted | ValidationCompleted):
                    known[type(event)] = max(event.step, known.get(type(event), -1))
    return told
