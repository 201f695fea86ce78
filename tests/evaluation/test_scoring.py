"""Scoring: events, the results file, and the scores of several samples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from core.contract.config import EvaluationSettings
from core.contract.control import Command, ControlInbox, StopRequested
from core.contract.errors import DataError
from core.contract.events import EvaluationCompleted, Event, Notice, ProblemEvaluated, event_line, parse_event
from core.contract.record import Split
from core.data.humaneval import Problem
from core.evaluation.journal import strength
from core.evaluation.sandbox import Program
from core.evaluation.scoring import score
from core.evaluation.server import landlock

SETTINGS = EvaluationSettings(timeout_seconds=1.0, workers=2, memory_limit_mb=256)
GOOD, BAD, SLOW = "    return 42\n", "    return 41\n", "    while True: pass\n"


@pytest.fixture
def problems(forty_two: Problem) -> dict[str, Problem]:
    """Problems a, b, c and d, all alike."""
    return {name: Problem(name, forty_two.prompt, "answer", GOOD, forty_two.test) for name in "abcd"}


def samples(**completions: str) -> list[dict[str, Any]]:
    return [{"task_id": name, "completion": text, "tokens": 7} for name, text in completions.items()]


def run_score(rows: list[dict[str, Any]], problems: dict[str, Problem], tmp_path: Path) -> list[Event]:
    split = Split(train=["a", "b", "c"], heldout=["d"])
    results_path = tmp_path / "r" / "results.jsonl"
    return list(score(rows, problems, split, SETTINGS, results_path, Path("c.jsonl"), "best"))


def results(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "r" / "results.jsonl").read_text().splitlines()]


def test_events_and_results(problems: dict[str, Problem], tmp_path: Path) -> None:
    events = run_score(samples(a=SLOW, b=GOOD, c="    print('hi')\n    return x\n", d=BAD), problems, tmp_path)
    told = [event for event in events if isinstance(event, ProblemEvaluated)]
    assert sorted((e.task_id, e.split, e.passed, e.verdict) for e in told) == [
        ("a", "train", False, "timed out"), ("b", "train", True, "passed"), ("c", "train", False, "error"),
        ("d", "heldout", False, "failed"),
    ]
    assert [(event.done, event.total) for event in told] == [(n, 4) for n in (1, 2, 3, 4)]
    assert told[-1].task_id == "a"  # the slow one came last, though it is first in the file
    assert all(parse_event(event_line(event)) == event for event in events)

    rows = results(tmp_path)
    assert [row["task_id"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["result"] for row in rows] == [
        "timed out", "passed", "failed: NameError: name 'x' is not defined (line 4)",
        "failed: line 6: assert candidate() == 42",
    ]
    assert set(rows[2]) == {
        "task_id", "completion", "tokens", "result", "passed", "verdict", "detail", "traceback", "stdout", "stderr",
        "seconds", "cpu_seconds", "peak_memory_mb", "split", "sample", "isolation",
    }
    assert 5 < rows[1]["peak_memory_mb"] < 200 and rows[0]["cpu_seconds"] > 0.1
    assert rows[2]["stdout"] == "hi\n" and "line 4, in answer" in rows[2]["traceback"]

    final = events[-1]
    assert isinstance(final, EvaluationCompleted)
    assert (final.overall.total, final.overall.passed, final.overall.pass_at_1) == (4, 1, 0.25)
    assert (final.train.total, final.train.passed) == (3, 1)
    assert (final.heldout.total, final.heldout.failed, final.heldout.pass_at_1) == (1, 1, 0.0)
    assert (final.checkpoint, final.completions_path) == ("best", "c.jsonl")
    assert final.isolation == rows[0]["isolation"]


def test_some_problems_and_several_samples(problems: dict[str, Problem], tmp_path: Path) -> None:
    rows = samples(a=GOOD, b=BAD) + samples(a=BAD) + samples(a=BAD, b=BAD)
    events = run_score(rows, problems, tmp_path)
    assert [event.what for event in events if isinstance(event, Notice) and event.level == "info"] == [
        "c.jsonl has completions for 2 of 4 problems"]
    assert [(row["task_id"], row["sample"]) for row in results(tmp_path)] == [
        ("a", 0), ("b", 0), ("a", 1), ("a", 2), ("b", 1)]
    final = events[-1]
    assert isinstance(final, EvaluationCompleted)
    assert (final.overall.total, final.overall.passed) == (2, 1)
    assert final.overall.pass_at_1 == pytest.approx((1 / 3 + 0) / 2, abs=1e-12)
    assert (final.heldout.total, final.heldout.pass_at_1) == (0, None)


def test_unknown_task_ids_run_nothing(problems: dict[str, Problem], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown task ids: x"):
        run_score(samples(a=GOOD, x=GOOD), problems, tmp_path)
    assert not (tmp_path / "r").exists()


def cut_short(rows: list[dict[str, Any]], problems: dict[str, Problem], tmp_path: Path, after: int) -> list[str]:
    """Evaluate and stop when `after` have been executed; returns their task ids."""
    control = ControlInbox()
    stream = score(rows, problems, None, SETTINGS, tmp_path / "r" / "results.jsonl", Path("c.jsonl"), control=control)
    told = (event for event in stream if isinstance(event, ProblemEvaluated))
    done = [next(told).task_id for _ in range(after)]
    control.request(Command.STOP)
    with pytest.raises(StopRequested):
        next(told)
    return done


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the programs that were executed, by a `score` to come."""
    from core.evaluation import scoring

    numbers: list[int] = []

    def execute(programs: Iterable[Program], **settings: Any) -> Any:
        every = list(programs)
        numbers.extend(program.key for program in every)
        return real(every, **settings)

    real = scoring.execute
    monkeypatch.setattr(scoring, "execute", execute)
    return numbers


