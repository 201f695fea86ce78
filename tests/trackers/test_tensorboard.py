"""TensorBoard, by what its own reader finds."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest

from core.contract import events as ev
from core.contract.event_log import EventLog
from core.contract.runs import RunFolder
from core.trackers import tensorboard
from core.trackers.tracker import TrackedRun
from core.trackers.tracking import tracked
from tests.trackers.told import a_run, training

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of steps that it leaves out


def read(folder: Path) -> reader.EventAccumulator:  # type: ignore[name-defined]
    found = reader.EventAccumulator(str(folder))
    found.Reload()
    return found


def text(found: reader.EventAccumulator, tag: str) -> str:  # type: ignore[name-defined]
    return str(found.Tensors(tag)[-1].tensor_proto.string_val[0].decode())


def killed_after(folder: RunFolder, last: int) -> None:
    """Show and record a run of which nothing is told after a step."""
    log, events = EventLog(folder.events_file), tracked(training(folder.run_id), folder.read_config(), folder)
    for event in events:
        log.append(event)
        if isinstance(event, ev.StepCompleted) and event.step == last:
            break
    events.close()  # type: ignore[attr-defined]
    log.close()


def test_a_resumed_run_has_each_step_once_with_its_config_and_what_it_came_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.trackers.tracking.LEAVING_SECONDS", 20.0)
    folder = a_run("tensorboard")
    killed_after(folder, 3)
    list(tracked(training(folder.run_id, resumed=1), folder.read_config(), folder))
    found = read(Path("logs/tracking") / folder.run_id)
    assert [(point.step, point.value) for point in found.Scalars("train/loss")] == [
        (n, pytest.approx(1 / n)) for n in (1, 2, 3, 4)]
    assert [point.step for point in found.Scalars("heldout/loss")] == [0, 2, 4]
    assert [(point.step, point.value) for point in found.Scalars("pass@1/heldout")] == [(4, 0.5)]
    assert "learning_rate: 0.01" in text(found, "config")
    summary = json.loads(text(found, "summary").removeprefix("```json\n").removesuffix("\n```"))
    assert (summary["outcome"], summary["verdict"], summary["passed/all"]) == ("finished", "no better", 3)


def test_members_lie_inside_their_run_and_what_is_no_number_is_shown_as_such() -> None:
    member = a_run("tensorboard").member("fold-01")
    member.root.mkdir(parents=True)
    (member.root / "config.yml").write_text("logging:\n  directory: elsewhere/tb\n")
    run = tensorboard.open_run(TrackedRun(str(member.root), grouped=True, first_step=1, resumed=False))
    run.scalars(1, {"train/loss": math.nan, "train/grad_norm": math.inf})
    run.close("failed")
    found = read(Path("elsewhere/tb") / member.root.parents[1].name / "fold-01")
    assert math.isnan(found.Scalars("train/loss")[0].value) and math.isinf(found.Scalars("train/grad_norm")[0].value)
