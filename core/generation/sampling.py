"""Choosing the next token from logits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch.nn.functional import pad

CANDIDATES = (64, 2048)
"""On a CPU a nucleus is looked for among so many of the likeliest tokens first: sorting the vocabulary takes longer
than a forward pass (32 rows of 49,152: 117 ms; the 64 likeliest: 3 ms)."""
DOUBT = 1e-6
"""Cumulative probabilities closer than this to `top_p` may be on the other side of it in another order of summing."""
BLOCK = 128
"""A draw finds its block of the vocabulary first: running totals of 49,152 numbers a row take 6 times as long."""


def request_generator(seed: int, task_id: str, sample: int) -> torch.Generator:
    """A random stream that depends on these three alone: not on the slot, the batch or the order of requests."""
    digest = hashlib.sha256(f"{seed}/{task_id}/{sample}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def next_tokens(
    logits: torch.Tensor, temperature: float, top_p: float, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Next token [B] of each row of `logits` [B, V]: the likeliest at temperature 0, else a sample."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    uniform = torch.stack([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
    uniform = uniform.to(logits.device)
    scores = logits.float() / temperature
    if top_p == 1:
        return draw(scores.softmax(dim=-1), uniform)
    tokens = torch.empty(len(scores), dtype=torch.long, device=scores.device)
    left = torch.arange(len(scores), device=scores.device)
    for count in CANDIDATES if scores.device.type == "cpu" else ():  # to look at `sure` is to wait for a GPU
        probabilities, ids, sure = likely_nucleus(scores[left], top_p, count)
        tokens[left[sure]] = _draw_from(probabilities, ids, uniform[left])[sure]
        left = left[~sure]
        if not len(left):
            return tokens
    tokens[left] = _draw_from(*nucleus(scores[left], top_p), uniform[left])
    return tokens


def nucleus(scores: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities [B, V], likeliest first, in the smallest set of tokens that holds `top_p`, and 0 beyond; their ids.

    The order of operations is that of transformers' warpers (Holtzman et al. 2020, arXiv 1904.09751, section 3.1), so
    that the set is the same to the last token.
    """
    ascending, order = scores.sort(dim=-1)
    outside = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    outside[:, -1] = False
    return ascending.masked_fill(outside, float("-inf")).softmax(dim=-1).flip(-1), order.flip(-1)


def likely_nucleus(
    scores: torch.Tensor, top_p: float, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same [B, count] of the likeliest tokens alone, not normalized, and whether [B] that is sure to be the set.

    It is not if the set may have more tokens, ends where two are equally likely, or is a matter of rounding.
    """
    likely, ids = scores.softmax(dim=-1).topk(min(count, scores.shape[-1]))
    before = likely.double().cumsum(dim=-1) - likely.double()
    inside = before < top_p
    last = inside.sum(dim=-1, keepdim=True)
    ends = last < likely.shape[-1]
    tie = likely.gather(-1, last - 1) == likely.gather(-1, last.clamp(max=likely.shape[-1] - 1))
    doubt = ((before - top_p).abs() < DOUBT).any(dim=-1, keepdim=True)
    return likely.where(inside, 0.0), ids, (ends & ~tie & ~doubt).squeeze(-1)


def _draw_from(probabilities: torch.Tensor, ids: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    return ids.gather(-1, draw(probabilities, uniform)[:, None]).squeeze(-1)


def draw(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The place [B] in each row of `probabilities` [B, N], of any sum, that a number in [0, 1) picks: inverse CDF.

    Args:
        uniform: [B, 1], float64.
    """
    rows, places = probabilities.shape
    whole = pad(probabilities, (0, -places % BLOCK)) if places % BLOCK else probabilities
    blocks = whole.view(rows, -1, BLOCK)
    block, uniform = _pick(blocks.sum(dim=-1), uniform)
    chosen = blocks[torch.arange(rows, device=blocks.device), block.squeeze(-1)]
    return (block * BLOCK + _pick(chosen, uniform)[0]).squeeze(-1)


def _pick(weights: torch.Tensor, uniform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The index [B, 1] that `uniform` [B, 1] falls on, never one of weight 0, and where within it, again in [0, 1)."""
    cumulative = weights.double().cumsum(dim=-1)
    target = uniform * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True)
    weight = weights.double().gather(-1, index)
    within = (target - (cumulative.gather(-1, index) - weight)) / weight
    return index, within.clamp(0.0, 1.0 - 2**-53)
