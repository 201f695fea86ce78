"""Passes through the frozen model: the losses of rows behind soft prompts, and their gradient.

Several soft prompts may share a pass, each with rows of its own. Between the pieces of a pass its caller may take its
time, or leave it undone. There are three kinds, with the same sums: micro-batches by autograd, for any model and device
(here), and with the layers written out a few rows on each core, which is faster on a CPU (`core.training.rows`), and
all rows end to end, which is faster on a GPU (`core.training.packed`).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from core.contract.control import ControlInbox, heed
from core.contract.errors import OutOfMemory
from core.contract.estimate import activation_bytes, gigabytes, score_bytes, shape_of
from core.contract.events import Event, Notice, Progress
from core.data.batches import Example, Row, by_length, collate, pad_token, rows_of
from core.failure import is_out_of_memory
from core.model.loading import LoadedModel
from core.model.memory import free_bytes
from core.training.loss import prompt_losses
from core.training.profile import Section, untimed

Pieces = Generator[int | Notice, None, torch.Tensor]
"""A pass piece by piece: how many rows are done so far, or what the user should know of it; at the end the weighted
loss in nats of each prompt, [K]."""


class Passes(Protocol):
    """A way to compute losses and gradients; `section` takes the time of what a gradient consists of."""

    section: Section

    def gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """The losses of K soft prompts [V, H]; the `grad` of each becomes its gradient.

        Label smoothing, where the passes have any, is in the gradients and not in the losses.
        """

    def loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """The losses alone."""


class MicroBatchPasses:
    """Rows of similar lengths together, padded on the right, through the model's own forward pass and autograd.

    On a GPU more rows than asked for go through at once where half of its free memory holds them: there a pass over
    few rows takes as long as one over many.

    Args:
        batch_size: rows at a time for each soft prompt.
        label_smoothing: share of each target that is spread over the vocabulary, in gradients.
    """

    def __init__(self, loaded: LoadedModel, batch_size: int, label_smoothing: float = 0.0) -> None:
        self.section: Section = untimed
        self._label_smoothing = label_smoothing
        self._model, self._precision, self._pad = loaded.model, loaded.precision, pad_token(loaded.tokenizer)
        self._asked, self._most = batch_size, sys.maxsize
        device = loaded.precision.device
        self._shape = shape_of(loaded.model.config.to_dict())
        self._room = free_bytes(device) // 2 if device.type == "cuda" else 0

    def gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """See `Passes`. Where memory runs out it begins again, with half as many rows at a time."""

        def begin() -> None:
            for prompt in prompts:
                prompt.grad = None

        def with_gradient(batch: Any) -> torch.Tensor:
            return self._add_gradient(prompts, batch)

        return self._summed(prompts, rows, begin, with_gradient)

    def loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """See `Passes`; the same where memory runs out."""

        def alone(batch: Any) -> torch.Tensor:
            with torch.no_grad():
                return self._losses(torch.stack([*prompts]), batch, 0.0)

        return self._summed(prompts, rows, lambda: None, alone)

    def _summed(
        self, prompts: Sequence[nn.Parameter], rows: Sequence[Row], begin: Callable[[], None],
        losses_of: Callable[[Any], torch.Tensor],
    ) -> Pieces:
        """The sum of the losses of all micro-batches, halved as often as memory wants it."""

        def attempt() -> Pieces:
            begin()
            losses = torch.zeros(len(prompts), device=self._precision.device)
            done = 0
            for taken in self._batches(rows, self._at_once(prompts, rows)):
                with self.section("data"):
                    batch = self._collated(taken, len(prompts[0]))
                losses += losses_of(batch)
                done += len(taken)
                yield done
            return losses

        def halve() -> tuple[int, int] | None:
            if self._give_back():
                return None
            at_once = self._at_once(prompts, rows)
            if at_once == 1:
                needed = self._row_bytes(prompts, rows) if self._shape else None
                raise does_not_fit(longest_row(prompts, rows), needed, self._precision.device)
            self._most = at_once // 2
            return at_once, self._most

        return halving(attempt, halve)

    def _collated(self, rows: Sequence[Row], virtual_tokens: int) -> Any:
        """Rows as `_losses` takes them."""
        return collate(rows, self._pad).to(self._precision.device)

    def _losses(self, prompts: torch.Tensor, batch: Any, label_smoothing: float) -> torch.Tensor:
        """The weighted loss of each of `prompts` [K, V, H] on a micro-batch, [K]."""
        section = self.section if torch.is_grad_enabled() else untimed
        with self._precision.autocasting():
            return prompt_losses(self._model, prompts, batch, section, label_smoothing)

    def _add_gradient(self, prompts: Sequence[nn.Parameter], batch: Any) -> torch.Tensor:
        """That loss; its gradient is added to each prompt's."""
        losses = self._losses(torch.stack([*prompts]), batch, self._label_smoothing)
        with self.section("backward"):
            losses.sum().backward()
        return losses.detach()

    def _give_back(self) -> bool:
        """Give back memory that is kept from one pass to the next, and keep none from now on; whether there was any."""
        return False

    def _batches(self, rows: Sequence[Row], at_once: int) -> Iterator[Sequence[Row]]:
        ordered = by_length(rows)
        for start in range(0, len(ordered), at_once):
            yield ordered[start : start + at_once]

    def _at_once(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> int:
        """Rows of a micro-batch: as many as were asked for, or as there is room for, or as memory was seen to hold."""
        wanted = self._asked * len(prompts)
        if self._shape is not None:
            wanted = max(wanted, self._room // self._row_bytes(prompts, rows))
        return min(wanted, self._most, len(rows))

    def _row_bytes(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> int:
        """What a pass needs for the row that needs most."""
        arithmetic = (self._precision.autocast or self._precision.weights).itemsize
        supervised = max(len(row.example.target) for row in rows)
        assert self._shape is not None
        return (longest_row(prompts, rows) * activation_bytes(self._shape, arithmetic)
                + supervised * score_bytes(self._shape, arithmetic))


def halving(attempt: Callable[[], Pieces], halve: Callable[[], tuple[int, int] | None]) -> Pieces:
    """Run a pass, and where memory runs out run it again with fewer rows at a time, telling so.

    Args:
        attempt: begins the pass anew.
        halve: from now on fewer rows at a time; (how many it were, how many it will be), or None where something else
            was given up for it. Raises OutOfMemory at one.
    """
    while True:
        try:
            return (yield from attempt())
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            lacking = error
        try:
            halved = halve()
        except OutOfMemory as last:
            raise last from lacking
        del lacking  # its traceback holds what the pass had allocated
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if halved is None:
            continue
        before, after = halved
        yield Notice(
            setting="training.batch_size", what=f"out of memory with {before} rows at a time: {after} from now on",
            remedy="the effective batch and its gradient stay what they were; a lower training.batch_size with more "
                   "training.gradient_accumulation_steps says the same from the start, but for a GPU, where free "
                   "memory decides how many more there are",
        )


def longest_row(prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> int:
    """Positions of the longest row, with its soft prompt."""
    return len(prompts[0]) + max(row.example.tokens for row in rows)


def does_not_fit(longest: int, needed: int | None, device: torch.device) -> OutOfMemory:
    """The error for one row that is too large alone, with what would fit.

    Args:
        longest: positions of that row.
        needed: bytes that a pass over it needs, where that can be worked out.
    """
    what, free = f"out of memory with a single row of {longest} tokens", free_bytes(device)
    others = "free what other programs hold of it, or take a model.torch_dtype with fewer bytes, or a smaller model"
    if needed is None:
        return OutOfMemory(what, f"lower dataset.max_length below {longest}; {others}")
    fitting = min(longest - 1, int(longest * free / needed))
    return OutOfMemory(f"{what}: it needs about {gigabytes(needed)}, and {gigabytes(free)} of the {device} are free",
                       f"dataset.max_length {fitting} may fit; {others}")


def result_of(pieces: Pieces) -> torch.Tensor:
    """Run a pass to its end; its losses [K]."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def mean_losses(
    passes: Passes, prompts: Sequence[nn.Parameter], data: Sequence[Sequence[Example]], control: ControlInbox
) -> Generator[Event, None, list[float]]:
    """Mean cross-entropy in nats of each soft prompt over the supervised tokens of its own examples; tells progress."""
    rows = [row for number, examples in enumerate(data) for row in rows_of(examples, number)]
    told = 0
    with contextlib.closing(passes.loss(prompts, rows)) as pieces:
        while True:
            yield from heed(control)
            try:
                piece = next(pieces)
            except StopIteration as end:
                return [float(loss) for loss in end.value.tolist()]
            if isinstance(piece, Notice):
                yield piece
            elif piece > told:
                told = piece
                yield Progress(stage="validating", done=piece, total=len(rows), unit="problems")
