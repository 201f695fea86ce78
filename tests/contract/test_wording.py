"""The table of scores says no more than was measured."""

from __future__ import annotations

from core.contract.events import Score
from core.contract.wording import score_table


def test_one_sample_a_problem_is_the_plain_table() -> None:
    assert score_table({"all": Score.of([(1, 1), (0, 1)]), "held-out": Score.of([])}) == [
        "problems    Total  Passed  Failed   pass@1",
        "all             2       1       1    0.500",
        "held-out        0       0       0        –",
    ]


def test_several_samples_have_pass_at_k_and_say_what_passed_means() -> None:
    lines = score_table({"all": Score.of([(0, 10), (1, 10), (10, 10)]), "held-out": Score.of([(1, 4)])})
    assert lines == [
        "problems    Total  Passed  Failed   pass@1  pass@10",
        "all             3       2       1    0.367    0.667",
        "held-out        1       1       0    0.250        –",
        "Passed: at least one of a problem's samples (30 samples, 10 a problem)",
    ]


def test_the_largest_table_fits_eighty_columns() -> None:
    lines = score_table({"held-out": Score.of([(n, 1000) for n in range(164)])})
    assert "pass@100" in lines[0] and "164,000 samples" in lines[-1] and max(map(len, lines)) <= 80
