"""transformers' `generate` at the work of decoding.py: what our decoder is measured against."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, StopStringCriteria

from core.contract.config import Config
from core.generation.decoder import DecodingSettings, Request
from core.generation.slots import end_tokens
from core.model.loading import LoadedModel, load_model
from tests.bench.other_process import OtherProcess

Tokens = tuple[int, ...]
Piece = tuple[float, dict[str, Tokens]]
"""Seconds, and the completions that were ready then, up to where each ends."""


class GenerateProcess(OtherProcess[Sequence[Request], Piece]):
    """Completes by `generate`, in a process of its own, as many requests at once as it is asked.

    Args:
        config: it says which model the process loads.
        quick: a tiny model takes its place.
        prefix: the soft prompt [V, H].
    """

    def __init__(self, config: Config, quick: bool, prefix: torch.Tensor, settings: DecodingSettings) -> None:
        super().__init__(_generating, config, quick, prefix, settings)

    def pieces(self, requests: Sequence[Request], batch: int) -> Iterator[Piece]:
        """A piece a batch, in the order of the requests."""
        for first in range(0, len(requests), batch):
            yield self.ask(requests[first : first + batch])


def load(config: Config, quick: bool) -> LoadedModel:
    """The model of the bench; `quick` puts one of chance weights, tiny, in its place, with its vocabulary."""
    loaded = load_model(config)
    if not quick:
        return loaded
    tiny = copy.deepcopy(loaded.model.config)
    tiny.update({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
                 "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.2})
    torch.manual_seed(0)
    return replace(loaded, model=AutoModelForCausalLM.from_config(tiny).eval().requires_grad_(False))


def _generating(
    config: Config, quick: bool, prefix: torch.Tensor, settings: DecodingSettings
) -> Callable[[Sequence[Request]], Piece]:
    """What completes requests together: padding, soft prompt, prompt."""
    loaded = load(config, quick)
    model: Any = loaded.model
    table, width, ends = model.get_input_embeddings(), len(prefix), end_tokens(model, loaded.tokenizer)
    # Made once: `generate(stop_strings=…)` makes it anew in every call, which takes 0.6 s; a step costs it 0.1 ms.
    stop = StopStringCriteria(loaded.tokenizer, list(settings.stop_sequences))

    def generate(requests: Sequence[Request]) -> Piece:
        begun = time.perf_counter()
        longest = max(len(request.token_ids) for request in requests)
        mask = torch.zeros(len(requests), width + longest, dtype=torch.long)
        embedded = torch.zeros(*mask.shape, prefix.shape[1])
        for row, request in enumerate(requests):
            sequence = torch.cat([prefix, table(torch.tensor(request.token_ids))])
            embedded[row, -len(sequence) :] = sequence
            mask[row, -len(sequence) :] = 1
        with torch.inference_mode():
            output = model.generate(
                inputs_embeds=embedded, attention_mask=mask, max_new_tokens=settings.max_new_tokens,
                do_sample=False, eos_token_id=list(ends), pad_token_id=min(ends), stopping_criteria=[stop],
            )
        seconds = time.perf_counter() - begun
        return seconds, {r.task_id: until_end(row, ends) for r, row in zip(requests, output.tolist(), strict=True)}

    return generate


def until_end(tokens: Sequence[int], ends: frozenset[int]) -> Tokens:
    """The tokens before the first that ends a text; `generate` fills up with one of those."""
    return tuple(tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))])
