"""What stands around a problem: before the soft prompt P, after it, and where the completion begins.

    plain       [P] problem
    text        [P] text problem, or text [P] problem
    infilling   [P] <|fim_prefix|> problem <|fim_suffix|> <|fim_middle|>, with nothing behind the gap to fill
                (Qwen2.5-Coder, arXiv 2409.12186, section 3.2; Bavarian et al. 2022, arXiv 2207.14255)

Training, completing and the playground all get it from `encode_context`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.contract.config import InferenceSettings
from core.contract.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PREFIX, SUFFIX, MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
INFILLING_ENDS = (PREFIX, SUFFIX, MIDDLE, "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>")
"""Tokens that end a filled-in text beside the tokenizer's own end: after them comes padding or another file."""
FILLING_IN = "a model that was trained to fill in, such as Qwen/Qwen2.5-Coder-0.5B"


def encode_context(
    tokenizer: PreTrainedTokenizerBase, prompt: str, settings: InferenceSettings
) -> tuple[list[int], list[int]]:
    """Tokens (before P, between P and the completion) for a problem's prompt; one opening token in all.

    Raises:
        ModelError: `inference.prompt_style` is infilling, and the tokenizer has no tokens for that.
    """
    if settings.style == "infilling":
        missing = infilling_lacks(tokenizer)
        if missing:
            raise ModelError(
                f"inference.prompt_style is infilling, but the model's tokenizer has no {', '.join(missing)}",
                f"set inference.prompt_style to plain or text, or model.name to {FILLING_IN}",
            )
        return [], encode_prompt(tokenizer, f"{PREFIX}{prompt}{SUFFIX}{MIDDLE}")
    if not settings.placed_text:
        return [], encode_prompt(tokenizer, prompt)
    text, problem = encode_prompt(tokenizer, settings.placed_text), encode_more(tokenizer, prompt)
    return (text, problem) if settings.text_prompt_position == "before_soft" else ([], text + problem)


def infilling_lacks(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The fill-in-the-middle tokens that the tokenizer does not have."""
    return [name for name in (PREFIX, SUFFIX, MIDDLE) if token_id(tokenizer, name) is None]


def token_id(tokenizer: PreTrainedTokenizerBase, name: str) -> int | None:
    """The id of a token by its name; None where the tokenizer has no such token."""
    found = tokenizer.convert_tokens_to_ids(name)
    return found if isinstance(found, int) and tokenizer.convert_ids_to_tokens(found) == name else None


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of text that something follows: with the tokenizer's opening token, where it has one, and no closing."""
    ids = list(tokenizer(text)["input_ids"])
    closed = bool(ids) and ids[-1] == tokenizer.eos_token_id and not text.endswith(str(tokenizer.eos_token))
    return ids[:-1] if closed else ids


def encode_more(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of text that follows other text: no special tokens added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
