"""The training loop: soft prompts, a frozen model, events out.

`Trainer.fit` is the loop. Definitions are in its parts: the loss of a step is the mean over all supervised tokens of
the effective batch, however it was cut into passes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence

import torch

from core.contract.control import ControlInbox, StopRequested, heed
from core.contract.errors import OutOfMemory, SofttuneError
from core.contract.events import CheckpointSaved, Event, Notice, Progress, StepCompleted
from core.data.batches import Example, rows_of, supervised_tokens
from core.model.memory import measure_memory
from core.storage import in_words, until_written
from core.training.member import Member
from core.training.passes import Passes, Pieces, mean_losses
from core.training.profile import Section, untimed


class Trainer:
    """Trains one soft prompt, or several at once: the members share the model and each of its passes, nothing else.

    Each member has its own data and order, mean loss, clipping, schedule, optimizer and early stopping, and its curve
    is that of training it alone. One prompt is a population of one.

    Args:
        members: soft prompts of the same shape.
        passes: how losses and gradients are computed.
        device: where that happens.
        control: where pause and stop arrive.
    """

    def __init__(
        self, members: Sequence[Member], passes: Passes, device: torch.device, control: ControlInbox
    ) -> None:
        self.members, self.passes, self.device, self.control = members, passes, device, control
        self.section: Section = untimed

    def fit(self) -> Iterator[Event]:
        """Train from where each member stands to its end; raises StopRequested after saving when asked to stop."""
        try:
            fresh = [member for member in self.members if member.standing.step == 0]
            if fresh:
                yield from self.validate(fresh, untrained=True)
            announced = False
            while active := [member for member in self.members if not member.is_done]:
                over = [member for member in active if member.epoch_is_over]
                if not over and not announced:
                    steps = [(member.standing.step, member.plan.total_steps) for member in active]
                    done, total = (sum(numbers) for numbers in zip(*steps, strict=True))
                    yield Progress(stage="training", done=done, total=total, unit="steps")
                announced = not over
                yield from self.finish_epoch(over) if over else self.train_step(active)
        except (StopRequested, OutOfMemory):  # between two steps, or in one that is left undone
            for member in self.members:
                yield self.try_to_save(member)
            raise
        yield from self.tell_early_ends()

    def train_step(self, members: Sequence[Member]) -> Iterator[Event]:
        """One optimizer step of each. A stop in its middle leaves it undone; a resumed run does it again.

        A step whose loss or gradient is not finite is told and counted, and changes nothing.
        """
        start = time.perf_counter()
        with self.section("data"):
            batches = [member.next_batch() for member in members]
            scales = [member.scaler.get_scale() for member in members]
            rows = [
                row for number, (batch, scale) in enumerate(zip(batches, scales, strict=True))
                for row in rows_of(batch, number, scale)
            ]
        prompts = [member.soft_prompt.weight for member in members]
        losses = yield from self.heeding(self.passes.gradient(prompts, rows))
        found = [loss / scale for loss, scale in zip(losses.tolist(), scales, strict=True)]
        with self.section("optimizer"):
            updates = [member.update(loss) for member, loss in zip(members, found, strict=True)]
        seconds, memory = time.perf_counter() - start, measure_memory(self.device)
        for member, batch, loss, (rate, grad_norm) in zip(members, batches, found, updates, strict=True):
            yield from member.watch(loss, grad_norm)
            member.count_step(loss, supervised_tokens(batch))
            tokens = sum(example.tokens for example in batch) + len(batch) * member.soft_prompt.num_virtual_tokens
            yield StepCompleted(
                step=member.standing.step, total_steps=member.plan.total_steps, epoch=member.standing.epoch, loss=loss,
                learning_rate=rate, grad_norm=grad_norm, tokens_per_second=tokens / seconds, memory=memory,
                skipped=member.standing.skipped, member=member.number,
            )
            if member.save_is_due or member.failure:
                yield from self.saved(member.save_last)

    def heeding(self, pieces: Pieces) -> Generator[Event, None, torch.Tensor]:
        """Run a pass to its end, and between its pieces do what the user asks for; passes on what it has to tell."""
        with contextlib.closing(pieces):
            while True:
                yield from heed(self.control)
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                if isinstance(piece, Notice):
                    yield piece

    def finish_epoch(self, members: Sequence[Member]) -> Iterator[Event]:
        """Tell of the epoch that is over, measure the held-out loss where that is due, and write checkpoints."""
        for member in members:
            yield from member.tell_epoch()
        due = [member for member in members
               if member.validation_is_due and member.standing.validated_epoch < member.standing.epoch]
        if due:
            yield from self.validate(due)
        for member in members:
            for write in member.epoch_writes():
                yield from self.saved(write)

    def saved(self, write: Callable[[], CheckpointSaved]) -> Iterator[Event]:
        """Write a checkpoint, and wait for a disk that does not take it."""

        def timed() -> CheckpointSaved:
            with self.section("writing"):
                return write()

        yield (yield from until_written(timed, self.control))

    def try_to_save(self, member: Member) -> Event:
        """Write last.pt if the disk takes it; what is told of it."""
        try:
            return member.save_last()
        except OSError as error:
            return Notice(what=f"{in_words(error)}; the steps since the last checkpoint are lost", member=member.number,
                          remedy="make room, or mend it; softtune train --resume takes these steps again")

    def validate(self, members: Sequence[Member], *, untrained: bool = False) -> Iterator[Event]:
        """Mean token loss of each on its held-out problems."""
        start = time.perf_counter()
        prompts = [member.soft_prompt.weight for member in members]
        heldout: list[Sequence[Example]] = [member.heldout for member in members]
        with self.section("validation"):
            losses = yield from mean_losses(self.passes, prompts, heldout, self.control)
        seconds = time.perf_counter() - start
        for member, loss in zip(members, losses, strict=True):
            yield member.validated(0 if untrained else member.standing.epoch, loss, seconds)

    def tell_early_ends(self) -> Iterator[Event]:
        """Say which members ended before their last epoch.

        Raises:
            SofttuneError: none of them could be trained.
        """
        failures: list[SofttuneError] = [member.failure for member in self.members if member.failure]
        if len(failures) == len(self.members):
            raise failures[0]
        for member in self.members:
            yield from member.tell_early_end()
