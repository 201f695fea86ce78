"""Keys and values of the sequences being decoded, in buffers that are written in place.

transformers' own caches append by copying everything each step, or give every row of a batch the same length. Here each
row is a sequence of its own length, rows come and go while others go on, and all begin with one shared prefix.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import Cache


@dataclass(frozen=True)
class Block:
    """A forward pass over whole sequences: rows `rows`, positions from `start` to before `end`."""

    rows: slice
    start: int
    end: int


@dataclass(frozen=True)
class Tips:
    """A forward pass over one token of each of the first rows: its position in each, [n], and 1 + the largest."""

    positions: torch.Tensor
    end: int
    _places: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def places(self, heads: int, capacity: int) -> torch.Tensor:
        """Where the tokens go in a buffer seen as [slots × heads × capacity, width]: [n × heads], made once a pass."""
        if (heads, capacity) not in self._places:
            device = self.positions.device
            rows = torch.arange(len(self.positions), device=device)[:, None]
            lines = rows * heads + torch.arange(heads, device=device)
            self._places[heads, capacity] = (lines * capacity + self.positions[:, None]).flatten()
        return self._places[heads, capacity]


class SlotCache(Cache):
    """Buffers [slots, key-value heads, capacity, head width] for each layer; index = position, nothing in between.

    Before a forward pass `target` says which rows and positions its tokens take. What is beyond a row's length is
    stale or zero, always finite, and for the attention mask to hide.
    """

    def __init__(self, slots: int, capacity: int) -> None:
        """Make room for `slots` sequences of `capacity` tokens; memory is taken at the first forward pass."""
        super().__init__(layers=[])
        self.slots = slots
        self.capacity = capacity
        self.target: Block | Tips = Block(slice(0, 0), 0, 0)
        self._buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new keys and values [B, heads, T, width]; return all those of the same rows so far, as views.

        One row written to several (the prefix) is copied to each of them.
        """
        if layer_idx not in self._buffers:
            self._buffers[layer_idx] = (self._room_for(key_states), self._room_for(value_states))
        keys, values = self._buffers[layer_idx]
        target = self.target
        if isinstance(target, Block):
            keys[target.rows, :, target.start : target.end] = key_states
            values[target.rows, :, target.start : target.end] = value_states
            first = target.rows.start
        else:
            places = target.places(keys.shape[1], self.capacity)
            keys.view(-1, keys.shape[3]).index_copy_(0, places, key_states.reshape(-1, keys.shape[3]))
            values.view(-1, values.shape[3]).index_copy_(0, places, value_states.reshape(-1, values.shape[3]))
            first = 0
        read = slice(first, first + len(key_states))
        return keys[read, :, : target.end], values[read, :, : target.end]

    def reserve(self, length: int) -> None:
        """Make sure that sequences of `length` tokens fit; buffers that must grow become half as large again."""
        if length <= self.capacity:
            return
        self.capacity = max(length, self.capacity + self.capacity // 2)
        for layer, (keys, values) in self._buffers.items():
            self._buffers[layer] = (self._grown(keys), self._grown(values))

    def copy(self, source: int, destination: int, start: int, end: int) -> None:
        """Copy positions `start` to before `end` of one row over those of another."""
        for buffers in self._buffers.values():
            for buffer in buffers:
                buffer[destination, :, start:end] = buffer[source, :, start:end]

    def _room_for(self, states: torch.Tensor) -> torch.Tensor:
        # Zeros, because a masked position still meets a weight of 0, and 0 × NaN is NaN.
        shape = (self.slots, states.shape[1], self.capacity, states.shape[3])
        if states.device.type != "cpu":
            return states.new_zeros(shape)
        # The system hands out pages of zeros when they are first written, which most never are.
        pages = mmap.mmap(-1, math.prod(shape) * states.element_size())
        return torch.frombuffer(pages, dtype=states.dtype).view(shape)

    def _grown(self, buffer: torch.Tensor) -> torch.Tensor:
        larger = self._room_for(buffer)
        larger[:, :, : buffer.shape[2]] = buffer
        return larger
