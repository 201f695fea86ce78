"""Whatever stood around a problem in training stands around it in a merged model: tokenizer(problem) is that."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors

from core.contract.config import InferenceSettings
from core.contract.errors import CheckpointError
from core.data.prompts import MIDDLE, PREFIX, SUFFIX, encode_context
from core.export.tokens import merged_tokenizer
from tests.tiny import make_tiny_tokenizer

PROMPTS = ["def f(x):\n", "\n\nimport re\ndef g():\n    '''Do it.'''\n", "x"]
BEFORE = {"text_prompt": "# Python 3\n", "text_prompt_position": "before_soft"}
AFTER = {"text_prompt": "# Python 3 "}
FILLING = {"prompt_style": "infilling"}


def tiny(folder: Path, template: str = "", *special: str) -> Any:
    """A tokenizer whose own post-processor adds what a template says."""
    from transformers import AutoTokenizer

    make_tiny_tokenizer(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    if template:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=template, pair=f"{template} $B:1", special_tokens=[("<|endoftext|>", tokenizer.eos_token_id)])
    return tokenizer


@pytest.mark.parametrize("template", ["", "<|endoftext|> $A", "<|endoftext|> $A <|endoftext|>"])
@pytest.mark.parametrize("settings", [{}, BEFORE, AFTER, FILLING])
def test_a_tokenizer_loaded_again_gives_softtunes_own_ids(
    template: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    base = tiny(tmp_path / "base", template, PREFIX, SUFFIX, MIDDLE)
    inference = InferenceSettings(**settings)
    made = merged_tokenizer(base, 4, inference, PROMPTS, True)
    made.save(tmp_path / "merged")
    again: Any = AutoTokenizer.from_pretrained(tmp_path / "merged")
    for prompt in (*PROMPTS, "never seen"):
        before, context = encode_context(base, prompt, inference)
        assert again(prompt)["input_ids"] == [*before, *made.ids, *context]
        assert again(prompt, add_special_tokens=False)["input_ids"] == base(prompt, add_special_tokens=False)[
            "input_ids"]
        if made.prefix is not None:
            chat = again.apply_chat_template([{"role": "user", "content": prompt}])
            assert chat["input_ids"] == [*before, *made.ids, *context]
    assert again.decode(made.ids, skip_special_tokens=True) == ""
    literal = merged_tokenizer(base, 4, inference, PROMPTS, False) if made.prefix is not None else None
    if literal:
        literal.save(tmp_path / "literal")
        plain: Any = AutoTokenizer.from_pretrained(tmp_path / "literal")
        assert plain(f"{literal.prefix}x{literal.suffix}")["input_ids"] == literal.expected[2]


def test_a_text_that_grows_together_with_the_problem_has_no_literal_form(tmp_path: Path) -> None:
    base = tiny(tmp_path / "base")
    joined = InferenceSettings(text_prompt="import re\nde")
    made = merged_tokenizer(base, 2, joined, ["f f(x):\n", *PROMPTS], True)
    assert (made.prefix, made.suffix, made.tokenizer.chat_template) == (None, None, None)
    with pytest.raises(CheckpointError, match="inference.text_prompt"):
        merged_tokenizer(base, 2, joined, ["f f(x):\n"], False)


def test_names_that_are_taken_are_left_alone(tmp_path: Path) -> None:
    base = tiny(tmp_path / "base", "", "<|soft_1|>")
    made = merged_tokenizer(base, 2, InferenceSettings(), PROMPTS, True)
    assert made.names == ["<|soft2_0|>", "<|soft2_1|>"] and len(set(made.ids)) == 2


def test_a_tokenizer_of_a_models_own_class_is_not_made_anew_when_it_is_loaded(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, LlamaTokenizer

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, **{letter: 4 + at for at, letter in enumerate("defx():")}}
    base: Any = LlamaTokenizer(vocab=vocabulary, merges=[("d", "e")] if "de" in vocabulary else [], add_bos_token=True)
    base.save_pretrained(tmp_path / "base")
    base = AutoTokenizer.from_pretrained(tmp_path / "base")
    made = merged_tokenizer(base, 2, InferenceSettings(), ["def f(x):"], True)
    made.save(tmp_path / "merged")
    again: Any = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert again("def f(x):")["input_ids"] == [*made.ids, *base("def f(x):")["input_ids"]]
