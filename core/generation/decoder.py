"""Completing prompts with a frozen language model behind a shared prefix, many at once or one as it grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from core.generation.requests import Completion, DecodingSettings, FinishReason, Request
from core.generation.slots import Slots
from core.generation.streaming import GrowingText

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Completion", "DecodingSettings", "FinishReason", "Request", "complete", "stream"]


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prefix: torch.Tensor | None,
    requests: Sequence[Request],
    settings: DecodingSettings,
) -> Iterator[Completion | None]:
    """Complete every request, in the order in which they end.

    Yields None after each forward pass, so that the caller can look after other things; closing the iterator stops.
    What a request gets does not depend on the other requests, their order, or the slots.

    Args:
        prefix: [P, H] embeddings in front of every request; its keys and values are computed once, as are those of a
            prompt that several requests have.

    Raises:
        DataError: a request has no token to start from, or does not fit in the model's positions.
        ModelError: the model's layers do not all have full attention over these lengths.
    """
    if requests:
        yield from Slots(model, tokenizer, prefix, requests, settings).run()


def stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prefix: torch.Tensor | None,
    request: Request,
    settings: DecodingSettings,
) -> Iterator[str | Completion]:
    """Complete one request and show its text while it grows; arguments and errors are those of `complete`.

    Yields a piece of text after each forward pass, "" where none is certain yet, and at last the Completion, whose text
    the pieces add up to.
    """
    slots = Slots(model, tokenizer, prefix, [request], settings)
    growing = GrowingText(tokenizer, slots.detokenizer, request.token_ids)
    for completion in slots.run():
        if completion is not None:
            yield growing.rest(completion.text)
            yield completion
            return
        yield growing.more(slots.rows[0].generated if slots.rows else [])
