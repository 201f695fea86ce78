"""What became of the problems of two evaluations, paired: those that one passes and the other does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from pydantic import ValidationError

from core.contract.event_log import read_jsonl
from core.contract.events import Score
from core.contract.record import Split
from core.contract.runs import RunFolder
from core.contract.statistics import mcnemar_exact
from tui.problems.files import natural_order, text

Kind = Literal["heldout", "mixed", "train", ""]
"""Which side of the split a problem is on in both runs; "mixed" where one run trained on it and the other did not."""


@dataclass(frozen=True)
class Tries:
    """The samples of one problem; the problem counts as passed when one of them did."""

    passed: int
    samples: int
    verdict: str
    """Of the first sample that passed, else of the first."""
    split: str = ""


@dataclass(frozen=True)
class Verdicts:
    """What the results file of one evaluation says, by task id; nothing where it was not scored."""

    problems: Mapping[str, Tries] = field(default_factory=lambda: MappingProxyType({}))
    left_out: int = 0
    """Lines that are torn, or have no verdict."""
    fault: str = ""
    """Why a file that is there says nothing."""

    @property
    def unsplit(self) -> bool:
        """Whether nobody knows what the checkpoint trained on."""
        return bool(self.problems) and not any(one.split for one in self.problems.values())

    def score(self, split: str = "") -> Score:
        """The score as `softtune evaluate` gives it."""
        tries = [one for one in self.problems.values() if not split or one.split == split]
        return Score.of((one.passed, one.samples) for one in tries)


def read_verdicts(folder: RunFolder, checkpoint: str) -> Verdicts:
    """Read the results of one checkpoint; never raises: a fault is told in words."""
    path = folder.evaluation(checkpoint) / "results.jsonl"
    try:
        rows = read_jsonl(path)
        lines = sum(1 for line in path.read_bytes().splitlines() if line.strip())
    except FileNotFoundError:
        return Verdicts()
    except OSError as error:
        return Verdicts(fault=f"{path.name} cannot be read: {error.strerror}")
    except RecursionError:
        return Verdicts(fault=f"{path.name} is no results file")
    executed = [row for row in rows if isinstance(row.get("passed"), bool) and text(row, "task_id")]
    if lines and not executed:
        return Verdicts(left_out=lines, fault=f"no line of {path.name} is a result")
    problems = _tries(executed, _split(folder))
    return Verdicts(MappingProxyType(problems), left_out=lines - len(executed))


def _tries(rows: Iterable[Mapping[str, Any]], split: Split | None) -> dict[str, Tries]:
    problems: dict[str, Tries] = {}
    for row in rows:
        task_id, passed = text(row, "task_id"), row["passed"] is True
        verdict = text(row, "verdict") or text(row, "result").partition(":")[0] or ("passed" if passed else "failed")
        side = text(row, "split") or (split.kind(task_id) if split else "")
        known = problems.get(task_id)
        if known is None:
            problems[task_id] = Tries(int(passed), 1, verdict, side)
        else:
            first = verdict if passed and not known.passed else known.verdict
            problems[task_id] = Tries(known.passed + passed, known.samples + 1, first, known.split)
    return problems


def _split(folder: RunFolder) -> Split | None:
    try:
        return folder.read_record().split
    except (OSError, ValidationError):
        return None  # rows tell their side themselves, except those of early versions


@dataclass(frozen=True)
class Flip:
    """A problem that one of two checkpoints passes and the other does not."""

    task_id: str
    kind: Kind
    gained: bool
    """A fails, B passes; else the reverse."""
    a: str
    """A's verdict."""
    b: str


@dataclass(frozen=True)
class Counts:
    """Problems that both have, and how many of them flipped."""

    total: int = 0
    gained: int = 0
    lost: int = 0

    @property
    def p(self) -> float:
        """Two-sided p-value of the exact McNemar test."""
        return mcnemar_exact(self.gained, self.lost)


@dataclass(frozen=True)
class Pairing:
    """Two evaluations, problem by problem."""

    flips: tuple[Flip, ...] = ()
    """Held-out problems first, then those held out in one run only, then training problems; gained before lost."""
    counts: Mapping[str, Counts] = field(default_factory=lambda: MappingProxyType({}))
    """By kind, and for "all"."""
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()

    def of(self, kind: str) -> Counts:
        """The counts of a kind, or of "all"."""
        return self.counts.get(kind, Counts())


KINDS: tuple[Kind, ...] = ("heldout", "mixed", "train", "")
"""In the order in which they are listed."""


def pair(a: Verdicts, b: Verdicts) -> Pairing:
    """Pair two evaluations by task id; problems that only one has are named and not counted."""
    common = sorted(a.problems.keys() & b.problems.keys(), key=natural_order)
    kinds = {name: _kind(a.problems[name].split, b.problems[name].split) for name in common}
    flips = [
        Flip(name, kinds[name], b.problems[name].passed > 0, a.problems[name].verdict, b.problems[name].verdict)
        for name in common if (a.problems[name].passed > 0) != (b.problems[name].passed > 0)
    ]
    flips.sort(key=lambda flip: (KINDS.index(flip.kind), not flip.gained))
    counts: dict[str, Counts] = {"all": _counts(flips, len(common))}
    for kind in KINDS:
        counts[kind] = _counts([flip for flip in flips if flip.kind == kind], list(kinds.values()).count(kind))
    return Pairing(
        tuple(flips), MappingProxyType(counts),
        tuple(sorted(a.problems.keys() - b.problems.keys(), key=natural_order)),
        tuple(sorted(b.problems.keys() - a.problems.keys(), key=natural_order)),
    )


def _kind(a: str, b: str) -> Kind:
    """The side in both runs; a side that only one of them knows counts."""
    sides = {side for side in (a, b) if side in ("heldout", "train")}
    return "mixed" if len(sides) == 2 else "heldout" if "heldout" in sides else "train" if sides else ""


def _counts(flips: list[Flip], total: int) -> Counts:
    gained = sum(flip.gained for flip in flips)
    return Counts(total, gained, len(flips) - gained)
