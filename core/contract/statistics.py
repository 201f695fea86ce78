"""Estimates from samples, and how far to trust them."""

from __future__ import annotations

import math


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of k samples passes (Chen et al. 2021, equation 1).

    1 - C(n - c, k) / C(n, k) for n samples of which c are correct, as a product that cannot overflow.

    Raises:
        ValueError: not 0 <= correct <= samples, or not 1 <= k <= samples.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples with {correct} correct")
    if samples - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / n for n in range(samples - correct + 1, samples + 1))


def wilson_interval(passed: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval of a proportion (Wilson 1927), z = 1.96 for 95 %; (0, 1) when nothing was run.

    Unlike the normal approximation it holds for the 33 held-out problems, and for 0 or all of them passed.

    Raises:
        ValueError: not 0 <= passed <= total.
    """
    if not 0 <= passed <= total:
        raise ValueError(f"{passed} of {total}")
    if total == 0:
        return 0.0, 1.0
    share, weight = passed / total, z * z / total
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided p-value of the exact McNemar test (McNemar 1947, Psychometrika 12, in its binomial form).

    Of the problems on which two checkpoints differ, each is as likely to be gained as lost where neither checkpoint
    is better: twice the smaller tail of Binomial(gained + lost, 1/2), at most 1. Problems on which both agree say
    nothing of the difference, and are not counted. 1 where nothing differs.

    Args:
        gained: problems that only the second passes.
        lost: problems that only the first passes.

    Raises:
        ValueError: a count is negative.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"{gained} gained, {lost} lost")
    differing = gained + lost
    tail = sum(math.comb(differing, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << differing))
