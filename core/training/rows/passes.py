"""The passes of `core.training.passes`, row by row."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import nn

from core.contract.estimate import ROW_TOKENS, row_bytes, shape_of
from core.data.batches import Row
from core.model.heap import give_back_freed_memory, share_one_heap
from core.model.loading import LoadedModel
from core.training.passes import Pieces, does_not_fit, halving, longest_row
from core.training.profile import Section, untimed
from core.training.rows.model import KeysValues, Prefix, RowModel

Item = TypeVar("Item")
Result = TypeVar("Result")
TOGETHER = ROW_TOKENS
"""Tokens a worker of the rows under way: what is kept of the two longest problems takes as much memory as a model."""

LOOK_SECONDS = 0.5
"""How often a caller may look after other things while rows take long."""


class RowPasses:
    """One sequence a core at a time; sums are in an order that does not depend on who was first.

    A prompt's losses and gradient do not depend on the other prompts of a pass, beyond rounding: alone it goes through
    the layers on all cores, beside others on one.

    Args:
        workers: rows under way at a time, as far as there are cores; each takes memory of its own.
        label_smoothing: share of each target that is spread over the vocabulary, in gradients.
    """

    def __init__(self, loaded: LoadedModel, workers: int, label_smoothing: float = 0.0) -> None:
        share_one_heap()
        self.section: Section = untimed
        self._model, self._workers = RowModel(loaded.model, label_smoothing), workers
        self._shape = shape_of(loaded.model.config.to_dict())

    def gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """See `core.training.passes.Passes`. Where memory runs out it begins again, with half as many rows at once."""
        return self._halving(self._gradient, prompts, rows)

    def loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """See `core.training.passes.Passes`; the same where memory runs out."""
        return self._halving(self._loss, prompts, rows)

    def _halving(
        self, run: Callable[[Sequence[nn.Parameter], Sequence[Row]], Pieces], prompts: Sequence[nn.Parameter],
        rows: Sequence[Row],
    ) -> Pieces:
        def halve() -> tuple[int, int]:
            before = workers_for(len(rows), self._workers)
            if before == 1:
                longest = longest_row(prompts, rows)
                needed = longest * row_bytes(self._shape) if self._shape else None
                raise does_not_fit(longest, needed, torch.device("cpu"))
            self._workers = before // 2
            return before, self._workers

        return halving(lambda: run(prompts, rows), halve)

    def _gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        prefixes = self._prefixes(prompts, rows)
        ordered, section = _longest_first(rows), self._shared(len(rows))

        def of_row(row: Row) -> tuple[float, KeysValues]:
            return self._model.gradient(prefixes[row.prompt], row, section)

        found = yield from self._each(of_row, ordered)
        losses = torch.zeros(len(prompts), dtype=torch.float64)
        for index, row in enumerate(ordered):
            loss, gradients = found[index]
            losses[row.prompt] += loss * row.weight
            self._model.add(prefixes[row.prompt], gradients)
        section = self._shared(len(prompts))

        def of_prompt(number: int) -> torch.Tensor:
            return self._model.prefix_gradient(prefixes[number], len(prompts[number]), section)

        for number, of_rows in filter(None, side_by_side(of_prompt, range(len(prompts)), self._workers)):
            prompts[number].grad = of_rows
        give_back_freed_memory()
        return losses

    def _loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        prefixes = self._prefixes(prompts, rows)
        ordered = _longest_first(rows)

        def of_row(row: Row) -> float:
            return self._model.loss(prefixes[row.prompt], row)

        found = yield from self._each(of_row, ordered)
        losses = torch.zeros(len(prompts), dtype=torch.float64)
        for index, row in enumerate(ordered):
            losses[row.prompt] += found[index] * row.weight
        return losses

    def _each(
        self, of_row: Callable[[Row], Result], ordered: Sequence[Row]
    ) -> Generator[int, None, dict[int, Result]]:
        """What `of_row` makes of each row, by its index; tells how many are done, also while none more is."""
        found: dict[int, Result] = {}
        pieces = side_by_side(of_row, ordered, self._workers, _tokens, LOOK_SECONDS)
        try:
            for piece in pieces:
                if piece is not None:
                    found[piece[0]] = piece[1]
                yield len(found)
        except GeneratorExit:  # the rows under way need not come to their end
            with self._model.abandoned():
                pieces.close()
            raise
        return found

    def _prefixes(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> list[Prefix]:
        """What stands in front of the rows of each prompt: the same tokens in all of them, and the prompt."""
        before = {row.prompt: row.example.before for row in rows}
        section = self._shared(len(prompts))

        def prefix(number: int) -> Prefix:
            return self._model.prefix(before.get(number, ()), prompts[number].detach(), section)

        found = dict(filter(None, side_by_side(prefix, range(len(prompts)), self._workers)))
        return [found[number] for number in range(len(prompts))]

    def _shared(self, items: int) -> Section:
        """The section of work on so many items, which several threads have at the same time."""
        return functools.partial(self.section, threads=workers_for(items, self._workers))


def _longest_first(rows: Sequence[Row]) -> list[Row]:
    """So that the cores end at about the same time."""
    return sorted(rows, key=lambda row: (-row.example.tokens, row.example.task_id, row.prompt))


def _tokens(row: Row) -> int:
    return row.example.tokens


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, size: Callable[[Item], int] = lambda _: 0,
    seconds: float | None = None,
) -> Generator[tuple[int, Result] | None, None, None]:
    """What `work` makes of each item, with its index, as it is ready; the first items are taken first.

    `workers` items are under way at a time, as far as there are cores, and share them: with as many workers as cores
    torch uses one in each. Large items do not meet: while the sizes under way would be over TOGETHER a worker, a
    smaller one goes first. The caller may take its time between two results or leave: few more are computed then. After
    so many seconds without a result it gets None.
    """
    cores, count = torch.get_num_threads(), workers_for(len(items), workers)
    if count == 1:
        yield from ((index, work(item)) for index, item in enumerate(items))
        return
    lock, left, under_way = threading.Lock(), list(range(len(items))), [0]

    def take() -> int:
        with lock:
            room = TOGETHER * count - sum(under_way)
            index = next((index for index in left if size(items[index]) <= room), left[-1])
            left.remove(index)
            under_way.append(size(items[index]))
            return index

    def one() -> tuple[int, Result]:
        index = take()
        try:
            return index, work(items[index])
        finally:
            with lock:
                under_way.remove(size(items[index]))

    pool = ThreadPoolExecutor(count, "row", initializer=torch.set_num_threads, initargs=(cores // count,))
    try:
        pending = {pool.submit(one) for _ in range(min(2 * count, len(items)))}
        waiting = len(items) - len(pending)
        while pending:
            done, pending = wait(pending, seconds, return_when=FIRST_COMPLETED)
            if not done:
                yield None
            for future in done:
                if waiting:
                    pending.add(pool.submit(one))
                    waiting -= 1
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # a part of torch's setting is the whole process's


def workers_for(items: int, workers: int) -> int:
    """How many of the workers can be under way: no more than there are cores or items."""
    return max(1, min(workers, torch.get_num_threads(), items))
