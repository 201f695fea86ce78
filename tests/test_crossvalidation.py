"""Cross-validation on the tiny model: every problem held out once, the same numbers as alone, and after a stop."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core.cli import build_parser
from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import Command, ControlInbox
from core.contract.errors import DataError, SofttuneError, UsageError
from core.contract.event_log import EventTail
from core.contract.events import (
    CrossValidated,
    Event,
    Notice,
    RunFinished,
    RunStarted,
    RunStopped,
    StepCompleted,
    TrainingPlanned,
    ValidationCompleted,
)
from core.contract.runs import RunFolder, create_run, list_runs
from core.crossvalidation import crossvalidate
from core.data.dataset import prepare_dataset
from core.data.humaneval import load_problems, split_folds
from core.folds import choose_epochs, fold_of
from core.model.checkpoint import load_checkpoint
from core.model.loading import load_model
from core.recorder import record
from core.training.setup import build_trainer

SETTINGS = [
    "hardware.device=cpu", "dataset.max_samples=7", "training.num_epochs=2", "soft_prompts.num_virtual_tokens=4",
    "inference.max_new_tokens=6", "dataset.max_length=2048", "training.batch_size=2", "training.save_every_n_steps=1",
    "training.gradient_accumulation_steps=1",
]


FOLDS = 2


def make_config(model: Path) -> Config:
    return load_config(overrides=[f"model.name={model}", *SETTINGS])


@pytest.fixture
def config(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return make_config(tiny_model_folder)


@pytest.fixture(scope="module")
def finished_run(
    tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunFolder, list[Event]]:
    """A whole cross-validation: where it was run, its folder there, and what it told."""
    place = tmp_path_factory.mktemp("crossvalidation")
    with contextlib.chdir(place):
        config = make_config(tiny_model_folder)
        folder = new_run(config)
        return place, folder, run(config, folder)


@pytest.fixture
def done(
    finished_run: tuple[Path, RunFolder, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> tuple[RunFolder, list[Event]]:
    """That run, with its folder as the present one."""
    place, folder, events = finished_run
    monkeypatch.chdir(place)
    return folder, events


def new_run(config: Config) -> RunFolder:
    return create_run(config, "cv", kind="crossvalidation", folds=FOLDS)


def run(config: Config, folder: RunFolder, until: Callable[[Event], bool] = lambda event: False) -> list[Event]:
    control, events = ControlInbox(folder.control_file), []
    for event in record(crossvalidate(config, folder, FOLDS, control), folder, control):
        events.append(event)
        if until(event):
            control.request(Command.STOP)
    return events


def report_of(events: list[Event]) -> CrossValidated:
    (event,) = [event for event in events if isinstance(event, CrossValidated)]
    return event


def without_names(report: CrossValidated) -> dict[str, Any]:
    return report.model_dump(exclude={"time": True, "folds": {"__all__": {"run_id"}}})


def prompts_of(folder: RunFolder) -> dict[str, torch.Tensor]:
    return {str(path.relative_to(folder.root)): load_checkpoint(path).soft_prompt
            for path in sorted(folder.root.glob("members/*/checkpoints/*.pt"))}


def test_each_problem_is_held_out_in_one_fold_and_trains_in_the_others() -> None:
    problems = list(load_problems().problems)
    splits = split_folds(problems, 5, seed=42)
    heldout = [task for split in splits for task in split.heldout]
    assert sorted(heldout) == sorted(problem.task_id for problem in problems)
    assert sorted(len(split.heldout) for split in splits) == [32, 33, 33, 33, 33]
    for split in splits:
        assert not set(split.train) & set(split.heldout) and len(split.train) + len(split.heldout) == 164
    assert splits != split_folds(problems, 5, seed=43) and splits == split_folds(problems, 5, seed=42)
    with pytest.raises(DataError, match="--folds 165 of 164"):
        split_folds(problems, 165, seed=42)


def test_every_problem_is_scored_by_the_fold_that_held_it_out(done: tuple[RunFolder, list[Event]]) -> None:
    _, events = done
    finished, report = events[-1], report_of(events)
    assert isinstance(finished, RunFinished) and finished.evaluation and finished.baseline, finished
    assert finished.evaluation.heldout.total == report.score.total == 7 and finished.evaluation.train.total == 0
    assert [fold.heldout_problems for fold in report.folds] == [4, 3] and "7 held-out" in finished.verdict
    rows = [json.loads(line) for line in Path(finished.evaluation.results_path).read_text().splitlines()]
    for row in rows:
        fold = RunFolder(Path(row["checkpoint"]).parents[1])
        split = fold.read_record().split
        assert split and row["task_id"] in split.heldout and row["split"] == "heldout"
        assert f"/members/{fold.root.name}/" in row["checkpoint"]
    # the pooled loss is the mean over all supervised tokens, so between the best and the worst fold
    losses = [fold.heldout_loss for fold in report.folds]
    assert min(losses) < report.heldout_loss < max(losses)
    assert "finished" in [run.state for run in list_runs()] and not Path("soft_prompts").exists()


def test_each_fold_learns_what_it_would_learn_alone_and_has_a_run_folder(done: tuple[RunFolder, list[Event]]) -> None:
    folder, events = done
    loaded = load_model(folder.read_config())
    for number, fold in enumerate(folder.members()):
        told = EventTail(fold.events_file).read()
        assert isinstance(told[0], RunStarted) and isinstance(told[-1], RunFinished)
        assert any(isinstance(event, TrainingPlanned) for event in told)
        mine = [event for event in events if isinstance(event, StepCompleted) and event.member == number]
        assert {event.name for event in mine} == {fold.root.name}
        curve = [event.loss for event in told if isinstance(event, StepCompleted)]
        assert curve == [event.loss for event in mine] and len(curve) == 4
        alone = create_run(folder.read_config(), f"alone-{number}")
        dataset = prepare_dataset(folder.read_config(), alone, fold_of(FOLDS, number))
        assert dataset.split == fold.read_record().split
        trainer = build_trainer(fold.read_config(), loaded, dataset, alone, ControlInbox(), None)
        expected = [event.loss for event in trainer.fit() if isinstance(event, StepCompleted)]
        assert curve == pytest.approx(expected, rel=1e-5)
        assert fold.read_record().state == "finished" and fold.read_config().evaluation.early_stopping_patience is None


def test_one_that_was_stopped_goes_on_to_the_same_report(
    finished_run: tuple[Path, RunFolder, list[Event]], config: Config
) -> None:
    place, undisturbed, events = finished_run
    expected, undisturbed = report_of(events), RunFolder(place / undisturbed.root)
    folder = new_run(config)
    in_training = run(config, folder, lambda event: isinstance(event, StepCompleted) and event.step == 3)
    assert isinstance(in_training[-1], RunStopped)
    assert {fold.read_record().state for fold in folder.members()} == {"stopped"}
    in_scoring = run(config, folder, lambda event: event.type == "ProblemEvaluated" and event.done == 2)
    assert isinstance(in_scoring[-1], RunStopped)
    last = run(config, folder)
    assert without_names(report_of(last)) == without_names(expected)
    ours, theirs = prompts_of(folder), prompts_of(undisturbed)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    validations = [event for fold in folder.members() for event in EventTail(fold.events_file).read()
                   if isinstance(event, ValidationCompleted) and event.epoch == 1]
    assert len(validations) == FOLDS  # none was made twice


def test_why_steps_take_long_is_told_once_and_stands_in_the_log_of_each_fold(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(events: list[Event]) -> int:
        return sum(isinstance(event, Notice) and "through transformers' layers" in event.what for event in events)

    monkeypatch.setattr("core.training.setup.row_passes", lambda *arguments: None)
    folder = new_run(config)
    assert told(run(config, folder, lambda event: isinstance(event, StepCompleted))) == 1
    assert [told(EventTail(fold.events_file).read()) for fold in folder.members()] == [1] * FOLDS


def test_what_a_fold_is_measured_on_has_no_say_in_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [{1: 1.0, 2: 5.0, 3: 3.5}, {1: 4.0, 2: 1.0, 3: 2.0}, {1: 4.0, 2: 2.5, 3: 2.0}]
    example = SimpleNamespace(target=(1, 2, 3))
    seats: list[Any] = [SimpleNamespace(number=i, trained=SimpleNamespace(heldout=[example])) for i in range(3)]
    monkeypatch.setattr("core.folds.heldout_losses", lambda seat: losses[seat.number])
    # the first fold's own best is epoch 1, and epoch 3 is the best of all three together
    assert choose_epochs(seats) == [(2, 5.0), (1, 4.0), (1, 4.0)]
    losses[1] = {1: float("nan"), 2: float("nan"), 3: float("nan")}
    with pytest.raises(SofttuneError, match="no epoch"):
        choose_epochs(seats)


@pytest.mark.usefixtures("config")
def test_the_command_refuses_what_cannot_be_cross_validated() -> None:
    for arguments, words in (
        (["--folds", "1"], "--folds 1"),
        (["--folds", "5", "--set", "dataset.max_samples=4"], "at most 4"),
        (["--set", "dataset.evaluation_path=other.jsonl"], "dataset.evaluation_path is set"),
    ):
        options = build_parser().parse_args(["crossvalidate", *arguments])
        with pytest.raises(UsageError, match=words):
            options.run(options)
    assert not Path("runs").exists()
