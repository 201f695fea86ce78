"""What a training run does: checkpoints, best, early stopping, stop and resume, bad numbers."""

import math
from pathlib import Path

import pytest
import torch

from core.contract.control import Command, StopRequested
from core.contract.errors import SofttuneError
from core.contract.events import CheckpointSaved, Event, Notice, StepCompleted, ValidationCompleted
from core.model.checkpoint import load_checkpoint
from core.training.loop import Trainer
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
    assert names(trainer.checkpoints.folder.checkpoints) == {"epoch_0001.pt", "epoch_0002.pt", "best.pt", "last.pt"}
    assert names(Path("soft_prompts")) == {
        "best_soft_prompts.pt", "soft_prompts_epoch_1.pt", "soft_prompts_epoch_2.pt",
    }
    last = load_checkpoint(trainer.checkpoints.folder.checkpoints / "last.pt")
    assert last.metrics == load_checkpoint(trainer.checkpoints.folder.checkpoints / "epoch_0002.pt").metrics
    best = load_checkpoint(Path("soft_prompts/best_soft_prompts.pt"))
    assert best.metrics["heldout_loss"] == trainer.standing.best_loss
    assert best.metrics["heldout_perplexity"] == pytest.approx(math.exp(trainer.standing.best_loss or 0))
    assert len(best.split.train) == 19 and len(best.split.heldout) == 5


def test_save_best_only_keeps_best_and_last(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("evaluation.save_best_only=true")
    list(trainer.fit())
    assert names(trainer.checkpoints.folder.checkpoints) == {"best.pt", "last.pt"}


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


def test_early_stopping_counts_validations_without_a_best(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer("training.num_epochs=9", "evaluation.early_stopping_patience=2")
    fake = fake_losses(trainer, iter([5.0, 3.0, 2.0, 2.5, 2.0, 1.0]))
    for module in ("loop", "loss"):  # training's and validation's
        monkeypatch.setattr(f"core.training.{module}.summed_loss", fake)
    events = list(trainer.fit())
    validations = [event for event in events if isinstance(event, ValidationCompleted)]
    assert [event.is_best for event in validations] == [False, True, True, False, False]
    assert [event.previous_best for event in validations] == [None, None, 3.0, 2.0, 2.0]
    assert isinstance(events[-1], Notice) and "2.0000 of epoch 2" in events[-1].what


def test_an_early_stopped_run_that_is_resumed_trains_no_further(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer("training.num_epochs=9", "evaluation.early_stopping_patience=1")
    fake = fake_losses(trainer, iter([5.0, 3.0, 4.0, 1.0]))
    for module in ("loop", "loss"):
        monkeypatch.setattr(f"core.training.{module}.summed_loss", fake)
    list(trainer.fit())
    folder = trainer.checkpoints.folder
    again = make_trainer(folder=folder, last=load_checkpoint(folder.checkpoints / "last.pt"))
    assert [event.type for event in again.fit()] == ["Notice"]


def fake_losses(trainer: Trainer, heldout: object) -> object:
    """A stand-in for the loss: held-out batches cost what `heldout` says, training ones stay differentiable."""
    per_epoch: list[float] = []

    def loss(_model: object, prompt: object, batch: object) -> torch.Tensor:
        if torch.is_grad_enabled():
            per_epoch.clear()
            return trainer.soft_prompt.weight.sum() * 1e-3
        if not per_epoch:
            per_epoch.append(next(heldout))  # type: ignore[call-overload]
        return torch.tensor(per_epoch[0] * batch.supervised)  # type: ignore[attr-defined]

    return loss


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
    folder = trainer.checkpoints.folder
    again = make_trainer(folder=folder, last=load_checkpoint(folder.checkpoints / "last.pt"))
    assert (losses(seen) | losses(list(again.fit()))) == expected
    assert torch.equal(again.soft_prompt.weight, whole.soft_prompt.weight)
    assert again.standing == whole.standing


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


def test_a_step_without_finite_numbers_is_skipped_and_told(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer("training.num_epochs=9", "evaluation.early_stopping_patience=null")
    real = trainer.backward

    def poisoned(batch: object, supervised: int) -> torch.Tensor:
        loss = real(batch, supervised)  # type: ignore[arg-type]
        if trainer.standing.step == 1:
            trainer.soft_prompt.weight.grad.fill_(math.nan)  # type: ignore[union-attr]
        return loss

    monkeypatch.setattr(trainer, "backward", poisoned)
    events = list(trainer.fit())
    notices = [event for event in events if isinstance(event, Notice)]
    assert len(notices) == 1 and "step 2 was skipped" in notices[0].what
    assert torch.isfinite(trainer.soft_prompt.weight).all()


def test_a_run_that_only_skips_ends_with_advice(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer("training.num_epochs=9", "evaluation.early_stopping_patience=null")
    monkeypatch.setattr(
        "core.training.loop.summed_loss", lambda _m, prompt, batch: prompt.weight.sum() * math.nan
    )
    with pytest.raises(SofttuneError, match="10 steps in a row") as caught:
        list(trainer.fit())
    assert "training.learning_rate" in caught.value.remedy
