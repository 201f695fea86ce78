"""The file operations of an engine, one by one: told before they happen, so that a fault can strike at any of them.

Python tells of opening, renaming, removing, linking and cutting by audit events. Bytes that are written, and fsync, are
seen where softtune writes them: by `os.write`, and by the file objects that `os.fdopen` makes.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
NAMED = {"os.rename": 2, "os.remove": 1, "os.link": 2, "os.truncate": 1, "os.mkdir": 1, "os.rmdir": 1, "os.chmod": 1}
"""Audit events that change files, and how many of their first arguments are paths or descriptors."""


@dataclass(frozen=True)
class Operation:
    """One operation on a file: what is done, to which file below the folder; for a write, where and what."""

    name: str
    path: str
    handle: int = -1
    data: bytes = b""

    def __str__(self) -> str:
        return f"{self.name} {self.path}"


Watch = Callable[[Operation], None]
"""Called before each operation; what it raises is raised in place of the operation."""

_write, _fsync, _fdopen = os.write, os.fsync, os.fdopen


@contextlib.contextmanager
def watched(folder: Path, watch: Watch) -> Iterator[None]:
    """Tell of each operation that this process's main thread does below a folder, for the rest of its life."""
    root = os.path.realpath(folder)

    def inside(place: object) -> str:
        """The path below the folder; "" where it is elsewhere."""
        if isinstance(place, int):
            try:
                place = os.readlink(f"/proc/self/fd/{place}")
            except OSError:
                return ""
        path = os.path.realpath(os.path.dirname(os.path.abspath(os.fsdecode(place))))  # type: ignore[arg-type]
        if path != root and not path.startswith(f"{root}/"):
            return ""
        return os.path.relpath(os.path.join(path, os.path.basename(os.fsdecode(place))), root)  # type: ignore[arg-type]

    def tell(name: str, place: object, handle: int = -1, data: bytes = b"") -> None:
        if threading.current_thread() is threading.main_thread():
            path = inside(place)
            if path:
                watch(Operation(name, path, handle, data))

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(arguments[0], str | bytes) and arguments[2] & CHANGING:
                tell("open", arguments[0])
        elif event in NAMED and not (event == "os.mkdir" and os.path.isdir(arguments[0])):
            tell(event.removeprefix("os."), arguments[NAMED[event] - 1])

    def write(handle: int, data: Any) -> int:
        tell("write", handle, handle, bytes(data))
        return _write(handle, data)

    def fsync(handle: Any) -> None:
        tell("fsync", handle if isinstance(handle, int) else handle.fileno())
        _fsync(handle)

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            tell("write", self.fileno(), self.fileno(), bytes(data))
            return super().write(data)

    def fdopen(handle: int, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return io.BufferedWriter(Raw(handle, "wb")) if mode == "wb" else _fdopen(handle, mode, *rest, **named)

    os.write, os.fsync, os.fdopen = write, fsync, fdopen  # type: ignore[assignment]
    sys.addaudithook(audit)
    yield


class Counted:
    """A watch that does something at the n-th operation, from 1."""

    def __init__(self, at: int, act: Watch) -> None:
        self.at, self.act = at, act
        self.count = 0

    def __call__(self, operation: Operation) -> None:
        self.count += 1
        if self.count == self.at:
            self.act(operation)


def die(operation: Operation) -> None:
    """End this process by SIGKILL before the operation; in the middle of it where bytes are written."""
    if len(operation.data) > 1:
        _write(operation.handle, operation.data[: len(operation.data) // 2])
    os.kill(os.getpid(), 9)


def noted(file: Path) -> Watch:
    """A watch that writes each operation as a line of a file, which is outside of the folder."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def note(operation: Operation) -> None:
        _write(handle, f"{operation}\n".encode())

    return note
