"""The passes of `core.training.passes`, a few rows at a time on each core."""

from __future__ import annotations

import contextlib
import functools
import heapq
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import nn

from core.contract.estimate import row_bytes, row_tokens, shape_of
from core.data.batches import Row
from core.model.heap import give_back, keep_freed_memory
from core.model.loading import LoadedModel
from core.training.passes import Pieces, does_not_fit, halving, longest_row
from core.training.profile import Section, untimed
from core.training.rows.model import LOOK_SECONDS, Abandoned, Exchange, RowModel
from core.training.rows.workspace import Workspace

Item = TypeVar("Item")
Result = TypeVar("Result")


class RowPasses:
    """A few rows end to end on each core at a time; sums are in an order that does not depend on who was first.

    The soft prompts go through the layers in a thread of their own, beside the rows behind them. A prompt's losses and
    gradient do not depend on the other prompts of a pass, beyond rounding. What is kept until the gradient lies in
    memory that stays from pass to pass.

    Args:
        workers: groups of rows under way at a time, as far as there are cores; each takes memory of its own.
        label_smoothing: share of each target that is spread over the vocabulary, in gradients.
    """

    def __init__(self, loaded: LoadedModel, workers: int, label_smoothing: float = 0.0) -> None:
        keep_freed_memory()
        self.section: Section = untimed
        self._model, self._workers, self._together = RowModel(loaded.model, label_smoothing), workers, row_tokens()
        give_back()
        self._shape = shape_of(loaded.model.config.to_dict())
        self._of_prefixes, self._free, self._kept = Workspace(), list[Workspace](), False

    def gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        """See `core.training.passes.Passes`. Where memory runs out it begins again, at last with half as many rows."""
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

        def attempt() -> Pieces:
            self._kept = bool(self._free)
            return (yield from run(prompts, rows))

        def halve() -> tuple[int, int] | None:
            self._of_prefixes, self._free = Workspace(), []
            if self._kept:
                return None
            before = under_way()
            if before == 1:
                longest = longest_row(prompts, rows)
                needed = longest * row_bytes(self._shape) if self._shape else None
                raise does_not_fit(longest, needed, torch.device("cpu"))
            workers = workers_for(len(rows), self._workers)
            largest = max((_tokens(group) for group in self._groups(rows) if len(group) > 1), default=1)
            self._workers, self._together = (workers // 2, largest) if workers > 1 else (1, largest // 2)
            return before, under_way()

        return halving(attempt, halve)

    def _gradient(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        section = functools.partial(self.section, threads=workers_for(len(self._groups(rows)), self._workers))

        def of_group(group: int, some: Sequence[Row], exchange: Exchange) -> list[float]:
            try:
                workspace = self._free.pop()
            except IndexError:
                workspace = Workspace()
            losses = self._model.gradients(some, exchange, group, workspace.take, section)
            workspace.reset()
            self._free.append(workspace)
            return losses

        losses, gradients = yield from self._run(of_group, prompts, rows, backwards=True)
        for prompt, gradient in zip(prompts, gradients, strict=True):
            prompt.grad = gradient
        return losses

    def _loss(self, prompts: Sequence[nn.Parameter], rows: Sequence[Row]) -> Pieces:
        def of_group(_group: int, some: Sequence[Row], exchange: Exchange) -> list[float]:
            return self._model.losses(some, exchange)

        losses, _ = yield from self._run(of_group, prompts, rows, backwards=False)
        return losses

    def _run(
        self, of_group: Callable[[int, Sequence[Row], Exchange], list[float]], prompts: Sequence[nn.Parameter],
        rows: Sequence[Row], *, backwards: bool,
    ) -> Generator[int, None, tuple[torch.Tensor, list[torch.Tensor]]]:
        """The weighted loss of each prompt, and what the rows sent back, by what `of_group` makes of each group.

        What stands in front of the rows of a prompt, the same tokens in all of them and the prompt, goes through the
        layers in a thread of its own, ahead of them and behind them. Tells how many rows are done, also while none
        more is.
        """
        groups, found = self._groups(rows), dict[int, list[float]]()
        tokens = {row.prompt: row.example.before for row in rows}
        before = [tokens.get(number, ()) for number in range(len(prompts))]
        exchange = Exchange([len(some) + len(prompt) for some, prompt in zip(before, prompts, strict=True)])

        cores = torch.get_num_threads() // workers_for(len(groups), self._workers)
        prefixes = Future[list[torch.Tensor]]()

        def of_prefixes() -> None:
            try:
                torch.set_num_threads(cores)
                values = [prompt.detach() for prompt in prompts]
                if backwards:
                    self._of_prefixes.reset()
                    result = self._model.prefixes(before, values, exchange, len(groups), self._of_prefixes.take)
                else:
                    result = self._model.prefixes(before, values, exchange)
                prefixes.set_result(result)
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # or it holds what they had allocated
                prefixes.set_exception(error)
                exchange.end()

        pieces = side_by_side(
            lambda item: of_group(*item, exchange), [*enumerate(groups)], self._workers,
            lambda item: _tokens(item[1]), self._together, LOOK_SECONDS, exchange.end,
        )
        thread = threading.Thread(target=of_prefixes, name="prefixes")
        try:
            thread.start()
            for piece in pieces:
                if piece is not None:
                    found[piece[0]] = piece[1]
                yield sum(map(len, found.values()))
            with self.section("backward") if backwards else contextlib.nullcontext():
                gradients = prefixes.result()
        except Abandoned as error:
            traceback.clear_frames(error.__traceback__)
            prefixes.result()  # whose error it is
            raise
        finally:
            exchange.end()  # what is under way need not come to its end
            pieces.close()
            if thread.ident:
                thread.join()
        losses = torch.zeros(len(prompts), dtype=torch.float64)
        for number, group in enumerate(groups):
            for row, loss in zip(group, found[number], strict=True):
                losses[row.prompt] += loss * row.weight
        return losses, gradients

    def _groups(self, rows: Sequence[Row]) -> list[list[Row]]:
        """The rows that go through the layers together, for as many workers as there are."""
        return grouped(rows, workers_for(len(rows), self._workers), self._together)


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
    together: int = 0, seconds: float | None = None, abandon: Callable[[], None] = lambda: None,
) -> Generator[tuple[int, Result] | None, None, None]:
    """What `work` makes of each item, with its index, as it is ready; the first items are taken first.

    `workers` items are under way at a time, as far as there are cores, and share them: with as many workers as cores
    torch uses one in each. Large items do not meet: while the sizes under way would be over `together` a worker, a
    smaller one goes first. The caller may take its time between two results or leave: few more are computed then. After
    so many seconds without a result it gets None. Before it waits for what is under way, after an error, it calls
    `abandon`.
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
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # or it holds what they had allocated
            raise
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
    except BaseException:
        abandon()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # a part of torch's setting is the whole process's


def workers_for(items: int, workers: int) -> int:
    """How many of the workers can be under way: no more than there are cores or items."""
    return max(1, min(workers, torch.get_num_threads(), items))
