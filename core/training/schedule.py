"""The learning rate of each optimizer step."""

from __future__ import annotations


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate at `step` (from 1): linear warm-up, then linear decay.

    The last warm-up step has factor 1, the last step a small positive one: no step is wasted at zero.
    """
    if step <= warmup_steps:
        return step / warmup_steps
    return (total_steps + 1 - step) / (total_steps + 1 - max(warmup_steps, 1))
