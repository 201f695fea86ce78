"""Scores of result rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from core.contract.events import Score
from core.contract.statistics import pass_at_k


def tally(rows: Iterable[Mapping[str, Any]]) -> Score:
    """The score of result rows.

    pass@1 is the mean over problems of c / n, n samples of which c passed (Chen et al. 2021, equation 1 with k = 1).
    A problem counts as passed when at least one of its samples did; with one sample a problem, pass@1 is
    passed / total.
    """
    samples: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        samples[row["task_id"]].append(row["passed"])
    if not samples:
        return Score(total=0, passed=0, failed=0, pass_at_1=None)
    passed = sum(any(tries) for tries in samples.values())
    if all(len(tries) == 1 for tries in samples.values()):
        mean = passed / len(samples)
    else:
        mean = sum(pass_at_k(len(tries), sum(tries), 1) for tries in samples.values()) / len(samples)
    return Score(total=len(samples), passed=passed, failed=len(samples) - passed, pass_at_1=mean)
