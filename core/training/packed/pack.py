"""Rows end to end, in shapes that recur."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from core.data.batches import Example, Row

TOKENS, SUPERVISED = 512, 256
"""Multiples that the numbers of tokens, and of supervised ones, are filled up to where shapes should recur."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a pack: packs of one shape differ in numbers alone."""

    tokens: int
    """T."""
    rows: int
    """S."""
    sequences: int
    """S, and one more where it is filled up."""
    virtual_tokens: int
    """V."""
    supervised: int
    """N."""
    longest: int
    """What no sequence is longer than."""


class Pack:
    """S rows of T tokens together, of which N are followed by a supervised one.

    The last token of a sequence predicts nothing and is left out. What fills a pack up is one more sequence of any
    tokens, and the first supervised one again, which weighs nothing: where that is no number, its prompt's loss is none
    anyway, and no other prompt's.
    """

    def __init__(self, shape: Shape, numbers: torch.Tensor, weights: torch.Tensor) -> None:
        """Take all numbers in one tensor, in the order of what follows here."""
        self.shape, self.numbers, self.weights = shape, numbers, weights
        rows, tokens, supervised = shape.rows, shape.tokens, shape.supervised
        sizes = [tokens, tokens, rows * shape.virtual_tokens, rows, shape.sequences + 1, *[supervised] * 3]
        parts = numbers.split(sizes)
        self.ids, self.positions = parts[0], parts[1]
        """[T]: token ids, any where a virtual token stands; places from 0 in each sequence."""
        self.virtual, self.prompts = parts[2], parts[3]
        """[S × V]: where virtual tokens stand; [S]: which soft prompt each row has."""
        self.starts = parts[4]
        """[sequences + 1]: the first token of each, and one past the last."""
        self.places, self.targets, self.owners = parts[5], parts[6], parts[7]
        """[N]: the token before each supervised one, whose output predicts it; those themselves; the soft prompt."""

    def to(self, device: torch.device) -> Pack:
        """The same on a device."""
        return Pack(self.shape, *(part.to(device, non_blocking=True) for part in (self.numbers, self.weights)))

    def copy(self, other: Pack) -> None:
        """Take the numbers of another of the same shape."""
        self.numbers.copy_(other.numbers, non_blocking=True)
        self.weights.copy_(other.weights, non_blocking=True)


def pack(rows: Sequence[Row], virtual_tokens: int, filled: bool = False) -> Pack:
    """Lay rows end to end, each with room for its soft prompt; filled up to a shape that recurs, or not."""
    encoded = [_encoded(row.example) for row in rows]
    room = torch.zeros(virtual_tokens, dtype=torch.long)
    before = torch.tensor([len(row.example.before) for row in rows])
    counts = torch.tensor([len(row.example.target) for row in rows])
    lengths = [row.example.tokens - 1 + virtual_tokens for row in rows]
    tokens, supervised, longest = sum(lengths), int(counts.sum()), max(lengths)
    more_tokens, more_supervised = (-tokens % TOKENS, -supervised % SUPERVISED) if filled else (0, 0)
    if filled:
        lengths.append(more_tokens)
        longest = -(-max(longest, more_tokens) // TOKENS) * TOKENS
    sizes = torch.tensor(lengths)
    ends = sizes.cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends])
    firsts, lasts = starts[: len(rows)], ends[: len(rows)]
    fill = torch.zeros(more_supervised, dtype=torch.long)
    before_each = counts.cumsum(0) - counts
    numbers = [
        *(part for first, rest, _ in encoded for part in (first, room, rest)),
        torch.zeros(more_tokens, dtype=torch.long),
        torch.arange(tokens + more_tokens) - starts[:-1].repeat_interleave(sizes),
        ((firsts + before)[:, None] + torch.arange(virtual_tokens)).flatten(),
        torch.tensor([row.prompt for row in rows]),
        starts,
        (lasts - counts - before_each).repeat_interleave(counts) + torch.arange(supervised),
        fill + (lasts[0] - counts[0]),
        *(target for _, _, target in encoded), fill + encoded[0][2][0],
        torch.tensor([row.prompt for row in rows]).repeat_interleave(counts), fill + rows[0].prompt,
    ]
    weights = torch.tensor([row.weight for row in rows]).repeat_interleave(counts)
    shape = Shape(
        tokens + more_tokens, len(rows), len(lengths), virtual_tokens, supervised + more_supervised, longest
    )
    return Pack(shape, torch.cat(numbers), torch.cat([weights, torch.zeros(more_supervised)]))


@functools.lru_cache(maxsize=4096)
def _tensor(ids: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(ids, dtype=torch.long)


def _encoded(example: Example) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What stands before P, behind it without the last token, and what is supervised; made once for each example."""
    return _tensor(example.before), _tensor((*example.context, *example.target[:-1])), _tensor(example.target)


def attend(
    batch: Pack, bounds: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Causal attention within each sequence of a pack.

    On a GPU it is FlashAttention's kernel for sequences of many lengths (Dao 2023, arXiv 2307.08691), which computes in
    16 bits; torch has it as an operator without a name of its own.

    Args:
        bounds: `batch.starts` in int32.
        query: [T, heads, width].
        key, value: [T, shared, width], each for heads / shared query heads.

    Returns:
        [T, heads, width].
    """
    if query.is_cuda:
        longest = batch.shape.longest
        result: torch.Tensor = torch.ops.aten._flash_attention_forward(
            query, key, value, bounds, bounds, longest, longest, 0.0, True, False, scale=scaling
        )[0]
        return result
    lengths = batch.starts.diff().tolist()
    return torch.cat([
        scaled_dot_product_attention(
            *(part.transpose(0, 1)[None] for part in parts), is_causal=True, scale=scaling, enable_gqa=True
        )[0].transpose(0, 1)
        for parts in zip(*(part.split(lengths) for part in (query, key, value)), strict=True) if len(parts[0])
    ])
