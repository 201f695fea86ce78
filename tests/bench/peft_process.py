"""peft's prompt tuning in a process of its own, as in a program that knows nothing of softtune.

Beside our steps in one process it is slower than alone, since they change what the process keeps of the memory that it
frees. So it has its own copy of the model, and memory as the C library hands it out. Our settings of how threads wait
it has, too: on a quiet machine they change nothing for it, on a busy one it loses less. One side waits on a pipe while
the other works.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import torch
from torch import multiprocessing

from core.contract.config import Config
from core.data.batches import Example
from core.model.loading import load_model
from tests.bench.peft_peer import PeftPeer
from tests.bench.steps import Step


class PeftProcess:
    """A `PeftPeer` whose steps, and their seconds, are another process's; at the end of a `with` that is gone.

    Args:
        config: it says which model the process loads.
        problems: see `PeftPeer`, and the same for `rows` and `pad_to`.
    """

    def __init__(self, config: Config, problems: int, rows: torch.Tensor, pad_to: int | None = None) -> None:
        self._prompt = rows.clone().share_memory_()
        self._connection, connection = multiprocessing.Pipe()
        arguments = (connection, self._prompt, config, problems, pad_to)
        self._running = multiprocessing.spawn(_take_steps, arguments, join=False, daemon=True)
        connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        (process,) = self._running.processes
        process.kill()
        process.join()
        self._connection.close()

    @property
    def prompt(self) -> torch.Tensor:
        """See `tests.bench.steps.Side`; both processes' memory."""
        return self._prompt

    def step(self, examples: Sequence[Example]) -> Step:
        """See `tests.bench.steps.Side`.

        Raises:
            torch.multiprocessing.ProcessException: the process has failed, with its traceback, or was killed.
            ConnectionError: it has ended for no reason that it tells.
        """
        try:
            self._connection.send(examples)
            step: Step = self._connection.recv()
        except (EOFError, OSError) as error:
            self._running.join()
            raise ConnectionError("peft's process has ended") from error
        return step


def _take_steps(
    _: int, connection: Connection, prompt: torch.Tensor, config: Config, problems: int, pad_to: int | None
) -> None:
    """A step for each effective batch that comes, from what `prompt` is then, until nobody is there to ask for one."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of what peft asks it
    peer = PeftPeer(load_model(config), config, problems, prompt, pad_to)
    with contextlib.suppress(EOFError):
        while True:
            examples = connection.recv()
            peer.prompt.copy_(prompt)
            step = peer.step(examples)
            prompt.copy_(peer.prompt)
            connection.send(step)
