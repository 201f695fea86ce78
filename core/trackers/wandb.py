"""W&B: a run each, those of a cross-validation or a sweep in a group."""

from __future__ import annotations

import os
from collections.abc import Mapping

from core.trackers.tracker import CLOSING_SECONDS, Figure, Outcome, TrackedRun

REMEDY = "wandb login signs in; without a network WANDB_MODE=offline keeps the run here, and wandb sync sends it later"
FORGETS = False
EXIT_CODES: dict[Outcome, int] = {"finished": 0, "stopped": 130, "failed": 1}


def open_run(run: TrackedRun) -> WandbRun:
    """Begin a run in W&B, or go on with the one that has its id."""
    return WandbRun(run)


class WandbRun:
    """A run in W&B."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        config = run.config()
        settings = wandb.Settings(
            console="off",  # what is printed is in engine.log already, and is others' to read
            finish_timeout=0.75 * CLOSING_SECONDS["finished"], finish_timeout_raises=True,
        )
        folder = os.environ.get("WANDB_DIR", config.logging.directory)
        os.makedirs(folder, exist_ok=True)  # where there is none, wandb takes the system's temporary folder
        self._run = wandb.init(
            project=config.logging.project, dir=folder, id=run.id, name=run.parts[-1],
            group=run.group, config=config.model_dump(), resume="allow", reinit="create_new", save_code=False,
            settings=settings,
        )

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """A row at the step: W&B takes no earlier one than its last."""
        self._run.log(dict(figures), step=max(step, self._run.step))

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """What its table of runs shows."""
        self._run.summary.update(dict(figures))

    def close(self, outcome: Outcome) -> None:
        """Send what is left; raises TimeoutError where that takes too long."""
        self._run.summary.update({"outcome": outcome})
        self._run.finish(exit_code=EXIT_CODES[outcome])
