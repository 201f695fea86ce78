"""Two results, problem by problem: which problems one passes and the other does not, and how much that says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.contract.errors import DataError
from core.contract.events import Score
from core.contract.runs import RUNS, RunFolder
from core.contract.statistics import Interval, bootstrap_interval, mcnemar_exact, paired_difference_interval
from core.contract.wording import flips_verdict
from core.evaluation.completions import read_completions
from core.evaluation.tally import samples_by_problem, tally

KINDS = ("all", "train", "heldout")
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Paired:
    """A and B on the problems of one kind that both have."""

    total: int
    gained: list[str]
    """Problems that B passes and A does not; with several samples, that one of B's samples passes and none of A's."""
    lost: list[str]
    """The reverse."""
    difference: float | None
    """B's pass@1 less A's; None for no problems."""
    interval: Interval | None
    """95 % of the difference: Newcombe's for pairs, with several samples a bootstrap over problems."""
    several: bool

    @property
    def p(self) -> float | None:
        """Exact McNemar test of the flips; None with several samples, where passing once is not what is compared."""
        return None if self.several else mcnemar_exact(len(self.gained), len(self.lost))

    def sentence(self, b: str = "B", either: str = "either") -> str:
        """Whether B is better, in words, with the difference of pass@1 and its interval."""
        if self.difference is None or self.interval is None:
            return "no problem in common"
        low, high = self.interval
        figures = f"pass@1 {self.difference:+.3f} (95 % {low:+.3f} to {high:+.3f})"
        if not self.several:
            return f"{flips_verdict(len(self.gained), len(self.lost), b, either)}; {figures}"
        said = f"{b} is better" if low > 0 else f"{b} is worse" if high < 0 else f"no evidence that {either} is better"
        return f"{said}: {figures}, by bootstrap over problems"


@dataclass(frozen=True)
class Comparison:
    """Scores of A and B on the problems that both have, and the problems that flipped, in A's order."""

    a: dict[str, Score]
    b: dict[str, Score]
    paired: dict[str, Paired]
    """By kind. A problem that one of them trained on and the other held out is in "all" only."""
    mixed: list[str]
    """Those problems."""
    only_in_one: list[str]
    """Left out: problems that one of them has no result for."""
    unsplit: list[str]
    """Which of "A" and "B" was made with a checkpoint of which nobody knows what it trained on, where the other has
    held-out problems: it may have trained on those."""


def compare(a: Path, b: Path) -> Comparison:
    """Compare two results files, or two checkpoints by their runs' results.

    Raises:
        DataError: a file has no results, or they have no problem in common.
        CheckpointError: a checkpoint cannot be read.
    """
    return compare_rows(_results(a), _results(b), (str(a), str(b)))


def compare_rows(first: Rows, second: Rows, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Compare two lists of result rows.

    A problem's side is what both say, or the only one that says; see `Comparison.paired`.

    Raises:
        DataError: they have no problem in common.
    """
    tries = samples_by_problem(first), samples_by_problem(second)
    common = [task for task in tries[0] if task in tries[1]]
    if not common:
        raise DataError(f"{names[0]} and {names[1]} have no problem in common", "compare results on the same problems")
    sides = {task: _side(kinds) for task, kinds in _kinds([*first, *second]).items()}
    return Comparison(
        _scores(first, common), _scores(second, common),
        {kind: _paired(*tries, [task for task in common if kind in ("all", sides[task])]) for kind in KINDS},
        mixed=[task for task in common if sides[task] == "mixed"],
        only_in_one=[task for task in {**tries[0], **tries[1]} if task not in common],
        unsplit=[name for name, rows in (("A", first), ("B", second)) if "heldout" in sides.values()
                 and any(row.get("checkpoint") for row in rows) and not any(map(len, _kinds(rows).values()))],
    )


def _paired(a: Mapping[str, list[bool]], b: Mapping[str, list[bool]], tasks: list[str]) -> Paired:
    gained = [task for task in tasks if any(b[task]) and not any(a[task])]
    lost = [task for task in tasks if any(a[task]) and not any(b[task])]
    several = any(len(tries[task]) > 1 for tries in (a, b) for task in tasks)
    differences = [sum(b[task]) / len(b[task]) - sum(a[task]) / len(a[task]) for task in tasks]
    if several:
        interval = bootstrap_interval(differences)
    else:
        both = sum(all(a[task]) and all(b[task]) for task in tasks)
        flipped = len(gained) + len(lost)
        interval = paired_difference_interval(both, len(gained), len(lost), len(tasks) - both - flipped)
    difference = sum(differences) / len(tasks) if tasks else None
    return Paired(len(tasks), gained, lost, difference, interval, several)


def _kinds(rows: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for row in rows:
        kinds.setdefault(row["task_id"], set()).update({row.get("split")} & {"train", "heldout"})
    return kinds


def _side(kinds: set[str]) -> str:
    return "mixed" if len(kinds) > 1 else next(iter(kinds), "")


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


def _scores(rows: Rows, common: list[str]) -> dict[str, Score]:
    kept = [row for row in rows if row["task_id"] in set(common)]
    return {kind: tally(row for row in kept if kind in ("all", row.get("split"))) for kind in KINDS}
