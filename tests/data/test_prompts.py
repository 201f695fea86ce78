"""What stands around a problem in each prompt style."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from core.contract.config import Config, InferenceSettings
from core.contract.config_file import load_config
from core.contract.errors import ConfigError, ModelError
from core.contract.estimate import KNOWN, estimate_memory
from core.data.batches import encode_problems
from core.data.humaneval import load_problems
from core.data.prompts import INFILLING_ENDS, encode_context, infilling_lacks, token_id

PROBLEM = load_problems().problems[3]


@pytest.fixture(scope="module")
def filling_in(tiny_tokenizer: Any) -> Any:
    """The tiny tokenizer with Qwen's tokens for filling in, at ids that the tiny model has rows for."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": list(INFILLING_ENDS)})
    return tokenizer


@pytest.mark.parametrize(("settings", "style", "placed"), [
    ({}, "plain", ""), ({"text_prompt": "# x"}, "text", "# x"),
    ({"text_prompt": "# x", "prompt_style": "plain"}, "plain", ""),
    ({"text_prompt": "# x", "prompt_style": "infilling"}, "infilling", ""),
    ({"text_prompt": "# x", "prompt_style": "text"}, "text", "# x"),
])
def test_auto_is_text_where_there_is_a_text_prompt(settings: dict[str, Any], style: str, placed: str) -> None:
    inference = InferenceSettings(**settings)
    assert (inference.style, inference.placed_text) == (style, placed)


def test_the_plain_style_leaves_the_text_prompt_out(tiny_tokenizer: Any) -> None:
    plain = InferenceSettings(prompt_style="plain", text_prompt="# Python")
    assert encode_context(tiny_tokenizer, PROBLEM.prompt, plain) == encode_context(
        tiny_tokenizer, PROBLEM.prompt, InferenceSettings()) == ([], tiny_tokenizer(PROBLEM.prompt)["input_ids"])


def test_infilling_puts_the_problem_before_a_gap_with_nothing_behind_it(filling_in: Any) -> None:
    before, context = encode_context(filling_in, PROBLEM.prompt, InferenceSettings(prompt_style="infilling"))
    prefix, suffix, middle = (token_id(filling_in, f"<|fim_{part}|>") for part in ("prefix", "suffix", "middle"))
    assert before == [] and context == [prefix, *filling_in(PROBLEM.prompt)["input_ids"], suffix, middle]
    config = Config(inference=InferenceSettings(prompt_style="infilling"))
    (example,) = encode_problems(filling_in, [PROBLEM], config)
    assert example.context == tuple(context) and filling_in.decode(example.target[:-1]) == PROBLEM.canonical_solution


def test_a_tokenizer_without_the_tokens_is_told_by_setting_and_remedy(tiny_tokenizer: Any) -> None:
    assert infilling_lacks(tiny_tokenizer) == ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    with pytest.raises(ModelError, match=r"inference.prompt_style is infilling.*<\|fim_prefix\|>") as caught:
        encode_problems(tiny_tokenizer, [PROBLEM], Config(inference=InferenceSettings(prompt_style="infilling")))
    assert "inference.prompt_style to plain" in caught.value.remedy and "model.name" in caught.value.remedy


def test_a_tokenizer_with_an_unknown_token_has_not_every_token(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>")), unk_token="<unk>")
    assert (token_id(words, "a"), token_id(words, "<|fim_prefix|>")) == (1, None)


def test_the_style_text_needs_a_text() -> None:
    with pytest.raises(ConfigError, match="inference.prompt_style: found text with no inference.text_prompt") as caught:
        load_config(overrides=["inference.prompt_style=text", "inference.num_samples=2"])
    assert len(caught.value.faults) == 2  # the samples are greedy too
    load_config(overrides=["inference.prompt_style=text", "inference.text_prompt='# x'"])


def test_a_text_that_is_not_placed_takes_no_memory() -> None:
    shape = KNOWN["Qwen/Qwen2.5-Coder-0.5B"]
    text = "inference.text_prompt=" + "word " * 50
    plain, placed = (estimate_memory(load_config(overrides=[text, *more]), shape, "cuda", 131).tokens
                     for more in (["inference.prompt_style=plain"], []))
    assert plain == estimate_memory(Config(), shape, "cuda", 131).tokens < placed
