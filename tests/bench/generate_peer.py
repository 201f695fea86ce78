"""transformers' `generate` at the work of decoding.py: what our decoder is measured against."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StopStringCriteria

from core.generation.decoder import DecodingSettings, Request
from core.generation.slots import end_tokens
from core.model.loading import LoadedModel

Tokens = tuple[int, ...]
Piece = tuple[float, dict[str, Tokens]]
"""Seconds, and the completions that were ready then, up to where each ends."""


@dataclass(frozen=True)
class Work:
    """What is to be completed, longest prompt first, and how."""

    loaded: LoadedModel
    prefix: torch.Tensor
    requests: Sequence[Request]
    settings: DecodingSettings


def theirs(work: Work, batch: int, stop: StopStringCriteria) -> Iterator[Piece]:
    """transformers' `generate`, a piece a batch: padding, soft prompt, prompt, longest prompts first, as ours."""
    model: Any = work.loaded.model
    table, width = model.get_input_embeddings(), len(work.prefix)
    ends = end_tokens(model, work.loaded.tokenizer)
    for first in range(0, len(work.requests), batch):
        requests = work.requests[first : first + batch]
        begun = time.perf_counter()
        longest = max(len(request.token_ids) for request in requests)
        mask = torch.zeros(len(requests), width + longest, dtype=torch.long)
        embedded = torch.zeros(*mask.shape, work.prefix.shape[1])
        for row, request in enumerate(requests):
            sequence = torch.cat([work.prefix, table(torch.tensor(request.token_ids))])
            embedded[row, -len(sequence) :] = sequence
            mask[row, -len(sequence) :] = 1
        with torch.inference_mode():
            output = model.generate(
                inputs_embeds=embedded, attention_mask=mask, max_new_tokens=work.settings.max_new_tokens,
                do_sample=False, eos_token_id=list(ends), pad_token_id=min(ends), stopping_criteria=[stop],
            )
        seconds = time.perf_counter() - begun
        yield seconds, {r.task_id: until_end(row, ends) for r, row in zip(requests, output.tolist(), strict=True)}


def until_end(tokens: Sequence[int], ends: frozenset[int]) -> Tokens:
    """The tokens before the first that ends a text; `generate` fills up with one of those."""
    return tuple(tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))])
