"""A peer in a process of its own, as in a program that knows nothing of softtune.

Beside ours in one process it may be slower than alone, since we change what the process keeps of the memory that it
frees. So it has its own copy of the model, and memory as the C library hands it out. Our settings of how threads wait
it has, too: on a quiet machine they change nothing for it, on a busy one it loses less. One side waits on a pipe while
the other works.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from torch import multiprocessing

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class OtherProcess(Generic[Question, Answer]):
    """Another process that answers one question after the other; at the end of a `with` it is gone.

    Args:
        make: a function of a module, which the process calls first, with `arguments`; what it returns answers.
    """

    def __init__(self, make: Callable[..., Callable[[Question], Answer]], *arguments: Any) -> None:
        self._connection, connection = multiprocessing.Pipe()
        self._running = multiprocessing.spawn(_answer, (connection, make, arguments), join=False, daemon=True)
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

    def ask(self, question: Question) -> Answer:
        """The answer, once it is there.

        Raises:
            torch.multiprocessing.ProcessException: the process has failed, with its traceback, or was killed.
            ConnectionError: it has ended for no reason that it tells.
        """
        try:
            self._connection.send(question)
            answer: Answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self._running.join()
            raise ConnectionError("a peer's process has ended") from error
        return answer


def _answer(_: int, connection: Connection, make: Callable[..., Callable[[Any], Any]], arguments: Any) -> None:
    """Answer until nobody is there to ask."""
    os.environ.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)  # of core.model.heap, if ours came first
    answer = make(*arguments)
    with contextlib.suppress(EOFError):
        while True:
            connection.send(answer(connection.recv()))
