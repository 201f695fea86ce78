"""Trackio: a run each, those of a cross-validation or a sweep in a group; on this machine unless TRACKIO_SPACE_ID says
where else."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping

from core.trackers.tracker import Figure, Outcome, TrackedRun

REMEDY = "TRACKIO_DIR says where it keeps runs; without TRACKIO_SPACE_ID it needs no network"
FORGETS = False


def open_run(run: TrackedRun) -> TrackioRun:
    """Begin a run in Trackio, or go on with the one that has its name."""
    return TrackioRun(run)


class TrackioRun:
    """A run in Trackio."""

    def __init__(self, run: TrackedRun) -> None:
        import trackio

        config = run.config()
        # A context of its own: Trackio ends the run that it takes for the present one as another begins.
        self._run = contextvars.copy_context().run(
            trackio.init, project=config.logging.project, name=run.id, group=run.group,
            config=config.model_dump(), resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,  # a thread a run, for what the run's own curves have
        )
        self._figures: dict[str, float] = {}
        self._step = 0

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Points at the step."""
        self._step = step
        self._run.log(dict(figures), step=step)

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """Kept for the end: Trackio has curves only, and no place for words."""
        self._figures.update({name: value for name, value in figures.items() if not isinstance(value, str)})

    def close(self, outcome: Outcome) -> None:
        """Write, or send, what is left, with the summary's numbers as points at the last step."""
        if self._figures:
            self._run.log(self._figures, step=self._step)
        self._run.finish()
