"""Decoding steps of few shapes, whose inputs stand in buffers of their own: what CUDA can record once and replay.

A recording is used only after it gave the logits of the step itself, the first one those of the model's own forward
pass. For that both run on the same inputs: a step may be repeated, because it writes the same keys and values to the
same places and reads nothing that it changes otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch

from core.model.graphs import Recorder, Replay

ROWS = (8, 32, 128, 512, 2048)
"""A step is computed for so many rows, or for all slots: the next larger number. On a GPU rows are cheap."""
POSITIONS = 256
"""It sees a multiple of so many positions."""

Step = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Logits [n, vocabulary] from the newest tokens [n], their positions [n], and how many positions may be seen."""


class RecordedSteps:
    """Steps over the first rows of a cache; rows that are added to fill a shape up lie behind the active ones."""

    def __init__(
        self, step: Step, slots: int, unused: int, device: torch.device, record: Recorder[torch.Tensor],
        faster: Step | None = None,
    ) -> None:
        """Take the step to record.

        Args:
            unused: a position at which nothing of a free slot's row is worth keeping.
            faster: another way to compute it, which is recorded in its place where it gives the same.
        """
        self._step, self._faster = step, faster or step
        self._unused = unused
        self._record = record
        self._inputs = torch.zeros(2, slots, dtype=torch.long, device=device)
        self._replays: dict[tuple[int, int], Replay[torch.Tensor]] = {}
        self._refused: set[tuple[int, int]] = set()
        self._capacity = 0

    def __call__(self, tokens: Sequence[int], positions: Sequence[int], capacity: int) -> torch.Tensor:
        """Logits [n, vocabulary], good until the next call; a change of `capacity` means that the cache is another."""
        if capacity != self._capacity:
            self._replays.clear()
            self._capacity = capacity
        slots = self._inputs.shape[1]
        rows = min([number for number in ROWS if len(tokens) <= number < slots], default=slots)
        end = min(-(-(max(positions) + 1) // POSITIONS) * POSITIONS, capacity)
        more = rows - len(tokens)
        self._inputs[:, :rows] = torch.tensor([[*tokens, *[0] * more], [*positions, *[self._unused] * more]])
        return self._replay(rows, end)()[: len(tokens)]

    def _replay(self, rows: int, end: int) -> Replay[torch.Tensor]:
        """The recording of a shape, made if there is none, or the step itself where there cannot be one."""
        shape = (rows, end)
        inputs = self._inputs[0, :rows], self._inputs[1, :rows], end
        step = functools.partial(self._step, *inputs)
        if shape not in self._replays and shape not in self._refused:
            try:
                recorded = functools.partial(self._faster, *inputs)
                if not self._replays:
                    recorded()  # libraries set themselves up the first time
                with _waiting_refused(self._inputs.device):  # a failed recording would leave torch's allocator in one
                    expected = recorded() if self._replays else step()
                replay = self._record(recorded)
                good = agree(replay(), expected)
            except RuntimeError:  # a step that waits for the GPU, or takes more memory than there is
                good = False
            if good:
                self._replays[shape] = replay
            else:
                self._refused.add(shape)
        return self._replays.get(shape, step)


def agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether all logits are finite, and differ by no more than √ε of the largest, with ε that of their type."""
    difference, largest = (found - expected).abs().max(), expected.abs().max()
    return bool(largest.isfinite() and difference <= largest * torch.finfo(expected.dtype).eps ** 0.5)


@contextlib.contextmanager
def _waiting_refused(device: torch.device) -> Iterator[None]:
    """Within the block, operations that wait for a GPU raise RuntimeError, as far as torch knows them."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once that this mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
