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

    def __init__(self, slots: int, unused: int, device: torch.device, record: Recorder[torch.Tensor]) -> None:
        """Take what records; `unused` is a position at which nothing of a free slot's row is worth keeping.

        The steps come with each call: kept, they would keep the cache that they use.
        """
        self._unused = unused
        self._record = record
        self._inputs = torch.zeros(2, slots, dtype=torch.long, device=device)
        self._replays: dict[tuple[int, int], Replay[torch.Tensor]] = {}
        self._refused: set[tuple[int, int]] = set()
        self._capacity = 0

    def __call__(
        self, step: Step, tokens: Sequence[int], positions: Sequence[int], capacity: int, faster: Step | None = None
    ) -> torch.Tensor:
        """Logits [n, vocabulary], good until the next call.

        Args:
            capacity: of the cache; where it changes the cache is another.
            faster: another way to compute the step, which is recorded in its place where it gives the same.
        """
        if capacity != self._capacity:
            self._replays.clear()
            self._capacity = capacity
        slots = self._inputs.shape[1]
        rows = min([number for number in ROWS if len(tokens) <= number < slots], default=slots)
        end = min(-(-(max(positions) + 1) // POSITIONS) * POSITIONS, capacity)
        more = rows - len(tokens)
        self._inputs[:, :rows] = torch.tensor([[*tokens, *[0] * more], [*positions, *[self._unused] * more]])
        inputs = self._inputs[0, :rows], self._inputs[1, :rows], end
        return self._replay((rows, end), step, faster or step, inputs)()[: len(tokens)]

    def _replay(
        self, shape: tuple[int, int], step: Step, faster: Step, inputs: tuple[torch.Tensor, torch.Tensor, int]
    ) -> Replay[torch.Tensor]:
        """The recording of a shape, made if there is none, or the step itself where there cannot be one."""
        own = functools.partial(step, *inputs)
        if shape not in self._replays and shape not in self._refused:
            replay = self._recording(functools.partial(faster, *inputs), own)
            if replay is None and faster is not step:
                replay = self._recording(own, own)
            if replay is None:
                self._refused.add(shape)
            else:
                self._replays[shape] = replay
        return self._replays.get(shape, own)

    def _recording(self, way: Replay[torch.Tensor], own: Replay[torch.Tensor]) -> Replay[torch.Tensor] | None:
        """A recording of one way to compute a step, if it can be recorded and gives the same."""
        try:
            if not self._replays:
                way()  # libraries set themselves up the first time
            with _waiting_refused(self._inputs.device):  # a failed recording would leave torch's allocator in one
                expected = way() if self._replays else own()
            replay = self._record(way)
            return replay if agree(replay(), expected) else None
        except RuntimeError:  # a step that waits for the GPU, or takes more memory than there is
            return None


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
