"""Passes through the frozen model: the losses of rows behind soft prompts, and their gradient.

Several soft prompts may share a pass, each with rows of its own. Between the pieces of a pass its caller may take its
time, or leave it undone. There are two kinds, with the same sums: micro-batches by autograd, for any model and device
(here), and single rows with the layers written out, which is faster on a CPU (`core.training.rows`).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterator, Sequence
from typing import Protocol

import torch
from torch import nn

from core.contract.control import ControlInbox, heed
from core.contract.estimate import activation_bytes, score_bytes, shape_of
from core.contract.events import Event, Progress
from core.data.batches import Example, MicroBatch, Row, by_length, collate, pad_token, rows_of
from core.model.loading import LoadedModel
from core.model.memory import free_bytes
from core.training.loss import prompt_losses
from core.training.profile import Section, untimed

Pieces = Generator[int, None, torch.Tensor]
"""A pass piece by piece: how many rows are done so far; at the end the weighted loss in nats of each prompt, [K]."""


class Passes(Protocol):
    """A way to compute losses and gradients; `section` takes the time of what a gradient consists of."""

    section: Section

    def gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """The losses of K soft prompts [V, H]; adds their gradients to each one's `grad`."""

    def loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """The losses alone."""


class MicroBatchPasses:
    """Rows of similar lengths together, padded on the right, through the model's own forward pass and autograd.

    On a GPU more rows than asked for go through at once where half of its free memory holds them: there a pass over
    few rows takes as long as one over many.

    Args:
        batch_size: rows at a time for each soft prompt.
    """

    def __init__(self, loaded: LoadedModel, batch_size: int) -> None:
        self.section: Section = untimed
        self._model, self._precision, self._pad = loaded.model, loaded.precision, pad_token(loaded.tokenizer)
        self._asked, self._most = batch_size, sys.maxsize
        device = loaded.precision.device
        self._shape = shape_of(loaded.model.config.to_dict()) if device.type == "cuda" else None
        self._room = free_bytes(device) // 2

    def gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """See `Passes`. Where memory runs out it begins again, with half as many rows at a time."""
        while True:
            at_once = self._at_once(prompts, rows)
            for prompt in prompts:
                prompt.grad = None
            try:
                losses = torch.zeros(len(prompts), device=self._precision.device)
                done = 0
                for batch in self._batches(rows, at_once):
                    with self._precision.autocasting():
                        more = prompt_losses(self._model, torch.stack([*prompts]), batch, self.section)
                    with self.section("backward"):
                        more.sum().backward()
                    losses += more.detach()
                    done += len(batch.after)
                    yield done
                return losses
            except torch.OutOfMemoryError:
                if at_once == 1:
                    raise
            self._most = at_once // 2
            torch.cuda.empty_cache()

    def loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """See `Passes`."""
        losses = torch.zeros(len(prompts), device=self._precision.device)
        done = 0
        for batch in self._batches(rows, self._at_once(prompts, rows)):
            with torch.no_grad(), self._precision.autocasting():
                losses += prompt_losses(self._model, torch.stack([*prompts]), batch)
            done += len(batch.after)
            yield done
        return losses

    def _batches(self, rows: Sequence[Row], at_once: int) -> Iterator[MicroBatch]:
        ordered = by_length(rows)
        for start in range(0, len(ordered), at_once):
            with self.section("data"):
                batch = collate(ordered[start : start + at_once], self._pad).to(self._precision.device)
            yield batch

    def _at_once(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> int:
        """Rows of a micro-batch: as many as were asked for, or as there is room for, or as memory was seen to hold."""
        wanted = self._asked * len(prompts)
        if self._shape is not None:
            arithmetic = (self._precision.autocast or self._precision.weights).itemsize
            longest = len(prompts[0]) + max(row.example.tokens for row in rows)
            supervised = max(len(row.example.target) for row in rows)
            each = longest * activation_bytes(self._shape, arithmetic)
            each += supervised * score_bytes(self._shape, arithmetic)
            wanted = max(wanted, self._room // each)
        return min(wanted, self._most, len(rows))


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
    with contextlib.closing(passes.loss(prompts, rows)) as pieces:
        while True:
            yield from heed(control)
            try:
                done = next(pieces)
            except StopIteration as end:
                return [float(loss) for loss in end.value.tolist()]
            yield Progress(stage="validating", done=done, total=len(rows), unit="problems")
