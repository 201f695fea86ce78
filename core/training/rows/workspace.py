"""Memory for what a pass keeps until its gradient, taken once and written anew by each group of rows.

A page that the system hands out for the first time costs 2 to 10 µs, and a step of SmolLM2-135M keeps 200,000 of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

Take = Callable[[int, int], torch.Tensor]
"""Gives an uninitialized float32 matrix on the CPU, by rows and columns; `torch.empty` is one."""
ALIGNMENT = 16
"""Numbers, a line of the processor's cache."""
BLOCK = 16 << 20
"""Numbers of a block, which takes no memory before they are written."""


class Workspace:
    """Blocks of memory for all that is taken between two resets, as many as were ever needed.

    What is larger than a block gets one of its own size, and the next time another if it is larger then.
    """

    def __init__(self) -> None:
        self._blocks: list[torch.Tensor] = []
        self._taken: list[int] = []

    def take(self, rows: int, columns: int) -> torch.Tensor:
        """See `Take`; valid until the next reset."""
        count = rows * columns
        needed = math.ceil(count / ALIGNMENT) * ALIGNMENT
        room = (number for number, block in enumerate(self._blocks) if self._taken[number] + needed <= len(block))
        number = next(room, len(self._blocks))
        if number == len(self._blocks):
            self._blocks.append(torch.empty(max(needed, BLOCK)))
            self._taken.append(0)
        start = self._taken[number]
        self._taken[number] += needed
        return self._blocks[number][start : start + count].view(rows, columns)

    def reset(self) -> None:
        """Let the next ones who take have the same memory."""
        self._taken = [0] * len(self._blocks)
