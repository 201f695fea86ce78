"""What a training run does when something goes wrong: bad numbers, full disks, damaged checkpoints, no memory."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core import storage
from core.contract.control import Command, StopRequested
from core.contract.errors import CheckpointError, NewerFormat, OutOfMemory, SofttuneError
from core.contract.events import (
    CheckpointSaved,
    Event,
    Notice,
    RunPaused,
    RunResumed,
    StepCompleted,
    ValidationCompleted,
)
from core.contract.runs import RunFolder
from core.data.batches import Row
from core.model.checkpoint import load_checkpoint
from core.training import checkpoints as writing
from core.training.checkpoints import load_best, load_last
from core.training.loop import Trainer
from core.training.passes import Pieces
from core.training.profile import untimed
from tests.training.conftest import MakeTrainer

NINE_STEPS = ["training.batch_size=2", "training.gradient_accumulation_steps=1", "training.num_epochs=1"]


def folder_of(trainer: Trainer) -> RunFolder:
    return trainer.members[0].checkpoints.folder


def weight(trainer: Trainer) -> torch.Tensor:
    return trainer.members[0].soft_prompt.weight.detach().clone()


def curve(events: Sequence[Event]) -> dict[tuple[str, int], float]:
    kept = [event for event in events if isinstance(event, StepCompleted | ValidationCompleted)]
    return {(event.type, event.step): event.loss for event in kept}


class Numbers:
    """Passes whose n-th gradient and loss are what is said of them; else a gradient of ones, and losses of 1."""

    def __init__(self, bad: dict[int, tuple[float, float]]) -> None:
        self.section, self.bad, self.steps = untimed, bad, 0

    def gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        yield len(rows)
        self.steps += 1
        gradient, loss = self.bad.get(self.steps, (1.0, 1.0))
        for prompt in prompts:
            prompt.grad = torch.full_like(prompt, gradient)
        return torch.full((len(prompts),), loss)

    def loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        yield len(rows)
        return torch.ones(len(prompts))


# Going on in the middle of an epoch


def test_last_is_written_every_n_steps_and_goes_on_to_the_same_bits(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(*NINE_STEPS, "training.save_every_n_steps=4")
    folder, kept, events = folder_of(trainer), {}, []
    for event in trainer.fit():
        events.append(event)
        if isinstance(event, CheckpointSaved) and event.path.endswith("last.pt"):
            kept[event.step] = shutil.copy(event.path, tmp_path / f"{event.step}.pt")
    assert list(kept) == [4, 8, 10]
    for step in (4, 8):
        again = make_trainer(folder=folder, last=load_checkpoint(Path(kept[step])))
        more = list(again.fit())
        assert min(event.step for event in more if isinstance(event, StepCompleted)) == step + 1
        assert {key: loss for key, loss in curve(events).items() if key in curve(more)} == curve(more)
        assert torch.equal(weight(again), weight(trainer)) and again.members[0].standing == trainer.members[0].standing
        ours, theirs = (one.members[0].optimizer.state_dict()["state"][0] for one in (again, trainer))
        assert all(torch.equal(ours[key], theirs[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


CHOICES = [
    ["training.optimizer=sgd", "training.schedule=cosine"],
    ["training.optimizer=adafactor", "training.schedule=constant", "training.learning_rate=0.3"],
    ["training.label_smoothing=0.1", "soft_prompts.init_text=def"],
    ["soft_prompts.reparameterisation=residual"],
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice[0].partition("=")[2])
def test_every_way_to_learn_goes_on_to_the_same_bits(choice: list[str], make_trainer: MakeTrainer) -> None:
    trainer, kept = make_trainer(*NINE_STEPS, *choice, "training.save_every_n_steps=6"), None
    events = []
    for event in trainer.fit():
        events.append(event)
        if isinstance(event, CheckpointSaved) and event.step == 6:
            kept = load_checkpoint(Path(event.path))
    assert kept is not None
    again = make_trainer(folder=folder_of(trainer), last=kept)
    more = list(again.fit())
    steps = [event.step for event in more if isinstance(event, StepCompleted)]
    assert steps == [7, 8, 9, 10] and curve(more).items() <= curve(events).items()
    ours, theirs = (one.members[0].soft_prompt.state_dict() for one in (again, trainer))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_last_without_its_network_is_told(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=1", "soft_prompts.reparameterisation=residual")
    list(trainer.fit())
    folder = folder_of(trainer)
    content = torch.load(folder.checkpoints / "last.pt", weights_only=True)
    del content["training"]["reparameterisation"]["rows"]
    torch.save(content, folder.checkpoints / "last.pt")
    with pytest.raises(CheckpointError, match=r"the state of training in .*last\.pt cannot be used"):
        make_trainer(folder=folder, last=load_last(folder)[0])


def test_the_state_of_random_numbers_comes_back(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=1")
    list(trainer.fit())
    torch.manual_seed(7)
    trainer.members[0].save_last()
    expected = torch.rand(3)
    torch.manual_seed(8)
    folder = folder_of(trainer)
    make_trainer(folder=folder, last=load_last(folder)[0])
    assert torch.equal(torch.rand(3), expected)


# Damaged checkpoints


def test_a_damaged_last_is_named_and_the_one_before_is_taken(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(*NINE_STEPS, "training.save_every_n_steps=4")
    events = list(trainer.fit())
    folder = folder_of(trainer)
    (folder.checkpoints / "last.pt").write_bytes(b"PK\x03\x04" + bytes(1000))
    last, (notice,) = load_last(folder)
    assert last is not None and last.step == 8
    assert f"{folder.checkpoints}/last.pt is damaged" in notice.what and "last.pt.previous" in notice.remedy
    again = make_trainer(folder=folder, last=last)
    assert curve(list(again.fit())).items() <= curve(events).items() and torch.equal(weight(again), weight(trainer))
    assert load_last(folder)[0].step == 10 and (folder.checkpoints / "last.pt.damaged").exists()  # type: ignore[union-attr]
    assert load_checkpoint(folder.checkpoints / "last.pt.previous").step == 8, "the damaged one is not the one before"


def test_with_both_damaged_the_error_names_both(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(*NINE_STEPS, "training.save_every_n_steps=4")
    list(trainer.fit())
    folder = folder_of(trainer)
    for name in ("last.pt", "last.pt.previous"):
        (folder.checkpoints / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged.*last\.pt\.previous is damaged"):
        load_last(folder)


def test_a_run_without_a_checkpoint_begins_anew(make_trainer: MakeTrainer) -> None:
    assert load_last(folder_of(make_trainer())) == (None, [])


def test_a_last_of_a_newer_format_is_refused_and_stays_where_it_is(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=1")
    list(trainer.fit())
    file = folder_of(trainer).checkpoints / "last.pt"
    torch.save({**torch.load(file, weights_only=True), "format_version": 99}, file)
    with pytest.raises(NewerFormat, match=r"last\.pt has format version 99"):
        load_last(folder_of(trainer))
    assert file.exists()


def test_a_last_that_was_removed_is_not_replaced_by_beginning_again(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=2")
    list(trainer.fit())
    folder = folder_of(trainer)
    for name in ("last.pt", "last.pt.previous"):
        (folder.checkpoints / name).unlink()
    with pytest.raises(CheckpointError, match=r"has epoch_0002\.pt, and no last\.pt"):
        load_last(folder)
    (folder.checkpoints / "epoch_0002.pt").unlink()
    assert load_last(folder) == (None, []), "as a kill in the first epoch leaves it"


def test_a_damaged_best_is_named_and_its_epoch_is_taken(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    list(trainer.fit())
    folder, epoch = folder_of(trainer), trainer.members[0].standing.best_epoch
    best, notices = load_best(folder, epoch)
    assert notices == []
    content = bytearray((folder.checkpoints / "best.pt").read_bytes())
    content[content.index(best.soft_prompt.numpy().tobytes()) + 5] ^= 1
    (folder.checkpoints / "best.pt").write_bytes(content)
    same, (notice,) = load_best(folder, epoch)
    assert torch.equal(same.soft_prompt, best.soft_prompt) and "best.pt is damaged" in notice.what
    (folder.checkpoints / f"epoch_{epoch:04d}.pt").unlink()
    with pytest.raises(CheckpointError, match=r"best\.pt is damaged"):
        load_best(folder, epoch)


def test_a_state_of_training_that_is_none_is_told(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=1")
    list(trainer.fit())
    folder = folder_of(trainer)
    content = torch.load(folder.checkpoints / "last.pt", weights_only=True)
    for training in ({"optimizer": {}}, {**content["training"], "standing": {"speed": 1}}):
        torch.save({**content, "training": training}, folder.checkpoints / "last.pt")
        with pytest.raises(CheckpointError, match=r"the state of training in .*last\.pt cannot be used"):
            make_trainer(folder=folder, last=load_last(folder)[0])


# Bad numbers


@pytest.mark.parametrize(("gradient", "loss"), [(math.nan, math.nan), (math.inf, 1.0), (1.0, math.inf)])
def test_a_step_with_bad_numbers_changes_nothing_and_is_counted(
    gradient: float, loss: float, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer(*NINE_STEPS)
    trainer.passes = Numbers({3: (gradient, loss)})
    weights, notices, skipped = {}, [], {}
    for event in trainer.fit():
        if isinstance(event, StepCompleted):
            weights[event.step], skipped[event.step] = weight(trainer), event.skipped
        if isinstance(event, Notice):
            notices.append(event)
    assert torch.equal(weights[3], weights[2]) and not torch.equal(weights[4], weights[3])
    assert [skipped[step] for step in (2, 3, 4, 10)] == [0, 1, 1, 1]
    assert len(notices) == 1 and "step 3 was skipped" in notices[0].what


def test_a_run_that_is_given_up_leaves_its_last_good_prompt_and_may_be_tried_again(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(*NINE_STEPS, "training.num_epochs=4", "training.save_every_n_steps=5")
    trainer.passes = Numbers({step: (math.nan, math.nan) for step in range(13, 99)})
    good, told = None, []
    with pytest.raises(SofttuneError, match="10 steps in a row"):
        for event in trainer.fit():
            told.append(event)
            if isinstance(event, StepCompleted) and event.step == 12:
                good = weight(trainer)
    assert isinstance(told[-1], CheckpointSaved) and told[-1].path.endswith("last.pt")
    last, _ = load_last(folder_of(trainer))
    assert last is not None and good is not None and torch.equal(last.soft_prompt, good) and last.step == 22
    again = make_trainer(folder=folder_of(trainer), last=last)
    again.passes = Numbers({1: (math.nan, math.nan)})
    events = list(again.fit())
    assert [event.skipped for event in events if isinstance(event, StepCompleted)][-1] == 11
    assert again.members[0].is_done and again.members[0].failure is None


# Full disks


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """full("best.pt", 3): the next three times a checkpoint of this name is written there is no room."""
    left: dict[str, int] = {}
    save = writing.save_checkpoint

    def save_if_there_is_room(checkpoint: Any, path: Path, previous: Path | None = None) -> None:
        if left.get(path.name, 0):
            left[path.name] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(checkpoint, path, previous)

    monkeypatch.setattr(writing, "save_checkpoint", save_if_there_is_room)
    monkeypatch.setattr(storage, "POLL_SECONDS", 0.001)
    return left.__setitem__


@pytest.mark.parametrize("name", ["epoch_0001.pt", "best.pt", "last.pt"])
def test_training_waits_for_room_and_goes_on_to_the_same_bits(
    name: str, disk: Callable[[str, int], None], make_trainer: MakeTrainer
) -> None:
    whole = make_trainer()
    expected = list(whole.fit())
    trainer = make_trainer()
    disk(name, 3)
    events = list(trainer.fit())
    waiting = [event for event in events if isinstance(event, Notice | RunPaused | RunResumed)]
    assert [event.type for event in waiting if event not in expected][-3:] == ["Notice", "RunPaused", "RunResumed"]
    assert any(isinstance(event, RunPaused) and name in event.reason for event in events)
    assert curve(events) == curve(expected) and torch.equal(weight(trainer), weight(whole))
    assert trainer.members[0].standing == whole.members[0].standing


@pytest.mark.parametrize(("name", "room"), [("epoch_0001.pt", True), ("best.pt", True), ("last.pt", False)])
def test_a_stop_while_there_is_no_room(
    name: str, room: bool, disk: Callable[[str, int], None], make_trainer: MakeTrainer
) -> None:
    whole = make_trainer(*NINE_STEPS, "training.save_every_n_steps=4")
    expected = list(whole.fit())
    trainer, events = make_trainer(*NINE_STEPS, "training.save_every_n_steps=4"), []
    with pytest.raises(StopRequested):
        for event in trainer.fit():
            events.append(event)
            if isinstance(event, StepCompleted) and event.step == 9:
                disk(name, 10**6)
            if isinstance(event, RunPaused):
                trainer.control.request(Command.STOP)
    assert isinstance(events[-1], CheckpointSaved if room else Notice)
    last, _ = load_last(folder_of(trainer))
    assert last is not None and last.step == (10 if room else 8)
    disk(name, 0)
    again = make_trainer(folder=folder_of(trainer), last=last)
    more = list(again.fit())
    assert curve(more).items() <= curve(expected).items()
    assert again.members[0].standing == whole.members[0].standing, "no validation counts twice"
    assert torch.equal(load_checkpoint(folder_of(again).checkpoints / "best.pt").soft_prompt, weight(whole))


def test_a_run_folder_that_is_gone_is_not_made_again(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer()
    folder_of(trainer).root.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        trainer.members[0].save_last()
    assert not folder_of(trainer).root.exists()


# No memory


def test_without_memory_for_one_row_a_run_ends_with_a_checkpoint_and_figures(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(*NINE_STEPS)
    steps, real = [0], trainer.passes.gradient

    def less_and_less(prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        steps[0] += 1
        if steps[0] == 4:
            monkeypatch.setattr(type(trainer.passes), "_gradient", without_memory, raising=False)
        return real(prompts, rows)

    def without_memory(*_: object) -> Pieces:
        raise torch.OutOfMemoryError("no room")
        yield 0

    monkeypatch.setattr(trainer.passes, "gradient", less_and_less)
    events: list[Event] = []
    with pytest.raises(OutOfMemory, match=r"a single row of \d+ tokens: it needs about .* are free"):
        events += iter(trainer.fit())  # type: ignore[arg-type]
    last, _ = load_last(folder_of(trainer))
    assert last is not None and last.step == 3
