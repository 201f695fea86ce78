"""The model alone beside a soft prompt: scored once, found again, and never a run's own scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.baseline import BASELINES
from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import ControlInbox
from core.contract.errors import DataError
from core.contract.events import (
    BaselineCompleted,
    CompletionGenerated,
    EvaluationCompleted,
    Event,
    Notice,
    ProblemEvaluated,
    Progress,
    RunFinished,
)
from core.contract.runs import RunFolder, create_run
from core.contract.wording import describe
from core.jobs import train
from core.recorder import record


@pytest.fixture
def config(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return load_config(overrides=[
        f"model.name={tiny_model_folder}", "hardware.device=cpu", "dataset.max_samples=6", "training.num_epochs=1",
        "soft_prompts.num_virtual_tokens=4", "inference.max_new_tokens=8", "dataset.max_length=2048",
    ])


def run(config: Config) -> tuple[RunFolder, list[Event]]:
    folder = create_run(config, "job")
    return folder, list(record(train(config, folder, ControlInbox(folder.control_file)), folder))


def one(events: list[Event]) -> BaselineCompleted:
    (event,) = [event for event in events if isinstance(event, BaselineCompleted)]
    return event


def test_a_run_ends_with_the_model_alone_beside_it(config: Config) -> None:
    folder, events = run(config)
    finished = events[-1]
    assert isinstance(finished, RunFinished) and finished.baseline is not None
    assert finished.baseline.overall.total == 6 and finished.baseline.heldout.total == 2
    assert finished.verdict.startswith("2 held-out: the same problems pass")
    told = "\n".join(describe(finished))
    assert told.count("  model alone") == 3 and finished.verdict in told
    # what the run itself did is told apart from it
    assert sum(isinstance(event, CompletionGenerated | ProblemEvaluated) for event in events) == 2 * 6
    assert [event.checkpoint for event in events if isinstance(event, EvaluationCompleted)] != ["the model alone"]
    assert {event.stage for event in events if isinstance(event, Progress) and event.detail == "the model alone"} == {
        "completing", "scoring"}
    rows = [json.loads(line) for line in Path(finished.baseline.results_path).read_text().splitlines()]
    assert len(rows) == 6 and all(row["checkpoint"] == "" and row["split"] == "" for row in rows)


def test_it_is_made_once_for_the_same_settings_and_again_for_others(config: Config) -> None:
    _, first = run(config)
    seed = config.model_copy(update={"training": config.training.model_copy(update={"learning_rate": 0.5})})
    _, second = run(seed)
    assert not one(first).known_before and one(second).known_before
    assert one(second).evaluation.overall == one(first).evaluation.overall
    shorter = config.model_copy(update={"inference": config.inference.model_copy(update={"max_new_tokens": 7})})
    _, third = run(shorter)
    assert not one(third).known_before and len(list(BASELINES.iterdir())) == 2


def test_one_that_fails_does_not_fail_the_run(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Iterator[Event]:
        raise DataError("another process evaluates", "wait for it")
        yield

    with monkeypatch.context() as patched:
        patched.setattr("core.baseline.score", broken)
        _, events = run(config)
    finished = events[-1]
    assert isinstance(finished, RunFinished) and finished.baseline is None and finished.evaluation is not None
    assert not finished.verdict
    assert [event.what for event in events if isinstance(event, Notice) and "alone" in event.what] == [
        "the model alone was not scored: another process evaluates"]
    completions = next(BASELINES.glob("*/completions.jsonl"))
    made = completions.stat().st_mtime_ns
    _, events = run(config)
    assert not one(events).known_before and completions.stat().st_mtime_ns == made  # it is scored, not completed again


def test_it_can_be_left_out(config: Config) -> None:
    without = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"score_baseline": False})})
    _, events = run(without)
    assert not any(isinstance(event, BaselineCompleted) for event in events) and not BASELINES.exists()
