"""Scoring: events, the results file, and the scores of several samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.contract.config import EvaluationSettings
from core.contract.control import Command, ControlInbox, StopRequested
from core.contract.errors import DataError
from core.contract.events import EvaluationCompleted, Event, Notice, ProblemEvaluated, event_line, parse_event
from core.contract.runs import Split
from core.data.humaneval import Problem
from core.evaluation.scoring import score
from core.evaluation.tally import tally

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
        "seconds", "split", "sample", "isolation",
    }
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


def test_one_sample_each_is_passed_by_total() -> None:
    rows = [{"task_id": str(n), "passed": n < 7} for n in range(164)]
    assert tally(rows).pass_at_1 == 7 / 164


def test_unknown_task_ids_run_nothing(problems: dict[str, Problem], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown task ids: x"):
        run_score(samples(a=GOOD, x=GOOD), problems, tmp_path)
    assert not (tmp_path / "r").exists()


def test_a_stop_writes_nothing(problems: dict[str, Problem], tmp_path: Path) -> None:
    control = ControlInbox()
    stream = score(samples(a=GOOD, b=SLOW, c=SLOW, d=SLOW), problems, None, SETTINGS, tmp_path / "r" / "results.jsonl",
                   Path("c.jsonl"), control=control)
    next(event for event in stream if isinstance(event, ProblemEvaluated))
    control.request(Command.STOP)
    with pytest.raises(StopRequested):
        list(stream)
    assert not (tmp_path / "r").exists()


def test_without_a_split(problems: dict[str, Problem], tmp_path: Path) -> None:
    *_, final = score(samples(a=GOOD), problems, None, SETTINGS, tmp_path / "r" / "results.jsonl", Path("c.jsonl"))
    assert isinstance(final, EvaluationCompleted)
    assert (final.overall.pass_at_1, final.train.pass_at_1, final.heldout.pass_at_1) == (1.0, None, None)


def test_weak_isolation_is_told(problems: dict[str, Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.evaluation import scoring

    def weakly(programs: Any, **settings: Any) -> Any:
        return execute(programs, isolation="process", **settings)

    execute = scoring.execute
    monkeypatch.setattr(scoring, "execute", weakly)
    events = run_score(samples(a=GOOD, b=GOOD, c=GOOD, d=GOOD), problems, tmp_path)
    assert [event.level for event in events if isinstance(event, Notice)] == ["warning"]
    assert results(tmp_path)[0]["isolation"] == "process"
