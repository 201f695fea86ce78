"""Two results, problem by problem: which problems one passes and the other does not."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.contract.errors import DataError
from core.contract.events import Score
from core.contract.runs import RUNS, RunFolder
from core.evaluation.completions import read_completions
from core.evaluation.tally import tally

KINDS = ("all", "train", "heldout")


@dataclass(frozen=True)
class Comparison:
    """Scores of A and B on the problems that both have, and the problems that flipped, in A's order."""

    a: dict[str, Score]
    b: dict[str, Score]
    gained: list[str]
    """A fails, B passes."""
    lost: list[str]
    """A passes, B fails."""
    only_in_one: list[str]
    """Left out: problems that one of them has no result for."""


def compare(a: Path, b: Path) -> Comparison:
    """Compare two results files, or two checkpoints by their runs' results.

    A problem with several samples counts as passed when one of them did.

    Raises:
        DataError: a file has no results, or they have no problem in common.
        CheckpointError: a checkpoint cannot be read.
    """
    first, second = _results(a), _results(b)
    passed = [_passed(first), _passed(second)]
    common = [task for task in passed[0] if task in passed[1]]
    if not common:
        raise DataError(f"{a} and {b} have no problem in common", "compare results on the same problems")
    return Comparison(
        _scores(first, common), _scores(second, common),
        gained=[task for task in common if passed[1][task] and not passed[0][task]],
        lost=[task for task in common if passed[0][task] and not passed[1][task]],
        only_in_one=[task for task in {**passed[0], **passed[1]} if task not in common],
    )


def _results(path: Path) -> list[dict[str, Any]]:
    file = _results_of_checkpoint(path) if path.suffix == ".pt" else path
    rows = read_completions(file)
    if not all(isinstance(row.get("passed"), bool) for row in rows):
        raise DataError(f"{file} has completions and no results", f"softtune evaluate --input {file} makes them")
    return rows


def _results_of_checkpoint(path: Path) -> Path:
    """The results that the checkpoint's own run has for it."""
    from core.model.checkpoint import load_checkpoint  # torch, which result files do not need

    checkpoint = load_checkpoint(path)
    folder = RunFolder(RUNS / checkpoint.run_id)
    for name in (path.stem, "best" if "best" in path.stem else f"epoch_{checkpoint.epoch:04d}"):
        results = folder.evaluation(name) / "results.jsonl"
        if results.exists():
            return results
    raise DataError(f"{path} has not been scored in {folder.root}",
                    f"softtune infer {path} --output c.jsonl; softtune evaluate --input c.jsonl")


def _passed(rows: list[dict[str, Any]]) -> dict[str, bool]:
    passed: dict[str, bool] = defaultdict(bool)
    for row in rows:
        passed[row["task_id"]] |= row["passed"]
    return dict(passed)


def _scores(rows: list[dict[str, Any]], common: list[str]) -> dict[str, Score]:
    kept = [row for row in rows if row["task_id"] in set(common)]
    return {kind: tally(row for row in kept if kind in ("all", row.get("split"))) for kind in KINDS}
