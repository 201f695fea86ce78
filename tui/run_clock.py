"""Times of a run: elapsed without pauses, and how long the present stage still takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.contract import events as ev
from core.contract.events import Event

RECENT = 20
"""Optimizer steps whose pace the estimate follows."""

_ENDS = (ev.RunStopped, ev.RunFinished, ev.RunFailed)


@dataclass(frozen=True)
class RunClock:
    """What the times of the events say; all times in seconds since the epoch."""

    started: float | None = None
    ended: float | None = None
    paused_at: float | None = None
    paused_for: float = 0.0
    stage: str = ""
    stage_started: float = 0.0
    stage_first: int = 0
    done: int = 0
    total: int = 0
    at: float = 0.0
    """When `done` was told."""
    step_times: tuple[tuple[int, float], ...] = ()
    """(step, time without pauses) of the latest optimizer steps."""

    def after(self, event: Event) -> RunClock:
        """The clock after one event."""
        if isinstance(event, ev.StepCompleted):
            return self._stepped(event)
        if isinstance(event, ev.Progress):
            return self._progressed(event)
        if isinstance(event, ev.RunStarted):
            return RunClock(started=event.time)
        if isinstance(event, ev.RunPaused):
            return replace(self, paused_at=event.time)
        if isinstance(event, ev.RunResumed):
            return self._going_on(event.time)
        if isinstance(event, _ENDS):
            return replace(self._going_on(event.time), ended=event.time)
        return self

    def elapsed(self, now: float) -> float | None:
        """Seconds of work so far; None before the start."""
        if self.started is None:
            return None
        until = self.ended or self.paused_at or now
        return max(0.0, until - self.started - self.paused_for)

    def left(self, now: float) -> float | None:
        """Seconds that the present stage (all of training, or completing, …) still takes at its recent pace."""
        if self.ended is not None:
            return None
        if self.stage in ("", "training", "validating") and len(self.step_times) > 1:
            return self._training_left(now)
        remaining = self.total - self.done
        worked = self.at - self.stage_started
        counted = self.done - self.stage_first
        if self.stage in ("", "training", "validating", "loading") or counted <= 0 or worked <= 0:
            return None
        return max(0.0, remaining * worked / counted - self._since(self.at, now))

    def _training_left(self, now: float) -> float | None:
        (first, begun), (last, told) = self.step_times[0], self.step_times[-1]
        if last <= first:
            return None
        pace = (told - begun) / (last - first)
        return max(0.0, (self.total - last) * pace - self._since(told + self.paused_for, now))

    def _since(self, told: float, now: float) -> float:
        return max(0.0, (self.paused_at or now) - told)

    def _stepped(self, event: ev.StepCompleted) -> RunClock:
        worked = event.time - self.paused_for
        times = self.step_times
        if times and event.step <= times[-1][0]:
            times = ()  # a resumed run goes back
        return RunClock(  # spelled out: a long log has this for every step, and `replace` takes several times as long
            self.started, self.ended, self.paused_at, self.paused_for, "training", self.stage_started,
            self.stage_first, event.step, event.total_steps, event.time, (*times, (event.step, worked))[-RECENT:],
        )

    def _progressed(self, event: ev.Progress) -> RunClock:
        if event.stage in ("training", "validating"):
            return replace(self, stage=event.stage)
        if event.stage != self.stage:
            return replace(self, stage=event.stage, stage_started=event.time, stage_first=event.done,
                           done=event.done, total=event.total, at=event.time)
        return replace(self, done=event.done, total=event.total, at=event.time)

    def _going_on(self, time: float) -> RunClock:
        if self.paused_at is None:
            return self
        waited = max(0.0, time - self.paused_at)
        return replace(self, paused_at=None, paused_for=self.paused_for + waited,
                       stage_started=self.stage_started + waited, at=self.at + waited)
