"""The demo on the real weights: a short form, and the whole of it (`make test-real`)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.contract.config_file import load_config
from core.contract.estimate import estimate_memory, gigabytes, model_shape
from core.contract.events import Event, parse_event

pytestmark = pytest.mark.real_model


def demo(folder: Path, *overrides: str) -> list[Event]:
    """Run the demo headless and give its events."""
    settings = [part for text in overrides for part in ("--set", text)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "core", "train", "--demo", "--json", *settings], cwd=folder, capture_output=True,
        text=True, check=True,
    )
    events: Any = [parse_event(line) for line in done.stdout.splitlines()]
    assert all(events)
    return events  # type: ignore[no-any-return]


def first(events: list[Event], kind: str) -> Any:
    return next(event for event in events if event.type == kind)


def test_the_demo_in_short(tmp_path: Path) -> None:
    events = demo(tmp_path, "dataset.max_samples=5", "inference.max_new_tokens=8", "training.num_epochs=1")
    loaded = first(events, "ModelLoaded")
    assert (loaded.trainable_parameters, loaded.frozen_parameters) == (11_520, 134_515_008)
    assert first(events, "EvaluationCompleted").overall.total == 5
    assert events[-1].type == "RunFinished"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("changed", ["training.batch_size=2", "training.batch_size=1", "dataset.max_length=200"])
def test_the_memory_is_what_was_estimated(changed: str, tmp_path: Path) -> None:
    """On a CPU, within 15 %: peak resident bytes of a whole epoch, the longest problem among its rows."""
    settings = [changed, "training.num_epochs=1", "evaluation.score_after_training=false"]
    config = load_config(overrides=settings, demo=True)
    shape = model_shape(config.model)
    assert shape is not None
    estimated = estimate_memory(config, shape, "cpu", 131).total
    peaks = [event.memory.peak for event in demo(tmp_path, *settings) if event.type == "StepCompleted"]
    print(f"{changed}: estimated {gigabytes(estimated)}, measured {gigabytes(max(peaks))}")
    assert max(peaks) == pytest.approx(estimated, rel=0.15)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_learns_and_its_completions_are_scored(tmp_path: Path) -> None:
    events = demo(tmp_path)
    validations: Any = [event for event in events if event.type == "ValidationCompleted"]
    untrained, trained = validations[0].loss, validations[-1].loss
    print(f"held-out loss {untrained:.4f} untrained, {trained:.4f} trained; {events[-1].time - events[0].time:.0f} s")
    assert trained < untrained - 0.2
    score = first(events, "EvaluationCompleted")
    assert (score.overall.total, score.train.total, score.heldout.total) == (164, 131, 33)
    rows = (tmp_path / "results" / "completions_soft_prompts.jsonl").read_text().splitlines()
    assert len({json.loads(row)["task_id"] for row in rows}) == 164
