"""What a screen knows of a run: one frozen snapshot, built from events by a pure function.

`advance(view, events)` is all there is to it, so a test feeds a list of events and looks. What is read from files
(the problems, tracebacks) is in `problems/files.py`; what the machine knows of the process is in `engine.py`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from core.contract import events as ev
from core.contract.events import Event
from tui.log_lines import LogLine, log_line
from tui.run_clock import RECENT, RunClock
from tui.train.curves import Curve, Smoother, smoothing_window

LOG_LIMIT = 500
"""Log lines kept; a long run's older ones are in its events.jsonl."""

NOTICE_LIMIT = 20
"""Notices about settings that are kept."""

Outcome = Literal["", "finished", "stopped", "failed"]
ProblemKey = tuple[str, int]
"""Task id and sample number."""


@dataclass(frozen=True)
class ProblemState:
    """What is known of one problem's completion; `verdict` is "" until it was executed."""

    completion: str | None = None
    tokens: int = 0
    finish_reason: str = ""
    passed: bool = False
    verdict: str = ""
    detail: str = ""
    seconds: float | None = None
    split: str = ""


_NO_CURVE = Curve()


@dataclass(frozen=True)
class RunView:
    """A run as its events tell it."""

    run_id: str = ""
    engine: int | None = None
    """The process that told these events last."""
    model: str = ""
    phase: str = "queued"
    """queued, loading, training, validating, completing or scoring: what the engine does, or did last."""
    paused: bool = False
    waits_for: str = ""
    """What a paused run waits for, to go on by itself; "" where the user paused it."""
    outcome: Outcome = ""
    resumed_from: int = 0
    """The step after which the present engine began."""
    clock: RunClock = RunClock()
    loaded: ev.ModelLoaded | None = None
    plan: ev.TrainingPlanned | None = None
    step: ev.StepCompleted | None = None
    validations: tuple[ev.ValidationCompleted, ...] = ()
    stage: ev.Progress | None = None
    score: ev.EvaluationCompleted | None = None
    baseline: ev.EvaluationCompleted | None = None
    """The scores of the model alone."""
    verdict: str = ""
    """Whether the soft prompt is better than the model alone, once the run is over."""
    crossvalidated: ev.CrossValidated | None = None
    sweep: ev.SweepPlanned | None = None
    followed: int = 0
    """The member whose curves these are, in a cross-validation or a sweep."""
    failure: ev.RunFailed | None = None
    train_loss: Curve = _NO_CURVE
    smooth_loss: Curve = _NO_CURVE
    heldout_loss: Curve = _NO_CURVE
    heldout_perplexity: Curve = _NO_CURVE
    smooth_perplexity: Curve = _NO_CURVE
    learning_rate: Curve = _NO_CURVE
    grad_norm: Curve = _NO_CURVE
    memory_allocated: Curve = _NO_CURVE
    memory_reserved: Curve = _NO_CURVE
    memory_peak: Curve = _NO_CURVE
    smoother: Smoother = Smoother()
    notices: tuple[ev.Notice, ...] = ()
    """What the engine said about settings since it was last started."""
    log: tuple[LogLine, ...] = ()
    problems: Mapping[ProblemKey, ProblemState] = field(default_factory=lambda: MappingProxyType({}))
    events: int = 0
    """Events taken in so far."""

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run; 0 while unknown."""
        return self.step.total_steps if self.step else self.plan.total_steps if self.plan else 0

    @property
    def done_steps(self) -> int:
        """Optimizer steps completed."""
        return self.step.step if self.step else self.resumed_from

    @property
    def validation(self) -> ev.ValidationCompleted | None:
        """The newest validation."""
        return self.validations[-1] if self.validations else None

    @property
    def best(self) -> ev.ValidationCompleted | None:
        """The best validation so far."""
        return next((one for one in reversed(self.validations) if one.is_best), None)


_CURVES = tuple(each.name for each in fields(RunView) if isinstance(each.default, Curve))


def advance(view: RunView, events: Iterable[Event]) -> RunView:
    """The view after some more events; the old one is left as it is."""
    draft = _Draft(view)
    for event in events:
        draft.take(event)
    return draft.finished()


class _Draft:
    """A view under construction: plain fields in `changes`, growing things in lists until the batch ends."""

    def __init__(self, view: RunView) -> None:
        self.view = view
        self.changes: dict[str, Any] = {}
        self.points: defaultdict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        self.steps: list[ev.StepCompleted] = []
        """Optimizer steps with nothing in between, which are taken in together: a long log is made of them."""
        self.lines: list[LogLine] = []
        self.problems: dict[ProblemKey, ProblemState] | None = None
        self.clock = view.clock
        self.smoother = view.smoother
        self.count = 0
        self.steps_as_stage: ev.StepCompleted | None = None

    def get(self, name: str) -> Any:
        """A field as it stands by now."""
        return self.changes[name] if name in self.changes else getattr(self.view, name)

    def set(self, **fields: Any) -> None:
        """Change plain fields."""
        self.changes.update(fields)

    def add(self, curve: str, x: float, y: float) -> None:
        """Add a point to a curve."""
        xs, ys = self.points[curve]
        xs.append(x)
        ys.append(y)

    def problem(self, key: ProblemKey, **fields: Any) -> None:
        """Change what is known of one problem."""
        if self.problems is None:
            self.problems = dict(self.view.problems)
        self.problems[key] = replace(self.problems.get(key, ProblemState()), **fields)

    def take(self, event: Event) -> None:
        """Take in one event."""
        self.count += 1
        other = isinstance(event, ev.MemberEvent) and event.member != self.get("followed")
        if isinstance(event, ev.StepCompleted):
            if not other:
                self.steps.append(event)
            return
        if self.steps:
            self._take_steps()
        self.clock = self.clock.after(event)
        handler = _HANDLERS.get(type(event))
        if handler is not None and (not other or isinstance(event, ev.TrainingPlanned)):
            handler(self, event)
        line = log_line(event)
        if line is not None:
            self.lines.append(line)

    def _take_steps(self) -> None:
        """Take in the steps that wait, column by column."""
        steps, self.steps = self.steps, []
        for step in steps[-RECENT:]:  # all that the clock remembers of them
            self.clock = self.clock.after(step)
        self.steps_as_stage = steps[-1]
        self.set(step=steps[-1], phase="training")
        at = [step.step for step in steps]
        losses = [step.loss for step in steps]
        memories = [step.memory for step in steps]
        for name, values in (
            ("train_loss", losses), ("learning_rate", [step.learning_rate for step in steps]),
            ("grad_norm", [step.grad_norm for step in steps]),
            ("memory_allocated", [memory.allocated for memory in memories]),
            ("memory_reserved", [memory.reserved for memory in memories]),
            ("memory_peak", [memory.peak for memory in memories]),
        ):
            self._add_all(name, at, values)
        if not math.isfinite(sum(losses)):
            self.lines += [line for step in steps if (line := log_line(step))]
        self._smooth(at, losses, smoothing_window(steps[-1].total_steps))

    def _add_all(self, curve: str, xs: Sequence[float], ys: Sequence[float]) -> None:
        all_xs, all_ys = self.points[curve]
        all_xs.extend(xs)
        all_ys.extend(ys)

    def _smooth(self, at: list[int], losses: list[float], window: int) -> None:
        finite = [(step, loss) for step, loss in zip(at, losses, strict=True) if math.isfinite(loss)]
        kept = [step for step, _ in finite]
        self.smoother, means = self.smoother.add_all([loss for _, loss in finite], window)
        self._add_all("smooth_loss", kept, means)
        self._add_all("smooth_perplexity", kept, [math.exp(mean) if mean < 700 else math.inf for mean in means])

    def go_back(self, step: int) -> None:
        """Be where the run was after a step: an engine is about to tell all that came later again."""
        self._join_points()
        for name in _CURVES:
            self.changes[name] = self.get(name).until(step)
        last, plan = self.get("step"), self.get("plan")
        window = smoothing_window(last.total_steps if last else plan.total_steps if plan else 0)
        self.smoother, _ = Smoother().add_all(self.get("train_loss").ys, window)
        self.problems, self.steps_as_stage = {}, None
        self.set(step=last if last and last.step <= step else None, stage=None, score=None, crossvalidated=None,
                 verdict="", validations=tuple(one for one in self.get("validations") if one.step <= step))

    def _join_points(self) -> None:
        for name, (xs, ys) in self.points.items():
            self.changes[name] = self.get(name).joined(xs, ys)
        self.points.clear()

    def finished(self) -> RunView:
        """The new view."""
        if self.steps:
            self._take_steps()
        self._stage_of_steps()
        self._join_points()
        if self.lines:
            self.changes["log"] = (*self.view.log, *self.lines)[-LOG_LIMIT:]
        if self.problems is not None:
            self.changes["problems"] = MappingProxyType(self.problems)
        return replace(
            self.view, clock=self.clock, smoother=self.smoother, events=self.view.events + self.count, **self.changes
        )

    def _stage_of_steps(self) -> None:
        """Steps are the progress of training where the engine sends no finer one."""
        step, stage = self.steps_as_stage, self.get("stage")
        if step is not None and (stage is None or stage.stage != "training" or stage.unit == "steps"):
            self.set(stage=ev.Progress(time=step.time, stage="training", done=step.step, total=step.total_steps,
                                       unit="steps"))


def _run_started(draft: _Draft, event: ev.RunStarted) -> None:
    draft.go_back(event.resumed_from_step)
    draft.set(run_id=event.run_id, engine=event.pid, model=event.model, phase="loading", paused=False, waits_for="",
              outcome="", failure=None, notices=(), resumed_from=event.resumed_from_step)


def _model_loaded(draft: _Draft, event: ev.ModelLoaded) -> None:
    draft.set(loaded=event, model=event.model)


def _planned(draft: _Draft, event: ev.TrainingPlanned) -> None:
    if event.member != draft.get("followed"):
        draft.go_back(0)
    draft.set(plan=event, followed=event.member)


def _progress(draft: _Draft, event: ev.Progress) -> None:
    draft.set(phase=event.stage, stage=event)
    draft.steps_as_stage = None


def _validated(draft: _Draft, event: ev.ValidationCompleted) -> None:
    # A stop in the middle of a checkpoint's validation has it made again.
    draft.set(validations=(*(one for one in draft.get("validations") if one.step < event.step), event))
    draft.add("heldout_loss", event.step, event.loss)
    draft.add("heldout_perplexity", event.step, event.perplexity)


def _completed(draft: _Draft, event: ev.CompletionGenerated) -> None:
    # A fresh completion has no verdict yet, whatever an earlier evaluation of this run said.
    draft.set(phase="completing")
    draft.problem(
        (event.task_id, event.sample), completion=event.completion, tokens=event.tokens,
        finish_reason=event.finish_reason, passed=False, verdict="", detail="", seconds=None,
    )


def _evaluated(draft: _Draft, event: ev.ProblemEvaluated) -> None:
    draft.set(phase="scoring")
    draft.problem(
        (event.task_id, event.sample), passed=event.passed, verdict=event.verdict, detail=event.detail,
        seconds=event.seconds, split=event.split,
    )


def _scored(draft: _Draft, event: ev.EvaluationCompleted) -> None:
    draft.set(score=event)


def _baseline(draft: _Draft, event: ev.BaselineCompleted) -> None:
    draft.set(baseline=event.evaluation)


def _finished(draft: _Draft, event: ev.RunFinished) -> None:
    draft.set(outcome="finished", paused=False, waits_for="", verdict=event.verdict)


def _cross_validated(draft: _Draft, event: ev.CrossValidated) -> None:
    draft.set(crossvalidated=event)


def _sweep_planned(draft: _Draft, event: ev.SweepPlanned) -> None:
    draft.set(sweep=event)


def _becomes(**fields: Any) -> Callable[[_Draft, Any], None]:
    return lambda draft, event: draft.set(**fields)


def _noticed(draft: _Draft, event: ev.Notice) -> None:
    if event.setting:
        draft.set(notices=(*draft.get("notices"), event)[-NOTICE_LIMIT:])


def _failed(draft: _Draft, event: ev.RunFailed) -> None:
    draft.set(outcome="failed", failure=event, paused=False, waits_for="")


def _paused(draft: _Draft, event: ev.RunPaused) -> None:
    draft.set(paused=True, waits_for=event.reason)


_HANDLERS: dict[type[Any], Callable[[_Draft, Any], None]] = {
    ev.RunStarted: _run_started, ev.ModelLoaded: _model_loaded, ev.TrainingPlanned: _planned, ev.Progress: _progress,
    ev.Notice: _noticed, ev.ValidationCompleted: _validated, ev.CompletionGenerated: _completed,
    ev.ProblemEvaluated: _evaluated, ev.EvaluationCompleted: _scored, ev.RunFailed: _failed,
    ev.BaselineCompleted: _baseline,
    ev.RunPaused: _paused, ev.RunResumed: _becomes(paused=False, waits_for=""),
    ev.RunStopped: _becomes(outcome="stopped", paused=False, waits_for=""),
    ev.RunFinished: _finished, ev.CrossValidated: _cross_validated, ev.SweepPlanned: _sweep_planned,
}
