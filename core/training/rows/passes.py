"""The passes of `core.training.passes`, a few rows at a time on each core."""

from __future__ import annotations

import functools
import heapq
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import nn

from core.contract.estimate import row_bytes, row_tokens, shape_of
from core.data.batches import Row
from core.model.heap import give_back_freed_memory, share_one_heap
from core.model.loading import LoadedModel
from core.training.passes import Pieces, does_not_fit, halving, longest_row
from core.training.profile import Section, untimed
from core.training.rows.layers import KeysValues
from core.training.rows.model import Prefix, RowModel

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_SECONDS = 0.5
"""How often a caller may look after other things while rows take long."""


class RowPasses:
    """A few rows end to end on each core at a time; sums are in an order that does not depend on who was first.

    A prompt's losses and gradient do not depend on the other prompts of a pass, beyond rounding: alone it goes through
    the layers on all cores, beside others on one.

    Args:
        workers: groups of rows under way at a time, as far as there are cores; each takes memory of its own.
        label_smoothing: share of each target that is spread over the vocabulary, in gradients.
    """

    def __init__(self, loaded: LoadedModel, workers: int, label_smoothing: float = 0.0) -> None:
        share_one_heap()
        self.section: Section = untimed
        self._model, self._workers, self._together = RowModel(loaded.model, label_smoothing), workers, row_tokens()
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
        def under_way() -> int:
            lengths = sorted(map(len, self._groups(rows)), reverse=True)
            return sum(lengths[: workers_for(len(lengths), self._workers)])

        def halve() -> tuple[int, int]:
            before = under_way()
            if before == 1:
                longest = longest_row(prompts, rows)
                needed = longest * row_bytes(self._shape) if self._shape else None
                raise does_not_fit(longest, needed, torch.device("cpu"))
            workers = workers_for(len(rows), self._workers)
            largest = max((_tokens(group) for group in self._groups(rows) if len(group) > 1), default=1)
            self._workers, self._together = (workers // 2, largest) if workers > 1 else (1, largest // 2)
            return before, under_way()

        return halving(lambda: run(prompts, rows), halve)

    def _gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        prefixes, groups = self._prefixes(prompts, rows), self._groups(rows)
        section = self._shared(len(groups))

        def of_group(group: Sequence[Row]) -> list[tuple[float, list[KeysValues]]]:
            return self._model.gradients([prefixes[row.prompt] for row in group], group, section)

        losses = torch.zeros(len(prompts), dtype=torch.float64)
        for row, (loss, gradients) in (yield from self._each(of_group, groups)):
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
        prefixes, groups = self._prefixes(prompts, rows), self._groups(rows)

        def of_group(group: Sequence[Row]) -> list[float]:
            return self._model.losses([prefixes[row.prompt] for row in group], group)

        losses = torch.zeros(len(prompts), dtype=torch.float64)
        for row, loss in (yield from self._each(of_group, groups)):
            losses[row.prompt] += loss * row.weight
        return losses

    def _groups(self, rows: Sequence[Row]) -> list[list[Row]]:
        """The rows that go through the layers together, for as many workers as there are."""
        return grouped(rows, workers_for(len(rows), self._workers), self._together)

    def _each(
        self, of_group: Callable[[Sequence[Row]], list[Result]], groups: Sequence[Sequence[Row]]
    ) -> Generator[int, None, list[tuple[Row, Result]]]:
        """What `of_group` makes of each row of each group; tells how many rows are done, also while none more is."""
        found: dict[int, list[Result]] = {}
        pieces = side_by_side(of_group, groups, self._workers, _tokens, self._together, LOOK_SECONDS)
        try:
            for piece in pieces:
                if piece is not None:
                    found[piece[0]] = piece[1]
                yield sum(map(len, found.values()))
        except GeneratorExit:  # the rows under way need not come to their end
            with self._model.abandoned():
                pieces.close()
            raise
        return [pair for index, group in enumerate(groups) for pair in zip(group, found[index], strict=True)]

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


def grouped(rows: Sequence[Row], workers: int, together: int) -> list[list[Row]]:
    """Groups of rows, of up to `together` tokens as far as single rows have not more, the largest first.

    They are of about the same size and as many for each worker, so that all end at about the same time.
    """
    longest_first = sorted(rows, key=lambda row: (-row.example.tokens, row.example.task_id, row.prompt))
    count = -(-_tokens(rows) // together)
    while True:
        count = min(len(rows), -(-count // workers) * workers)
        groups = [(0, number, list[Row]()) for number in range(count)]
        for row in longest_first:
            tokens, number, least = groups[0]
            heapq.heapreplace(groups, (tokens + row.example.tokens, number, [*least, row]))
        if all(len(group) == 1 or tokens <= together for tokens, _, group in groups):
            return [group for _, _, group in sorted(groups, reverse=True)]
        count += 1 + count // 16


def _tokens(group: Sequence[Row]) -> int:
    return sum(row.example.tokens for row in group)


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, size: Callable[[Item], int] = lambda _: 0,
    together: int = 0, seconds: float | None = None,
) -> Generator[tuple[int, Result] | None, None, None]:
    """What `work` makes of each item, with its index, as it is ready; the first items are taken first.

    `workers` items are under way at a time, as far as there are cores, and share them: with as many workers as cores
    torch uses one in each. Large items do not meet: while the sizes under way would be over `together` a worker, a
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
            room = together * count - sum(under_way)
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
