"""The learning rate of each optimizer step."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["linear", "cosine", "constant"]


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int, schedule: Schedule = "linear") -> float:
    """Share of the peak learning rate at `step` (from 1): linear warm-up, then a fall to zero or none.

    A linear fall, half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5, without restarts), or
    constant. The last warm-up step has factor 1, the last step a positive one: no step is wasted at zero.
    """
    if step <= warmup_steps:
        return step / warmup_steps
    left = (total_steps + 1 - step) / (total_steps + 1 - max(warmup_steps, 1))
    if schedule == "cosine":
        return (1 - math.cos(math.pi * left)) / 2
    return left if schedule == "linear" else 1.0
