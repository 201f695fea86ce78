"""What the settings imply for a run: steps, warm-up, memory of the prompt. Checked here, before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.contract.config import Config, SoftPromptSettings
from core.contract.errors import UsageError

WARMUP_SHARE = 0.1
"""Share of the run that warms up where the configured warm-up would not end before the run does."""

BOTTLENECK = 128
"""Width of the network of `soft_prompts.reparameterisation: residual`, narrower than any embedding it is for. (The code
of arXiv 2305.03937, made for T5, has 800 where nothing else is said.)"""


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


def trainable_parameters(settings: SoftPromptSettings, width: int) -> int:
    """Numbers that learn, for embeddings of `width`: P [V, H], and the network that it may be trained through.

    That is two projections with their biases, and the gain and bias of a layer normalisation.
    """
    rows = settings.num_virtual_tokens * width
    if settings.reparameterisation == "none":
        return rows
    return rows + 2 * width * BOTTLENECK + BOTTLENECK + 3 * width


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


def check_folds(config: Config, folds: int) -> None:
    """Raise UsageError where problems cannot be cross-validated in so many folds."""
    if config.dataset.evaluation_path is not None:
        raise UsageError("dataset.evaluation_path is set, and a cross-validation holds out problems of dataset.path",
                         "set it to null; or softtune train, which scores the other file")
    if folds < 2:
        raise UsageError(f"--folds {folds}", "take 2 or more: every fold holds out a part of the problems")
    most = config.dataset.max_samples
    if most is not None and folds > most:
        raise UsageError(f"--folds {folds} of dataset.max_samples {most} problems", f"take at most {most}")
