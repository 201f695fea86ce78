"""Recording of what a GPU is asked for, to be replayed at once: CUDA graphs.

A step of a small model is a thousand short kernels, and to launch them one by one takes longer than to run them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")
Replay = Callable[[], Result]
"""Computes from what stands in the tensors that it was made with; its result is good until anything is replayed."""
Recorder = Callable[[Replay[Result]], Replay[Result]]
"""Records what a call does and gives what replays it; RuntimeError if it cannot be recorded."""


def recorder(device: torch.device) -> Recorder[Any] | None:
    """What records on this device, if anything does."""
    return CudaGraphs() if device.type == "cuda" else None


class CudaGraphs:
    """Records CUDA graphs, which share the memory of what they compute on the way.

    What is recorded must not wait for the GPU, and must have run before: libraries set themselves up the first time.
    """

    def __init__(self) -> None:
        self._first: torch.cuda.CUDAGraph | None = None  # kept: memory can be shared with a graph that exists only

    def __call__(self, step: Replay[Result]) -> Replay[Result]:
        """Record a step.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        pool = None if self._first is None else self._first.pool()
        # Other threads may go on to use the device, to measure its memory for example.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = step()
        self._first = self._first or graph

        def replay() -> Result:
            graph.replay()
            return result

        return replay
