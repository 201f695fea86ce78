"""Causal attention of the last tokens of one sequence, and its gradient, as matrix products.

torch's own kernel for a CPU is made for many cores and long sequences. For one sequence of HumanEval on one core the
products below took 0.75 of its time forwards and 0.57 backwards (200 tokens, 9 heads, 3 key-value heads, width 64).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch

from core.training.rows.workspace import Take

BLOCK = 64
"""Queries at a time: with fewer there are more products, with more a larger share of the scores lies in the future."""
KEPT, ROOMY = 256, 416
"""Probabilities of so many keys are kept for the gradient; in a group of so few tokens, which takes no more memory with
them than the largest groups, those of more. Else, most of a long row's memory, they are computed once more."""


def keeps(tokens: int, keys: int) -> bool:
    """Whether the probabilities of so many keys are kept, of a sequence in a group of so many tokens."""
    return keys <= KEPT or (tokens <= ROOMY and tokens * keys <= ROOMY * ROOMY)


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, result: torch.Tensor, take: Take | None
) -> list[torch.Tensor | None]:
    """Attention of the last m of n tokens.

    Args:
        query: [shared, group, m, width], scaled: the query heads that share a key-value head are a group.
        keys, values: [shared, n, width].
        result: [m, shared, group, width], which is written.
        take: gives the memory of probabilities that are kept; None to keep none.

    Returns:
        The probabilities of each block, or None, for the gradient.
    """
    shared, group, tokens, width = query.shape
    by_head = result.permute(1, 2, 0, 3)
    kept: list[torch.Tensor | None] = []
    for start, end, seen in _blocks(tokens, keys.shape[1]):
        probability = _probabilities(query[:, :, start:end], keys[:, :seen], take or torch.empty)
        by_head[:, :, start:end] = torch.bmm(probability, values[:, :seen]).view(shared, group, end - start, width)
        kept.append(probability if take else None)
    return kept


def attend_gradient(
    of_result: torch.Tensor, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
    kept: Sequence[torch.Tensor | None], of_keys: torch.Tensor, of_values: torch.Tensor,
) -> torch.Tensor:
    """The gradient of `query`; those of keys and values [shared, n, width] are added to `of_keys` and `of_values`."""
    shared, group, tokens, width = query.shape
    of_query = torch.empty_like(query)
    by_head = of_result.permute(1, 2, 0, 3)
    for (start, end, seen), probability in zip(_blocks(tokens, keys.shape[1]), kept, strict=True):
        rows = (shared, group * (end - start), width)
        if probability is None:
            probability = _probabilities(query[:, :, start:end], keys[:, :seen])
        of_block = by_head[:, :, start:end].reshape(rows)
        of_values[:, :seen].baddbmm_(probability.transpose(1, 2), of_block)
        of_scores = torch.bmm(of_block, values[:, :seen].transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_scores, probability, -1, probability.dtype)
        of_query[:, :, start:end] = torch.bmm(of_scores, keys[:, :seen]).view(shared, group, -1, width)
        of_keys[:, :seen].baddbmm_(of_scores.transpose(1, 2), query[:, :, start:end].reshape(rows))
    return of_query


def _probabilities(query: torch.Tensor, keys: torch.Tensor, take: Take = torch.empty) -> torch.Tensor:
    """Of a block of the last queries [shared, group, size, width] over all keys: [shared, group × size, n]."""
    shared, group, size, width = query.shape
    scores = take(shared * group * size, keys.shape[1]).view(shared, group * size, -1)
    torch.bmm(query.reshape(shared, group * size, width), keys.transpose(1, 2), out=scores)
    scores.view(shared, group, size, -1)[..., -size:].add_(_future(size))
    return torch.softmax(scores, dim=-1, out=scores)


def _blocks(tokens: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Blocks of the last `tokens` of `length`: first, one past the last, and how many keys the last one sees."""
    count = -(-tokens // BLOCK)
    for number in range(count):
        start, end = tokens * number // count, tokens * (number + 1) // count
        yield start, end, length - tokens + end


@functools.lru_cache(maxsize=BLOCK)
def _future(size: int) -> torch.Tensor:
    """What is added to the scores [size, size] of a block's own keys: minus infinity where a key comes later."""
    return torch.full((size, size), -torch.inf).triu_(diagonal=1)
