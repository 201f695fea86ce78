"""The passes of `core.training.passes`, row by row."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

from core.data.batches import Row
from core.model.loading import LoadedModel
from core.training.passes import Pieces
from core.training.profile import Section, untimed
from core.training.rows.model import KeysValues, Prefix, RowModel

Item = TypeVar("Item")
Result = TypeVar("Result")


class RowPasses:
    """One sequence a core at a time; sums are in an order that does not depend on the cores.

    A prompt's losses and gradient do not depend on the other prompts of a pass, not even in their last bits.

    Args:
        workers: rows under way at a time, as far as there are cores; each takes memory of its own.
    """

    def __init__(self, loaded: LoadedModel, workers: int) -> None:
        self.section: Section = untimed
        self._model, self._workers = RowModel(loaded.model), workers

    def gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """See `core.training.passes.Passes`."""
        losses = torch.zeros(len(prompts), dtype=torch.float64)
        prefixes = self._prefixes(prompts, rows)

        section = self._shared(len(rows))

        def gradient(row: Row) -> tuple[float, KeysValues]:
            return self._model.gradient(prefixes[row.prompt], row, section)

        for done, (row, (loss, gradients)) in enumerate(self._in_order(gradient, _longest_first(rows)), start=1):
            self._model.add(prefixes[row.prompt], gradients)
            losses[row.prompt] += loss * row.weight
            yield done

        section = self._shared(len(prompts))

        def of_prompt(number: int) -> torch.Tensor:
            return self._model.prefix_gradient(prefixes[number], len(prompts[number]), section)

        for number, of_rows in self._in_order(of_prompt, range(len(prompts))):
            prompts[number].grad = of_rows
        return losses

    def loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """See `core.training.passes.Passes`."""
        losses = torch.zeros(len(prompts), dtype=torch.float64)
        prefixes = self._prefixes(prompts, rows)

        def loss_of(row: Row) -> float:
            return self._model.loss(prefixes[row.prompt], row)

        for done, (row, loss) in enumerate(self._in_order(loss_of, _longest_first(rows)), start=1):
            losses[row.prompt] += loss * row.weight
            yield done
        return losses

    def _prefixes(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> list[Prefix]:
        """What stands in front of the rows of each prompt: the same tokens in all of them, and the prompt."""
        before = {row.prompt: row.example.before for row in rows}

        section = self._shared(len(prompts))

        def prefix(number: int) -> Prefix:
            return self._model.prefix(before.get(number, ()), prompts[number].detach(), section)

        return [prefix for _, prefix in self._in_order(prefix, range(len(prompts)))]

    def _shared(self, items: int) -> Section:
        """The section of work on so many items, which several threads have at the same time."""
        return functools.partial(self.section, threads=workers_for(items, self._workers))

    def _in_order(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        return in_order(work, items, self._workers)


def _longest_first(rows: Sequence[Row]) -> list[Row]:
    """So that the cores end at about the same time."""
    return sorted(rows, key=lambda row: (-row.example.tokens, row.example.task_id, row.prompt))


def in_order(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[tuple[Item, Result]]:
    """Each item and what `work` makes of it, in order; `workers` are under way at a time, as far as there are cores.

    Between two of them the caller may take its time or leave: a few more are computed, and no others. The cores are
    shared out to the workers while this goes on: with as many workers as cores torch uses one in each.
    """
    cores = torch.get_num_threads()
    workers = workers_for(len(items), workers)
    if workers == 1:
        yield from ((item, work(item)) for item in items)
        return
    pending: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(workers, "row", initializer=torch.set_num_threads, initargs=(cores // workers,))
    try:
        for item in items:
            pending.append((item, pool.submit(work, item)))
            if len(pending) > 2 * workers:
                first, future = pending.popleft()
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # a part of torch's setting is the whole process's


def workers_for(items: int, workers: int) -> int:
    """How many of the workers can be under way: no more than there are cores or items."""
    return max(1, min(workers, torch.get_num_threads(), items))
