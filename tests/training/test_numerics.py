"""Design section 5: what the gradient, the loss and the schedule are."""

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from core.contract.events import StepCompleted, ValidationCompleted
from core.data.batches import Row, rows_of
from core.model.loading import LoadedModel
from core.training.loss import perplexity
from core.training.packed.passes import PackedPasses
from core.training.passes import MicroBatchPasses, Passes, result_of
from core.training.rows.passes import RowPasses
from core.training.schedule import learning_rate_factor
from tests.training.conftest import MakeTrainer

Way = Callable[[LoadedModel, int], Passes]
ALL = pytest.mark.parametrize("way", [MicroBatchPasses, RowPasses, PackedPasses])


def gradient(passes: Passes, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> tuple[torch.Tensor, ...]:
    """The losses, and each prompt's gradient."""
    losses = result_of(passes.gradient(prompts, rows))
    return losses, *(prompt.grad.clone() for prompt in prompts if prompt.grad is not None)


@ALL
def test_the_gradient_does_not_depend_on_how_the_effective_batch_is_cut(
    way: Way, loaded: LoadedModel, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer()
    prompt, rows = trainer.members[0].soft_prompt.weight, rows_of(trainer.members[0].train[:16])
    _, whole = gradient(MicroBatchPasses(loaded, 16), [prompt], rows)
    assert whole.norm() > 1e-3
    for size in (1, 3, 4, 5):
        _, found = gradient(way(loaded, size), [prompt], rows)
        assert (found - whole).abs().max() < 1e-6


@ALL
@pytest.mark.parametrize("text", ["", "# Python"])
def test_loss_and_gradient_are_those_of_the_mean_over_all_supervised_tokens(
    text: str, way: Way, loaded: LoadedModel, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer(f"inference.text_prompt={text!r}", "inference.text_prompt_position=before_soft")
    model, prompt = loaded.model, trainer.members[0].soft_prompt.weight
    total, tokens = torch.zeros(()), 0
    for example in trainer.members[0].train[:4]:  # one row at a time, straight from the definition
        before, after = (torch.tensor([ids], dtype=torch.long) for ids in
                         (example.before, (*example.context, *example.target)))
        embedding = model.get_input_embeddings()
        logits = model(inputs_embeds=torch.cat([embedding(before), prompt[None], embedding(after)], dim=1)).logits[0]
        first = before.shape[1] + len(prompt) + len(example.context) - 1
        picked = logits[first : first + len(example.target)].log_softmax(-1)
        total = total - picked.gather(1, torch.tensor(example.target)[:, None]).sum()
        tokens += len(example.target)
    (expected,) = torch.autograd.grad(total / tokens, prompt)
    passes, rows = way(loaded, 4), rows_of(trainer.members[0].train[:4])
    losses, found = gradient(passes, [prompt], rows)
    assert (found - expected).abs().max() < 1e-6
    assert losses.item() == pytest.approx(total.item() / tokens, rel=1e-5)
    assert result_of(passes.loss([prompt], rows)).item() == pytest.approx(losses.item(), rel=1e-6)


@ALL
@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers for an attribute by its old name
def test_loss_and_gradient_are_those_of_peft_on_the_same_rows(
    way: Way, loaded: LoadedModel, make_trainer: MakeTrainer
) -> None:
    from peft import PromptTuningConfig, get_peft_model

    trainer = make_trainer()
    examples, prompt = trainer.members[0].train[:4], trainer.members[0].soft_prompt.weight
    losses, found = gradient(way(loaded, 4), [prompt], rows_of(examples))
    rival = get_peft_model(
        copy.deepcopy(loaded.model), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    )
    weight = rival.prompt_encoder["default"].embedding.weight
    weight.data.copy_(prompt)
    width = max(example.tokens for example in examples)
    ids, mask, labels = (torch.full((4, width), fill) for fill in (0, 0, -100))
    for row, example in enumerate(examples):
        ids[row, : example.tokens] = torch.tensor([*example.context, *example.target])
        mask[row, : example.tokens] = 1
        labels[row, len(example.context) : example.tokens] = torch.tensor(example.target)  # peft shifts by itself
    theirs = rival(input_ids=ids, attention_mask=mask, labels=labels).loss
    theirs.backward()
    assert abs(losses.item() - theirs.item()) < 1e-5
    assert (found - weight.grad).abs().max() < 1e-6


@ALL
def test_the_loss_does_not_depend_on_padding(way: Way, loaded: LoadedModel, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    rows = sorted(trainer.members[0].train, key=lambda example: example.tokens)
    short, long = Row(rows[0]), Row(rows[-1])
    alone, together, other = (
        result_of(way(loaded, 2).loss([trainer.members[0].soft_prompt.weight], group)).item()
        for group in ([short], [short, long], [long])
    )
    assert together == pytest.approx(alone + other, rel=1e-5)


@ALL
def test_prompts_that_share_a_pass_get_what_each_gets_alone(
    way: Way, loaded: LoadedModel, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer()
    examples = trainer.members[0].train
    prompts = [nn.Parameter(torch.randn(5, 64, generator=torch.Generator().manual_seed(seed))) for seed in range(3)]
    data = [examples[:3], examples[2:9], examples[4:5]]
    passes = way(loaded, 2)
    together, *found = gradient(
        passes, prompts, [row for number, rows in enumerate(data) for row in rows_of(rows, number)]
    )
    for prompt, rows, loss, of_prompt in zip(prompts, data, together, found, strict=True):
        alone, expected = gradient(passes, [prompt], rows_of(rows))
        assert abs(loss.item() - alone.item()) < 1e-5 and (of_prompt - expected).abs().max() < 1e-6


def test_the_base_model_is_bit_identical_after_training(loaded: LoadedModel, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    model, weight = loaded.model, trainer.members[0].soft_prompt.weight
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prompt = weight.detach().clone()
    list(trainer.fit())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())
    assert not torch.equal(prompt, weight)


def test_two_runs_with_one_seed_are_identical_to_the_last_bit(make_trainer: MakeTrainer) -> None:
    curves, prompts = [], []
    for seed in (7, 7, 8):
        trainer = make_trainer(f"dataset.seed={seed}")
        events = list(trainer.fit())
        curves.append([e.loss for e in events if isinstance(e, StepCompleted | ValidationCompleted)])
        prompts.append(trainer.members[0].soft_prompt.weight.detach().clone())
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


def test_the_other_schedules_warm_up_alike_and_fall_by_a_cosine_or_not_at_all() -> None:
    linear, cosine, constant = (
        [learning_rate_factor(step, 90, 9, schedule) for step in range(1, 91)]
        for schedule in ("linear", "cosine", "constant")
    )
    assert linear[:9] == cosine[:9] == constant[:9] and set(constant[8:]) == {1.0}
    assert cosine[8:] == pytest.approx([0.5 * (1 + math.cos(math.pi * done / 82)) for done in range(82)])
    assert 0 < cosine[-1] < linear[-1]


@ALL
def test_label_smoothing_is_in_the_gradient_alone(way: Any, loaded: LoadedModel, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    model, prompt, examples = loaded.model, trainer.members[0].soft_prompt.weight, trainer.members[0].train[:4]
    total, tokens = torch.zeros(()), 0
    for example in examples:  # one row at a time, by torch's own definition
        ids = torch.tensor([*example.context, *example.target])
        logits = model(inputs_embeds=torch.cat([prompt, model.get_input_embeddings()(ids)])[None]).logits[0]
        first = len(prompt) + len(example.context) - 1
        total = total + cross_entropy(
            logits[first : first + len(example.target)], torch.tensor(example.target), reduction="sum",
            label_smoothing=0.3,
        )
        tokens += len(example.target)
    (expected,) = torch.autograd.grad(total / tokens, prompt)
    rows = rows_of(examples)
    plain, of_plain = gradient(way(loaded, 4), [prompt], rows)
    losses, found = gradient(way(loaded, 4, 0.3), [prompt], rows)
    assert (found - expected).abs().max() < 1e-6 < (found - of_plain).abs().max()
    assert losses.item() == pytest.approx(plain.item(), rel=1e-6) != total.item() / tokens
    assert result_of(way(loaded, 4, 0.3).loss([prompt], rows)).item() == pytest.approx(plain.item(), rel=1e-6)


def test_a_run_has_the_label_smoothing_of_its_settings(make_trainer: MakeTrainer) -> None:
    plain, smoothed = (
        next(e for e in make_trainer(f"training.label_smoothing={share}").fit() if isinstance(e, StepCompleted))
        for share in (0.0, 0.3)
    )
    assert smoothed.loss == plain.loss and smoothed.grad_norm != pytest.approx(plain.grad_norm, rel=1e-3)


def test_perplexity_is_exp_of_the_loss() -> None:
    assert perplexity(0.0) == 1.0 and perplexity(2.0) == pytest.approx(7.389056, rel=1e-6)
    assert perplexity(1e6) == float("inf")
