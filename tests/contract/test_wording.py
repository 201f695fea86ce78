"""The words of events: a table of scores says no more than was measured, a plan what is done."""

from __future__ import annotations

import pytest

from core.contract.events import Score, TrainingPlanned
from core.contract.wording import describe, flips_verdict, score_table


def test_one_sample_a_problem_has_wilsons_interval() -> None:
    assert score_table({"all": Score.of([(1, 1), (0, 1)]), "held-out": Score.of([])}) == [
        "problems       Total  Passed  Failed   pass@1    95 % interval",
        "all                2       1       1    0.500    0.095 – 0.905",
        "held-out           0       0       0        –",
    ]


def test_the_model_alone_stands_below_each_kind() -> None:
    lines = score_table({"all": Score.of([(1, 1), (0, 1)])}, {"all": Score.of([(0, 1), (0, 1)])})
    assert lines[1:] == [
        "all                2       1       1    0.500    0.095 – 0.905",
        "  model alone      2       0       2    0.000    0.000 – 0.658",
    ]


def test_several_samples_have_pass_at_k_with_intervals_and_say_what_passed_means() -> None:
    score = Score.of([(0, 10), (1, 10), (10, 10)], intervals=True)
    assert score_table({"all": score, "held-out": Score.of([(1, 4)])}) == [
        "problems       Total  Passed  Failed   pass@1    95 % interval  pass@10",
        "all                3       2       1    0.367    0.000 – 1.000    0.667",
        "held-out           1       1       0    0.250                         –",
        "pass@10, 95 %: all 0.000 – 1.000",
        "Passed: at least one of a problem's samples (30 samples, 10 a problem)",
    ]


def test_the_largest_table_fits_eighty_columns() -> None:
    lines = score_table({"held-out": Score.of([(n, 1000) for n in range(164)], intervals=True)})
    assert "pass@100" in lines[0] and "164,000 samples" in lines[-1] and max(map(len, lines)) <= 80


def test_verdicts_claim_no_more_than_the_test_of_them() -> None:
    assert flips_verdict(3, 2) == "no evidence that B is better: 3 gained, 2 lost, p = 1.00 (exact McNemar)"
    assert flips_verdict(2, 3, "the soft prompt").startswith("no evidence that the soft prompt is worse")
    assert flips_verdict(9, 1) == "B is better: 9 gained, 1 lost, p = 0.021 (exact McNemar)"
    assert flips_verdict(0, 20) == "B is worse: 0 gained, 20 lost, p < 0.001 (exact McNemar)"


@pytest.mark.parametrize(("told", "words"), [
    ({}, ["AdamW", "0.01, warm-up 9 steps, then linear decay"]),
    ({"schedule": "cosine", "optimizer": "sgd"}, ["SGD with momentum", "0.01, warm-up 9 steps, then cosine decay"]),
    ({"schedule": "constant", "optimizer": "adafactor"},
     ["Adafactor (learning rate relative to the parameters)", "0.01, warm-up 9 steps, then constant"]),
])
def test_the_schedule_that_is_told_is_the_one_that_is_used(told: dict[str, str], words: list[str]) -> None:
    plan = TrainingPlanned.model_validate({
        "train_problems": 131, "heldout_problems": 33, "effective_batch": 16, "steps_per_epoch": 9, "total_steps": 90,
        "num_epochs": 10, "learning_rate": 0.01, "warmup_steps": 9, **told,
    })
    assert [line[22:] for line in describe(plan)[-2:]] == words
