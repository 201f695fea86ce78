"""Completing prompts with a frozen language model behind a shared prefix, many at once or one as it grows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from core.contract.errors import OutOfMemory
from core.contract.estimate import gigabytes, shape_of
from core.contract.events import Notice
from core.failure import is_out_of_memory
from core.generation.requests import Completion, DecodingSettings, FinishReason, Request
from core.generation.slots import Slots
from core.generation.streaming import GrowingText
from core.model.memory import free_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MOST_SLOTS = 256
"""On a GPU, beyond those that were asked for."""

__all__ = ["Completion", "DecodingSettings", "FinishReason", "Request", "complete", "stream"]


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prefix: torch.Tensor | None,
    requests: Sequence[Request],
    settings: DecodingSettings,
) -> Iterator[Completion | Notice | None]:
    """Complete every request, in the order in which they end.

    Yields None after each forward pass, so that the caller can look after other things; closing the iterator stops.
    What a request gets does not depend on the other requests, their order, or the slots: where memory runs out, those
    that are not complete begin again in half as many slots, with a Notice. In 16 bits numbers are rounded otherwise
    where more rows go together, and of two tokens that are about equally likely the other one may be taken.

    Args:
        prefix: [P, H] embeddings in front of every request; its keys and values are computed once, as are those of a
            prompt that several requests have.

    Raises:
        DataError: a request has no token to start from, or does not fit in the model's positions.
        ModelError: the model's layers do not all have full attention over these lengths.
        OutOfMemory: there is not enough for one slot.
    """
    left = list(requests)
    settings = dataclasses.replace(settings, slots=_slots(model, prefix, left, settings))
    while left:
        try:
            for completion in Slots(model, tokenizer, prefix, left, settings).run():
                if completion is not None:
                    left.remove(completion.request)
                yield completion
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            lacking = error
        slots = min(settings.slots, len(left))
        if slots == 1:
            raise _does_not_fit(model, prefix, left[0], settings) from lacking
        settings = dataclasses.replace(settings, slots=slots // 2)
        del lacking  # its traceback holds the cache
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        yield Notice(
            setting="inference.batch_size",
            what=f"out of memory with {slots} completions at a time: {slots // 2} from now on",
            remedy="what is completed stays the same; a lower inference.batch_size says so from the start, but for a "
                   "GPU, where free memory decides how many more there are",
        )


def _slots(
    model: PreTrainedModel, prefix: torch.Tensor | None, requests: Sequence[Request], settings: DecodingSettings
) -> int:
    """As many as were asked for; on a GPU more, where half of its free memory holds their keys and values.

    A step of few rows takes a GPU as long as one of many: it reads all weights, and starts as many kernels.
    """
    shape = shape_of(model.config.to_dict())
    if model.device.type != "cuda" or shape is None or not requests:
        return settings.slots
    longest = max(len(request.token_ids) for request in requests) + settings.max_new_tokens
    row = (longest + (0 if prefix is None else len(prefix))) * shape.cached_values * model.dtype.itemsize
    return max(settings.slots, min(MOST_SLOTS, len(requests), free_bytes(model.device) // 2 // row))


def _does_not_fit(
    model: PreTrainedModel, prefix: torch.Tensor | None, request: Request, settings: DecodingSettings
) -> OutOfMemory:
    positions = (0 if prefix is None else len(prefix)) + len(request.token_ids) + settings.max_new_tokens
    shape, free = shape_of(model.config.to_dict()), gigabytes(free_bytes(model.device))
    cache = gigabytes(positions * shape.cached_values * model.dtype.itemsize) if shape else "an unknown amount"
    return OutOfMemory(
        f"out of memory with a single completion of up to {positions} tokens: its keys and values take {cache}, and "
        f"{free} are free",
        f"lower inference.max_new_tokens below {settings.max_new_tokens}; or free what other programs hold, or take a "
        "smaller model",
    )


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
