"""What learns, and by which optimizer: the rows themselves, or rows and a network that only training knows."""

from __future__ import annotations

import pytest
import torch

from core.contract.config import TrainingSettings
from core.contract.config_file import load_config
from core.contract.events import StepCompleted, ValidationCompleted
from core.contract.plan import trainable_parameters
from core.model.checkpoint import load_checkpoint
from core.model.soft_prompt import ResidualPrompt
from core.training.optimizer import build_optimizer
from tests.training.conftest import MakeTrainer

RESIDUAL = "soft_prompts.reparameterisation=residual"


def test_each_optimizer_is_torchs_own() -> None:
    def built(name: str) -> torch.optim.Optimizer:
        settings = TrainingSettings.model_validate({"optimizer": name, "learning_rate": 0.5, "weight_decay": 0.25})
        return build_optimizer([torch.nn.Parameter(torch.ones(2, 3))], settings, torch.device("cpu"))

    for name, kind in (("adamw", "AdamW"), ("adafactor", "Adafactor"), ("sgd", "SGD")):
        optimizer = built(name)
        assert type(optimizer).__name__ == kind
        assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.5, 0.25)
    assert built("sgd").defaults["momentum"] == 0.9


@pytest.mark.parametrize("choice", ["optimizer=sgd", "optimizer=adafactor"])
def test_every_optimizer_lowers_the_heldout_loss(choice: str, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(f"training.{choice}", "training.learning_rate=0.3", "training.num_epochs=1")
    losses = [e.loss for e in trainer.fit() if isinstance(e, ValidationCompleted)]
    assert losses[-1] < losses[0]


def test_checkpoints_of_a_residual_prompt_hold_plain_rows(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(RESIDUAL)
    losses = [e.loss for e in trainer.fit() if isinstance(e, ValidationCompleted)]
    assert losses[-1] < losses[0]
    member = trainer.members[0]
    prompt = member.soft_prompt
    assert isinstance(prompt, ResidualPrompt) and torch.equal(prompt.weight, prompt())
    assert not torch.equal(prompt.weight, prompt.rows), "the network has learned, too"
    folder = member.checkpoints.folder.checkpoints
    epoch, last = (load_checkpoint(folder / name) for name in ("epoch_0002.pt", "last.pt"))
    assert torch.equal(epoch.soft_prompt, prompt.weight) and torch.equal(last.soft_prompt, prompt.weight)
    assert epoch.training is None and last.training is not None
    assert set(torch.load(folder / "best.pt", weights_only=True)) == {
        "format_version", "soft_prompt", "base_model", "embedding_dim", "num_virtual_tokens", "epoch", "step",
        "metrics", "config", "split", "run_id",
    }
    assert {name.partition(".")[0] for name in last.training["reparameterisation"]} == {"rows", "network"}


def test_the_norm_is_of_all_that_learns_and_so_is_its_limit(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(RESIDUAL, "training.max_grad_norm=0.001")
    step = next(event for event in trainer.fit() if isinstance(event, StepCompleted))
    prompt = trainer.members[0].soft_prompt
    clipped = sum(float(one.grad.square().sum()) for one in prompt.trained if one.grad is not None) ** 0.5
    assert clipped == pytest.approx(0.001, rel=1e-3) and step.grad_norm > 0.001
    ours = trainer.members[0].soft_prompt.weight.grad
    assert ours is not None and step.grad_norm > ours.norm().item(), "the network's gradient counts"


@pytest.mark.parametrize("reparameterisation", ["none", "residual"])
def test_what_is_said_to_learn_is_what_learns(reparameterisation: str, make_trainer: MakeTrainer) -> None:
    choice = f"soft_prompts.reparameterisation={reparameterisation}"
    settings = load_config(overrides=[choice, "soft_prompts.num_virtual_tokens=5"]).soft_prompts
    assert make_trainer(choice).members[0].trainable_parameters == trainable_parameters(settings, 64)


def test_a_run_starts_from_its_text(make_trainer: MakeTrainer) -> None:
    rows = make_trainer("soft_prompts.init_text=x").members[0].soft_prompt.weight
    assert rows.shape == (5, 64) and torch.equal(rows, rows[:1].expand(5, -1))
