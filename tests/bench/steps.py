"""Optimizer steps of training, ours and a peer's in turns on the same effective batches.

Ours is `Trainer.train_step` with the passes that softtune chooses: micro-batching, losses, gradient, clipping and the
optimizer, as in every run. Only the examples of a step are of the bench's choosing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.events import Event, StepCompleted
from core.contract.plan import plan_training
from core.contract.record import Split
from core.contract.runs import RunFolder
from core.data.batches import Example
from core.model.loading import LoadedModel
from core.model.soft_prompt import SoftPrompt
from core.training.checkpoints import CheckpointWriter
from core.training.loop import Trainer
from core.training.member import Member
from core.training.setup import choose_passes


@dataclass(frozen=True)
class Step:
    """One optimizer step: seconds, mean loss, the gradient's norm before clipping, the gradient itself after it."""

    seconds: float
    loss: float
    norm: float
    gradient: torch.Tensor
    """[V, H]."""


class Side(Protocol):
    """One of two that train; both begin a step with the same soft prompt."""

    @property
    def prompt(self) -> torch.Tensor:
        """The rows [V, H] that learn."""

    def step(self, examples: Sequence[Example]) -> Step:
        """Take one optimizer step on an effective batch."""


@dataclass(frozen=True)
class Pair:
    """The same step by both."""

    examples: Sequence[Example]
    ours: Step
    theirs: Step

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.theirs.seconds / self.ours.seconds

    @property
    def tokens(self) -> int:
        """Tokens of the step, without padding and without the soft prompt."""
        return sum(example.tokens for example in self.examples)

    @property
    def difference(self) -> float:
        """Largest difference of loss, norm and gradient, each as a share of theirs (of the largest of the gradient)."""
        gradient = (self.ours.gradient - self.theirs.gradient).abs().max() / self.theirs.gradient.abs().max()
        numbers = ((self.ours.loss, self.theirs.loss), (self.ours.norm, self.theirs.norm))
        return max(gradient.item(), *(abs(ours - theirs) / abs(theirs) for ours, theirs in numbers))


@dataclass(frozen=True)
class Spread:
    """The median of some ratios, and the least and greatest of them."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:.2f}–{self.most:.2f} ×"


def spread(ratios: Sequence[float]) -> Spread:
    """Of at least one."""
    return Spread(statistics.median(ratios), min(ratios), max(ratios))


@contextmanager
def waited_for(device: torch.device) -> Iterator[Callable[[], float]]:
    """Seconds of the block by calling what it gets, after it; a GPU has then done all that was asked of it."""
    _wait(device)
    begun = time.perf_counter()
    seconds = 0.0
    yield lambda: seconds
    _wait(device)
    seconds = time.perf_counter() - begun


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class GivenBatches(Member):
    """A member whose next step is on `batch`, whatever its epoch's order."""

    batch: Sequence[Example] = ()

    def next_batch(self) -> Sequence[Example]:
        """See `batch`."""
        return self.batch


def make_member(
    kind: type[Member], loaded: LoadedModel, config: Config, train: Sequence[Example], heldout: Sequence[Example],
    rows: torch.Tensor, folder: RunFolder, number: int = 0,
) -> Member:
    """A member as `build_trainer` makes one, that starts from given rows [V, H]; `folder` may be one never written."""
    writer = CheckpointWriter(folder, config, Split(train=[example.task_id for example in train], heldout=[]))
    return kind(
        SoftPrompt(rows).to(loaded.precision.device), train, heldout, config,
        plan_training(config, len(train), len(heldout)), writer, loaded.precision, number,
    )


class Ours:
    """Steps of one soft prompt or of several together, each with the same examples."""

    def __init__(
        self, loaded: LoadedModel, config: Config, train: Sequence[Example], rows: Sequence[torch.Tensor]
    ) -> None:
        """Take the initial rows [V, H] of each soft prompt; the number of `train` makes the schedule."""
        nowhere = RunFolder(Path("not-written"))
        unsaved = config.training.model_copy(update={"save_every_n_steps": 10**9})
        config = config.model_copy(update={"training": unsaved})
        self.members: list[GivenBatches] = []
        for number, initial in enumerate(rows):
            member = make_member(GivenBatches, loaded, config, train, (), initial, nowhere, number)
            assert isinstance(member, GivenBatches)
            self.members.append(member)
        passes = choose_passes(loaded, config.training.batch_size)
        self._trainer = Trainer(self.members, passes, loaded.precision.device, ControlInbox())
        self._device = loaded.precision.device

    @property
    def prompt(self) -> torch.Tensor:
        """See `Side`; of the first."""
        return self.members[0].soft_prompt.weight.detach()

    def step(self, examples: Sequence[Example]) -> Step:
        """See `Side`; loss, norm and gradient are the first one's."""
        for member in self.members:
            member.batch = examples
        with waited_for(self._device) as seconds:
            events: list[Event] = list(self._trainer.train_step(self.members))
        first = next(event for event in events if isinstance(event, StepCompleted))
        gradient = self.members[0].soft_prompt.weight.grad
        assert gradient is not None
        return Step(seconds(), first.loss, first.grad_norm, gradient.clone())


def in_turns(ours: Side, theirs: Side, batches: Sequence[Sequence[Example]]) -> Iterator[Pair]:
    """A pair for each effective batch; who comes first changes from one to the next."""
    for number, examples in enumerate(batches):
        theirs.prompt.copy_(ours.prompt)
        if number % 2:
            second = theirs.step(examples)
            yield Pair(examples, ours.step(examples), second)
        else:
            yield Pair(examples, ours.step(examples), theirs.step(examples))
