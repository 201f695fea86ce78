"""Design section 5: what the gradient, the loss and the schedule are."""

import copy
import itertools
from typing import Any

import pytest
import torch

from core.contract.events import StepCompleted, ValidationCompleted
from core.data.batches import IGNORED, collate, micro_batches
from core.training.loss import perplexity, summed_loss
from core.training.schedule import learning_rate_factor
from tests.training.conftest import MakeTrainer


def gradient_of_first_step(trainer: Any, batch_size: int, count: int) -> torch.Tensor:
    batches = micro_batches(trainer.train[:count], batch_size, trainer.pad)
    supervised = sum(batch.supervised for batch in batches)
    trainer.optimizer.zero_grad()
    for batch in batches:
        trainer.backward(batch, supervised)
    return trainer.soft_prompt.weight.grad.clone()


def test_the_gradient_does_not_depend_on_how_the_effective_batch_is_cut(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    whole = gradient_of_first_step(trainer, 16, 16)
    assert whole.norm() > 1e-3
    for size in (1, 3, 4, 5):
        assert (gradient_of_first_step(trainer, size, 16) - whole).abs().max() < 1e-6


def test_the_gradient_is_that_of_the_mean_over_all_supervised_tokens(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    model, prompt = trainer.loaded.model, trainer.soft_prompt
    total, tokens = torch.zeros(()), 0
    for example in trainer.train[:4]:  # one row at a time, straight from the definition
        ids = torch.tensor([[*example.context, *example.target]])
        embedded = torch.cat([prompt.weight[None], model.get_input_embeddings()(ids)], dim=1)
        logits = model(inputs_embeds=embedded).logits[0]
        first = prompt.num_virtual_tokens + len(example.context) - 1
        picked = logits[first : first + len(example.target)].log_softmax(-1)
        total = total - picked.gather(1, torch.tensor(example.target)[:, None]).sum()
        tokens += len(example.target)
    (expected,) = torch.autograd.grad(total / tokens, prompt.weight)
    assert (gradient_of_first_step(trainer, 4, 4) - expected).abs().max() < 1e-6


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers for an attribute by its old name
def test_the_loss_is_that_of_peft_on_the_same_rows(make_trainer: MakeTrainer) -> None:
    from peft import PromptTuningConfig, get_peft_model

    trainer = make_trainer()
    batch = collate(trainer.train[:4], trainer.pad)
    with torch.no_grad():
        ours = summed_loss(trainer.loaded.model, trainer.soft_prompt, batch) / batch.supervised
    rival = get_peft_model(
        copy.deepcopy(trainer.loaded.model), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    )
    rival.prompt_encoder["default"].embedding.weight.data.copy_(trainer.soft_prompt.weight)
    lengths = torch.tensor([e.tokens for e in trainer.train[:4]])
    mask = (torch.arange(batch.after.shape[1])[None] < lengths[:, None]).long()
    labels = torch.full_like(batch.after, IGNORED)  # peft shifts by itself: a label stands at its own token
    labels[:, 1:] = batch.labels[:, :-1]
    with torch.no_grad():
        theirs = rival(input_ids=batch.after, attention_mask=mask, labels=labels).loss
    assert abs(ours.item() - theirs.item()) < 1e-5


def test_the_loss_does_not_depend_on_padding(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    rows = sorted(trainer.train, key=lambda example: example.tokens)
    short, long = rows[0], rows[-1]
    with torch.no_grad():
        alone, together, other = (
            summed_loss(trainer.loaded.model, trainer.soft_prompt, collate(group, trainer.pad)).item()
            for group in ([short], [short, long], [long])
        )
    assert together == pytest.approx(alone + other, rel=1e-5)


def test_the_base_model_is_bit_identical_after_training(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    before = {name: tensor.clone() for name, tensor in trainer.loaded.model.state_dict().items()}
    prompt = trainer.soft_prompt.weight.detach().clone()
    list(trainer.fit())
    after = trainer.loaded.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.grad is not None for parameter in trainer.loaded.model.parameters())
    assert not torch.equal(prompt, trainer.soft_prompt.weight)


def test_two_runs_with_one_seed_are_identical_to_the_last_bit(make_trainer: MakeTrainer) -> None:
    curves, prompts = [], []
    for seed in (7, 7, 8):
        trainer = make_trainer(f"dataset.seed={seed}")
        events = list(trainer.fit())
        curves.append([e.loss for e in events if isinstance(e, StepCompleted | ValidationCompleted)])
        prompts.append(trainer.soft_prompt.weight.detach().clone())
    assert curves[0] == curves[1] != curves[2]
    assert torch.equal(prompts[0], prompts[1])


def test_training_lowers_the_heldout_loss(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("training.num_epochs=4")
    losses = [e.loss for e in trainer.fit() if isinstance(e, ValidationCompleted)]
    assert losses[-1] < losses[0]


def test_the_schedule_warms_up_then_falls_linearly() -> None:
    factors = [learning_rate_factor(step, 90, 9) for step in range(1, 91)]
    assert factors[:9] == pytest.approx([step / 9 for step in range(1, 10)])
    assert factors[8] == 1.0 and 0 < factors[-1] < 0.02
    falls = [a - b for a, b in itertools.pairwise(factors[8:])]
    assert max(falls) == pytest.approx(min(falls))
    assert learning_rate_factor(1, 1, 0) == 1.0


def test_perplexity_is_exp_of_the_loss() -> None:
    assert perplexity(0.0) == 1.0 and perplexity(2.0) == pytest.approx(7.389056, rel=1e-6)
    assert perplexity(1e6) == float("inf")
