"""Passes with the layers written out on a CPU: the model's own logits, for the models they are for."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, Qwen2Config

from core.generation.decoder import Request, complete
from core.generation.forward import Forward
from core.model import onednn
from core.model.llama import LlamaModel, can_be_laid_out

from .conftest import SHAPE, settings

pytestmark = pytest.mark.skipif(not onednn.available(), reason="this torch has no oneDNN")


@pytest.fixture(params=["tiny_model", "llama", "qwen2", "mistral"])
def plain_model(request: pytest.FixtureRequest) -> Any:
    """A model of the Llama kind: with groups of query heads, one group, biases, wider heads."""
    return request.getfixturevalue(request.param)


def passes(model: Any, soft_rows: torch.Tensor | None, prompts: list[Request]) -> tuple[bool, list[torch.Tensor]]:
    """Whether the layers are written out; logits of the prefix, of prompts in two groups, and of two steps."""
    forward = Forward(model, 6, 30)  # the cache grows on the way
    ids = [request.token_ids for request in prompts[:5]]
    logits = [] if soft_rows is None else [forward.encode_prefix(soft_rows)]
    logits += [forward.prefill(0, ids[:3]), forward.prefill(3, ids[3:])]
    lengths = [forward.prefix_length + len(prompt) for prompt in ids]
    for step in range(2):
        logits.append(forward.decode([5, 6, 7, 8, 9], [length + step for length in lengths]))
    return forward._end_to_end is not None, logits


@pytest.mark.parametrize("tile", [2, 8])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_the_logits_of_the_model(
    two_threads: None, plain_model: Any, prompts: list[Request], soft_rows: torch.Tensor, with_prefix: bool, tile: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.generation.tiles.TILE", tile)
    prefix = soft_rows if with_prefix else None
    written_out, found = passes(plain_model, prefix, prompts)
    monkeypatch.setattr("core.generation.forward.can_be_laid_out", lambda _model: False)
    own, expected = passes(plain_model, prefix, prompts)
    assert written_out and not own
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_models_of_other_kinds_go_through_their_own_layers(gpt2: Any, gemma2: Any) -> None:
    assert not can_be_laid_out(gpt2) and not can_be_laid_out(gemma2)


@pytest.mark.parametrize("config", [
    MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=128),
    LlamaConfig(**SHAPE, num_key_value_heads=2, hidden_act="gelu"),
    Qwen2Config(**SHAPE, num_key_value_heads=2, use_sliding_window=True, sliding_window=128, max_window_layers=1),
], ids=["a window", "another activation", "windows in some layers"])
def test_models_of_these_kinds_with_other_parts_do_so_too(config: Any) -> None:
    from transformers import AutoModelForCausalLM

    assert not can_be_laid_out(AutoModelForCausalLM.from_config(config).requires_grad_(False))


@pytest.mark.parametrize("change", ["hook", "forward", "eager", "half", "memory"])
def test_what_somebody_has_done_to_the_model_counts(
    tiny_model_folder: Any, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype="float32").requires_grad_(False)
    assert can_be_laid_out(model)
    layer = model.model.layers[1]
    if change == "hook":
        layer.mlp.register_forward_hook(lambda _module, _inputs, output: output + 1)
    elif change == "forward":
        layer.mlp.up_proj.forward = lambda x: x
    elif change == "eager":
        model.set_attn_implementation("eager")
    elif change == "half":
        layer.mlp.to(torch.bfloat16)
    else:
        size = sum(module.weight.nbytes for module in model.modules() if type(module) is torch.nn.Linear)
        monkeypatch.setattr("core.model.llama.free_bytes", lambda _device: 2 * size - 1)
    assert not can_be_laid_out(model)


@pytest.mark.parametrize("change", ["patched class", "fewer layers"])
def test_a_model_that_looks_alike_but_computes_otherwise_fails_its_trial(
    tiny_model_folder: Any, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype="float32").requires_grad_(False)
    assert Forward(model, 2, 30)._end_to_end is not None
    if change == "fewer layers":
        model.config.num_hidden_layers = 1
    else:
        kind = type(model.model.layers[0].mlp)
        own = kind.forward
        monkeypatch.setattr(kind, "forward", lambda mlp, x: own(mlp, x) * 1.1)
    assert can_be_laid_out(model)
    forward = Forward(model, 2, 30)
    assert forward._end_to_end is None and forward._linears._forwards


def test_a_hook_between_two_passes_is_heeded(
    tiny_model_folder: Any, prompts: list[Request], soft_rows: torch.Tensor
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype="float32").requires_grad_(False)
    forward = Forward(model, 2, 30)
    forward.encode_prefix(soft_rows)
    forward.prefill(0, [request.token_ids for request in prompts[:2]])
    places = [len(soft_rows) + len(request.token_ids) for request in prompts[:2]]
    before = forward.decode([5, 6], places)
    handle = model.model.norm.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    torch.testing.assert_close(forward.decode([5, 6], places), 2 * before, rtol=1e-4, atol=1e-5)
    handle.remove()
    assert torch.equal(forward.decode([5, 6], places), before)


def test_its_weights_are_gone_with_their_last_user(tiny_model: Any, soft_rows: torch.Tensor) -> None:
    """At once, not when cycles are looked for: what began again without memory needs it."""
    forward = Forward(tiny_model, 2, 30)
    forward.encode_prefix(soft_rows)
    assert forward._end_to_end is not None
    laid_out = weakref.ref(forward._end_to_end._llama)
    gc.disable()
    try:
        del forward
        assert laid_out() is None
    finally:
        gc.enable()


def test_no_token_is_computed_twice_and_none_for_nothing(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long the prompts of a group: nothing is padded."""
    seen: list[int] = []
    head: list[int] = []
    hidden: Callable[..., torch.Tensor] = LlamaModel.hidden

    def counted(self: Any, x: torch.Tensor, *more: Any) -> torch.Tensor:
        seen.append(len(x))
        head.append(len(result := hidden(self, x, *more)))
        return result

    monkeypatch.setattr("core.generation.forward.gives_logits_of", lambda *_: True)
    monkeypatch.setattr("core.model.llama.LlamaModel.hidden", counted)
    done = [one for one in complete(tiny_model, tiny_tokenizer, soft_rows, prompts, settings()) if one is not None]
    generated = sum(len(one.token_ids) + (one.finish_reason == "eos") for one in done)
    fed = sum(len(request.token_ids) for request in prompts) + generated - len(prompts)  # the last one is not fed
    assert sum(seen) == len(soft_rows) + fed
    assert sum(head) == 1 + generated