def test_a_stop_keeps_what_was_executed(problems: dict[str, Problem], tmp_path: Path, executed: list[int]) -> None:
    rows = samples(a=BAD, b=GOOD, c=GOOD, d=BAD)
    before = cut_short(rows, problems, tmp_path, after=2)
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["results.jsonl.journal"]
    executed.clear()
    events = run_score(rows, problems, tmp_path)
    (going_on,) = [event for event in events if isinstance(event, Notice)]
    assert (going_on.level, going_on.what) == ("info", "going on: 2 of 4 were executed before")
    assert ["abcd"[number] for number in executed] == [name for name in "abcd" if name not in before]
    told = [event for event in events if isinstance(event, ProblemEvaluated)]
    assert [(event.done, event.total) for event in told] == [(n, 4) for n in (1, 2, 3, 4)]
    assert [event.task_id for event in told[:2]] == sorted(before)
    assert {event.task_id: event.split for event in told} == {"a": "train", "b": "train", "c": "train", "d": "heldout"}
    assert [(row["task_id"], row["passed"], row["tokens"]) for row in results(tmp_path)] == [
        ("a", False, 7), ("b", True, 7), ("c", True, 7), ("d", False, 7)]
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["results.jsonl"]
    executed.clear()
    run_score(rows, problems, tmp_path)
    assert len(executed) == 4  # a finished evaluation is a new one the next time


@pytest.mark.parametrize("damage", [{"passed": "no"}, {"isolation": None}, {"verdict": "fine"}, {}])
def test_a_damaged_line_of_the_journal_is_executed_again(
    damage: dict[str, Any], problems: dict[str, Problem], tmp_path: Path, executed: list[int]
) -> None:
    rows = samples(a=BAD, b=GOOD)
    cut_short(rows, problems, tmp_path, after=2)
    path = tmp_path / "r" / "results.jsonl.journal"
    who, first, second = map(json.loads, path.read_text().splitlines())
    damaged = {**first, **damage} if damage else {"key": first["key"]}
    path.write_text("".join(json.dumps(row) + "\n" for row in (who, damaged, second)))
    executed.clear()
    run_score(rows, problems, tmp_path)
    assert len(executed) == 1 and [row["passed"] for row in results(tmp_path)] == [False, True]


def test_what_changed_is_executed_again(problems: dict[str, Problem], tmp_path: Path, executed: list[int]) -> None:
    rows = samples(a=GOOD, b=GOOD) + samples(a=GOOD)
    cut_short(rows, problems, tmp_path, after=3)
    executed.clear()
    rows[1] = {**rows[1], "completion": BAD}
    run_score(rows, problems, tmp_path)
    assert executed == [1] and [row["passed"] for row in results(tmp_path)] == [True, False, True]


@pytest.mark.parametrize(("granted_now", "again"), [("namespaces", 3), ("process", 1)])
def test_only_outcomes_of_weaker_isolation_are_executed_again(
    granted_now: str, again: int, problems: dict[str, Problem], tmp_path: Path, executed: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = samples(a=GOOD, b=GOOD, c=GOOD)
    cut_short(rows, problems, tmp_path, after=2)
    executed.clear()
    journal = tmp_path / "r" / "results.jsonl.journal"
    journal.write_text(re.sub(r'"isolation": "\w+"', '"isolation": "process"', journal.read_text()))
    monkeypatch.setattr("core.evaluation.scoring.isolation_level", lambda: granted_now)
    *_, final = run_score(rows, problems, tmp_path)
    assert len(executed) == again
    weakest = min((row["isolation"] for row in results(tmp_path)), key=strength)
    assert isinstance(final, EvaluationCompleted) and final.isolation == weakest
    assert (weakest == "process") == (granted_now == "process")


def test_without_a_split(problems: dict[str, Problem], tmp_path: Path) -> None:
    *_, final = score(samples(a=GOOD), problems, None, SETTINGS, tmp_path / "r" / "results.jsonl", Path("c.jsonl"))
    assert isinstance(final, EvaluationCompleted)
    assert (final.overall.pass_at_1, final.train.pass_at_1, final.heldout.pass_at_1) == (1.0, None, None)


@pytest.mark.parametrize("isolation, level", [("landlock", "info"), ("process", "warning")])
def test_weaker_isolation_is_told_once(
    problems: dict[str, Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str, level: str
) -> None:
    if isolation == "landlock" and landlock.abi() == 0:
        pytest.skip("this kernel has no Landlock")
    from core.evaluation import scoring

    def weakly(programs: Any, **settings: Any) -> Any:
        return execute(programs, isolation=isolation, **settings)

    execute = scoring.execute
    monkeypatch.setattr(scoring, "execute", weakly)
    events = run_score(samples(a=GOOD, b=GOOD, c=GOOD, d=GOOD), problems, tmp_path)
    assert [event.level for event in events if isinstance(event, Notice)] == [level]
    assert results(tmp_path)[0]["isolation"] == isolation
