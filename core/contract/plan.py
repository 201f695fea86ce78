"""What the settings imply for a run: steps, warm-up, memory of the prompt. Checked here, before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.contract.config import Config

WARMUP_SHARE = 0.1
"""Share of the run that warms up where the configured warm-up would not end before the run does."""


@dataclass(frozen=True)
class TrainingPlan:
    """The schedule that a run really uses.

    `notices` are (setting, what, remedy) triples for settings that could not be taken literally.
    """

    train_problems: int
    heldout_problems: int
    effective_batch: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    notices: tuple[tuple[str, str, str], ...]


def split_sizes(problems: int, share: float) -> tuple[int, int]:
    """Numbers of (training, held-out) problems; each at least one: 164 at 0.8 gives (131, 33)."""
    train = min(max(int(problems * share), 1), problems - 1)
    return train, problems - train


def plan_training(config: Config, train_problems: int, heldout_problems: int) -> TrainingPlan:
    """Work out the schedule for a number of training problems.

    A warm-up that would not end before the run does (the guides' 100 steps in a run of 90) is replaced by a tenth
    of the run, and said so.
    """
    settings = config.training
    effective = settings.batch_size * settings.gradient_accumulation_steps
    per_epoch = math.ceil(train_problems / effective)
    total = per_epoch * settings.num_epochs
    warmup = settings.warmup_steps
    notices = []
    if warmup >= total:
        warmup = math.ceil(total * WARMUP_SHARE) if total > 1 else 0
        notices.append((
            "training.warmup_steps",
            f"a warm-up of {settings.warmup_steps} steps would never reach the learning rate in a run of {total} steps "
            f"({settings.num_epochs} × {per_epoch}); {warmup} are used",
            f"set training.warmup_steps to {warmup}, or raise training.num_epochs",
        ))
    if train_problems < effective:
        notices.append((
            "training.gradient_accumulation_steps",
            f"an effective batch of {effective} is larger than the {train_problems} training problems",
            "lower training.batch_size or training.gradient_accumulation_steps",
        ))
    return TrainingPlan(
        train_problems, heldout_problems, min(effective, train_problems), per_epoch, total, warmup, tuple(notices)
    )
