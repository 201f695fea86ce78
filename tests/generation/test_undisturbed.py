"""Decoding leaves the model as it was, and computes the prefix once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from core.generation.decoder import Request, complete

from .conftest import settings


@pytest.fixture
def model(tiny_model_folder: Any) -> Any:
    """A model of this test's own, frozen, in training mode but for one layer."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype="float32").requires_grad_(False).train()
    model.model.layers[1].eval()
    return model


def state(model: Any) -> tuple[Any, ...]:
    """What must not change: modes, hooks, attention, weights."""
    modules = [(module.training, len(module._forward_pre_hooks), sorted(vars(module))) for module in model.modules()]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return modules, model.config._attn_implementation, model.config.use_cache, weights


def same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    weights = all(torch.equal(first[3][name], second[3][name]) for name in first[3])
    return first[:3] == second[:3] and weights and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_model_is_unchanged_at_every_yield(
    model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor, attention: str,
    written_out: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not written_out:
        monkeypatch.setattr("core.generation.forward.can_be_laid_out", lambda _model: False)
    monkeypatch.setattr("core.generation.tiles.TILE", 2)
    model.set_attn_implementation(attention)
    before = state(model)
    for _ in complete(model, tiny_tokenizer, soft_rows, prompts[:4], settings(max_new_tokens=3)):
        assert same(before, state(model))
    assert same(before, state(model))


def test_closing_early_leaves_the_model_unchanged(
    model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor
) -> None:
    before = state(model)
    events = complete(model, tiny_tokenizer, soft_rows, prompts, settings())
    assert isinstance(events, Iterator)
    for _ in range(3):
        next(events)
    events.close()  # type: ignore[attr-defined]
    assert same(before, state(model))


def test_an_error_leaves_the_model_unchanged(
    model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.generation.tiles.TILE", 2)
    before = state(model)
    calls = iter(range(100))

    def fail(*_arguments: Any) -> None:
        if next(calls) == 5:
            raise ValueError("a fault in the middle")

    handle = model.model.norm.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="a fault in the middle"):
        list(complete(model, tiny_tokenizer, soft_rows, prompts, settings()))
    handle.remove()
    assert same(before, state(model))


def test_it_can_be_trained_through_between_two_steps(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor
) -> None:
    rows = nn.Parameter(soft_rows.clone())
    events = complete(tiny_model, tiny_tokenizer, rows, prompts, settings())
    for _ in range(4):
        next(events)
    tiny_model(inputs_embeds=rows[None]).logits.sum().backward()
    assert rows.grad is not None and rows.grad.isfinite().all()
    assert sum(event is not None for event in events) == len(prompts)


def test_the_prefix_is_computed_once_and_no_token_twice(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.Size] = []
    heads: list[int] = []
    layer = tiny_model.model.layers[0]

    def count(_module: Any, inputs: tuple[torch.Tensor, ...], _kwargs: dict[str, Any]) -> None:
        seen.append(inputs[0].shape[:2])

    def count_head(_module: Any, _inputs: tuple[torch.Tensor, ...], logits: torch.Tensor) -> None:
        heads.append(logits.shape[:-1].numel())

    monkeypatch.setattr("core.generation.slots.PREFILL_TOKENS", 1)  # one prompt a pass, so no padding to count
    handles = [layer.register_forward_pre_hook(count, with_kwargs=True)]
    handles.append(tiny_model.lm_head.register_forward_hook(count_head))
    try:
        found = list(complete(tiny_model, tiny_tokenizer, soft_rows, prompts, settings()))
    finally:
        for handle in handles:
            handle.remove()
    done = [event for event in found if event is not None]
    generated = sum(len(c.token_ids) + (c.finish_reason == "eos") for c in done)
    assert [shape for shape in seen if shape[1] == 7] == [(1, 7)]
    fed = sum(len(request.token_ids) for request in prompts) + generated - len(prompts)  # the last one is not fed
    assert sum(shape.numel() for shape in seen) == 7 + fed
    assert sum(heads) == 1 + generated
    assert len(seen) == len(found) - len(done)  # a None after each pass
