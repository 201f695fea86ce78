"""Estimates from samples, and how far to trust them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

RESAMPLES = 2000
"""Of a bootstrap."""
Interval = tuple[float, float]
"""Lower and upper end of a 95 % confidence interval."""


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


def wilson_interval(passed: int, total: int, z: float = 1.96) -> Interval:
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


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> Interval | None:
    """Percentile bootstrap interval of the mean of `values`, one a problem (Efron 1979); None for none.

    Problems are drawn, not samples: a further HumanEval would have other problems. The same values give the same ends.
    """
    if not values:
        return None
    draw = random.Random(seed).choices
    means = sorted(math.fsum(draw(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    tail = round(0.025 * RESAMPLES)
    return means[tail], means[-tail - 1]


def paired_difference_interval(both: int, gained: int, lost: int, neither: int, z: float = 1.96) -> Interval | None:
    """Confidence interval of the second pass rate less the first, on the same problems; None for no problems.

    Newcombe 1998 (Statistics in Medicine 17: 2635), method 10: Wilson's limits of both rates, joined by the correlation
    of the pairs. Unlike the bootstrap it does not vanish where nothing flipped.

    Args:
        both, gained, lost, neither: problems that both pass, only the second, only the first, none.
    """
    total = both + gained + lost + neither
    if total == 0:
        return None
    first, second = both + lost, both + gained
    spread = math.sqrt(first * (total - first) * second * (total - second))
    product = float(both * neither - gained * lost)
    if product > 0:  # a continuity correction, which never turns it round
        product = max(product - total / 2, 0)
    correlation = product / spread if spread else 0.0
    (low1, high1), (low2, high2) = wilson_interval(first, total, z), wilson_interval(second, total, z)
    rate1, rate2 = first / total, second / total

    def joined(one: float, other: float) -> float:
        return math.sqrt(max(one * one - 2 * correlation * one * other + other * other, 0.0))

    difference = rate2 - rate1
    return (max(-1.0, difference - joined(rate2 - low2, high1 - rate1)),
            min(1.0, difference + joined(high2 - rate2, rate1 - low1)))


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
