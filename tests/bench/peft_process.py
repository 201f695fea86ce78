"""peft's prompt tuning in a process of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch

from core.contract.config import Config
from core.data.batches import Example
from core.model.loading import load_model
from tests.bench.other_process import OtherProcess
from tests.bench.peft_peer import PeftPeer
from tests.bench.steps import Step


class PeftProcess(OtherProcess[Sequence[Example], Step]):
    """A `PeftPeer` whose steps, and their seconds, are another process's.

    Args:
        config: it says which model the process loads.
        problems: see `PeftPeer`, and the same for `rows` and `pad_to`.
    """

    def __init__(self, config: Config, problems: int, rows: torch.Tensor, pad_to: int | None = None) -> None:
        self._prompt = rows.clone().share_memory_()
        super().__init__(_steps, self._prompt, config, problems, pad_to)

    @property
    def prompt(self) -> torch.Tensor:
        """See `tests.bench.steps.Side`; both processes' memory."""
        return self._prompt

    def step(self, examples: Sequence[Example]) -> Step:
        """See `tests.bench.steps.Side`, and `ask` for what it raises."""
        return self.ask(examples)


def _steps(
    prompt: torch.Tensor, config: Config, problems: int, pad_to: int | None
) -> Callable[[Sequence[Example]], Step]:
    """What takes a step on an effective batch, from what `prompt` is then."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of what peft asks it
    peer = PeftPeer(load_model(config), config, problems, prompt, pad_to)

    def step(examples: Sequence[Example]) -> Step:
        peer.prompt.copy_(prompt)
        taken = peer.step(examples)
        prompt.copy_(peer.prompt)
        return taken

    return step
