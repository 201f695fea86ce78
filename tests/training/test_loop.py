"""What a training run does: checkpoints, best, early stopping, stop and resume, bad numbers."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from core.contract.control import Command, StopRequested
from core.contract.errors import SofttuneError
from core.contract.events import CheckpointSaved, EpochCompleted, Event, Notice, StepCompleted, ValidationCompleted
from core.data.batches import Row
from core.model.checkpoint import load_checkpoint
from core.training.passes import Pieces
from core.training.profile import untimed
from tests.training.conftest import MakeTrainer


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.pt")}


def test_a_run_tells_its_steps_and_writes_its_checkpoints(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.batch_size=2")
    events = list(trainer.fit())
    steps = [event for event in events if isinstance(event, StepCompleted)]
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6] and {step.total_steps for step in steps} == {6}
    assert [step.epoch for step in steps] == [1, 1, 1, 2, 2, 2]
    assert [event.epoch for event in events if isinstance(event, ValidationCompleted)] == [0, 1, 2]
    folder = trainer.members[0].checkpoints.folder
    assert names(folder.checkpoints) == {"epoch_0001.pt", "epoch_0002.pt", "best.pt", "last.pt"}
    assert names(Path("soft_prompts")) == {
        "best_soft_prompts.pt", "soft_prompts_epoch_1.pt", "soft_prompts_epoch_2.pt",
    }
    last = load_checkpoint(folder.checkpoints / "last.pt")
    assert last.metrics == load_checkpoint(folder.checkpoints / "epoch_0002.pt").metrics
    best = load_checkpoint(Path("soft_prompts/best_soft_prompts.pt"))
    assert best.metrics["heldout_loss"] == trainer.members[0].standing.best_loss
    assert best.metrics["heldout_perplexity"] == pytest.approx(math.exp(trainer.members[0].standing.best_loss or 0))
    assert len(best.split.train) == 19 and len(best.split.heldout) == 5


def test_save_best_only_keeps_best_and_last(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("evaluation.save_best_only=true")
    list(trainer.fit())
    assert names(trainer.members[0].checkpoints.folder.checkpoints) == {"best.pt", "last.pt"}


def test_a_newer_run_replaces_the_published_epochs_of_an_older_one(make_trainer: MakeTrainer) -> None:
    list(make_trainer("training.num_epochs=3").fit())
    Path("soft_prompts/soft_prompts_epoch_9.pt").write_bytes(b"somebody else's")
    list(make_trainer("training.num_epochs=1").fit())
    assert names(Path("soft_prompts")) == {
        "best_soft_prompts.pt", "soft_prompts_epoch_1.pt", "soft_prompts_epoch_9.pt",
    }


def test_validation_follows_its_interval_and_the_last_epoch(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=3", "evaluation.eval_every_n_epochs=2")
    assert [e.epoch for e in trainer.fit() if isinstance(e, ValidationCompleted)] == [0, 2, 3]


class FakePasses:
    """Stand-in passes: validations cost what `heldout` says; a gradient is ones, and its loss 1."""

    def __init__(self, *heldout: float) -> None:
        self.section = untimed
        self.heldout = iter(heldout)
        self.poisoned: Callable[[int], bool] = lambda step: False
        self.steps = 0

    def gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        yield len(rows)
        self.steps += 1
        for prompt in prompts:
            prompt.grad = torch.full_like(prompt, math.nan if self.poisoned(self.steps) else 1.0)
        return torch.ones(len(prompts))

    def loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        yield len(rows)
        return torch.tensor([next(self.heldout) for _ in prompts])


def test_an_epoch_takes_the_time_of_all_its_steps(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer("training.batch_size=2")
    trainer.passes = passes = FakePasses(*[1.0] * 3)
    monkeypatch.setattr("core.training.member.time", SimpleNamespace(perf_counter=lambda: float(passes.steps)))
    assert [event.seconds for event in trainer.fit() if isinstance(event, EpochCompleted)] == [3.0, 3.0]


def test_early_stopping_counts_validations_without_a_best(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=9", "evaluation.early_stopping_patience=2")
    trainer.passes = FakePasses(5.0, 3.0, 2.0, 2.5, 2.0, 1.0)
    events = list(trainer.fit())
    validations = [event for event in events if isinstance(event, ValidationCompleted)]
    assert [event.is_best for event in validations] == [False, True, True, False, False]
    assert [event.previous_best for event in validations] == [None, None, 3.0, 2.0, 2.0]
    assert isinstance(events[-1], Notice) and "2.0000 of epoch 2" in events[-1].what


def test_an_early_stopped_run_that_is_resumed_trains_no_further(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=9", "evaluation.early_stopping_patience=1")
    trainer.passes = FakePasses(5.0, 3.0, 4.0)
    list(trainer.fit())
    folder = trainer.members[0].checkpoints.folder
    again = make_trainer(folder=folder, last=load_checkpoint(folder.checkpoints / "last.pt"))
    again.passes = FakePasses()
    assert [event.type for event in again.fit()] == ["Notice"]


@pytest.mark.parametrize("stop_at", [1, 3, 4, 6, 9, 10])
def test_a_stopped_run_goes_on_to_the_same_bits(stop_at: int, make_trainer: MakeTrainer) -> None:
    whole = make_trainer("training.batch_size=2")
    expected = losses(list(whole.fit()))
    trainer = make_trainer("training.batch_size=2")
    seen: list[Event] = []
    with pytest.raises(StopRequested):
        for count, event in enumerate(trainer.fit(), start=1):
            seen.append(event)
            if count == stop_at + 3:
                trainer.control.request(Command.STOP)
    assert isinstance(seen[-1], CheckpointSaved) and seen[-1].path.endswith("last.pt")
    folder = trainer.members[0].checkpoints.folder
    again = make_trainer(folder=folder, last=load_checkpoint(folder.checkpoints / "last.pt"))
    assert (losses(seen) | losses(list(again.fit()))) == expected
    assert torch.equal(again.members[0].soft_prompt.weight, whole.members[0].soft_prompt.weight)
    assert again.members[0].standing == whole.members[0].standing


def losses(events: list[Event]) -> dict[tuple[str, int], float]:
    kept = [event for event in events if isinstance(event, StepCompleted | ValidationCompleted)]
    return {(event.type, event.step): event.loss for event in kept}


def test_pausing_stops_between_micro_batches(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.batch_size=1", "training.gradient_accumulation_steps=8")
    events = trainer.fit()
    for event in events:
        if event.type == "Progress" and event.stage == "training":
            break
    trainer.control.request(Command.PAUSE)
    assert next(events).type == "RunPaused"
    trainer.control.request(Command.RESUME)
    assert next(events).type == "RunResumed"
    trainer.control.request(Command.STOP)
    assert next(events).type == "CheckpointSaved"


def test_a_step_without_finite_numbers_is_skipped_and_told(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=9", "evaluation.early_stopping_patience=null")
    trainer.passes = passes = FakePasses(*[1.0] * 10)
    passes.poisoned = lambda step: step == 2
    events = list(trainer.fit())
    notices = [event for event in events if isinstance(event, Notice)]
    assert len(notices) == 1 and "step 2 was skipped" in notices[0].what
    assert torch.isfinite(trainer.members[0].soft_prompt.weight).all()


def test_a_run_that_only_skips_ends_with_advice(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=9", "evaluation.early_stopping_patience=null")
    trainer.passes = passes = FakePasses(*[1.0] * 10)
    passes.poisoned = lambda step: True
    with pytest.raises(SofttuneError, match="10 steps in a row") as caught:
        list(trainer.fit())
    assert "training.learning_rate" in caught.value.remedy and passes.steps == 10
