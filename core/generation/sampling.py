"""Choosing the next token from logits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def request_generator(seed: int, task_id: str, sample: int) -> torch.Generator:
    """A random stream that depends on these three alone: not on the slot, the batch or the order of requests."""
    digest = hashlib.sha256(f"{seed}/{task_id}/{sample}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def nucleus(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Probabilities [B, V] in float32 at `temperature` (> 0) in the smallest set of tokens that holds `top_p`.

    The order of operations is that of transformers' warpers (Holtzman et al. 2020, arXiv 1904.09751, section 3.1), so
    that the set is the same to the last token.
    """
    scores = logits.float() / temperature
    if top_p < 1:
        ascending, order = scores.sort(dim=-1)
        outside = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        outside[:, -1] = False
        scores = scores.masked_fill(outside.scatter(1, order, outside), float("-inf"))
    return scores.softmax(dim=-1)


def draw(probabilities: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """One token [B] a row of `probabilities` [B, V], each with a number of its own generator: inverse CDF."""
    uniform = torch.stack([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
    cumulative = probabilities.double().cumsum(dim=-1)
    target = uniform.to(cumulative.device) * cumulative[:, -1:]
    # The first token whose cumulative probability exceeds the target: never one of probability zero.
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)


def next_tokens(
    logits: torch.Tensor, temperature: float, top_p: float, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Next token [B] of each row of `logits` [B, V]: the likeliest at temperature 0, else a sample."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    return draw(nucleus(logits, temperature, top_p), generators)
