"""What is asked of the decoder, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "eos", "length"]


@dataclass(frozen=True)
class Request:
    """One completion to make: the tokens after the shared prefix, and which of a problem's samples it is."""

    task_id: str
    token_ids: tuple[int, ...]
    sample: int = 0


@dataclass(frozen=True)
class DecodingSettings:
    """How to complete; ranges are those of `InferenceSettings`. `slots` is the number of sequences decoded at once."""

    max_new_tokens: int
    temperature: float
    top_p: float
    stop_sequences: tuple[str, ...]
    seed: int
    slots: int
    end_tokens: tuple[str, ...] = ()
    """Names of tokens that end a completion beside the model's own, where the tokenizer has them."""


@dataclass(frozen=True)
class Completion:
    """A completed request."""

    request: Request
    text: str
    """What was generated, before the first stop sequence."""
    token_ids: tuple[int, ...]
    """All generated tokens, those of a stop sequence included, without the end-of-text token."""
    finish_reason: FinishReason
    seconds: float
    """From the start of its prompt's forward pass to its last token; other requests share that time."""
