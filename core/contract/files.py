"""Files that are written whole or not at all, and files that grow by whole lines."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

FORMAT_VERSION = 1
"""Of run.json, checkpoints and events.jsonl. A file with a higher one is of a newer softtune, and is refused."""

_TEMPORARY = ".tmp"
_OLD_SECONDS = 3600


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a temporary file that becomes `path` when the block ends without an error (write, fsync, rename).

    Args:
        previous: what is at `path` by then gets this name, too, a moment before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes private files; ours are ordinary ones
        if previous:
            _keep(path, previous)
        os.replace(name, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


def _keep(path: Path, previous: Path) -> None:
    """Give a file, if it is there, a second name: no moment is without it. Where it can have but one, that one."""
    second = previous.with_name(f".{previous.name}{_TEMPORARY}")
    with contextlib.suppress(FileNotFoundError):
        try:
            os.link(path, second)
            os.replace(second, previous)
        except OSError:
            os.replace(path, previous)


def write_whole(path: Path, content: str | bytes, previous: Path | None = None) -> None:
    """Write `content` to `path` atomically; text is UTF-8. For `previous` see `replacing`."""
    with replacing(path, previous) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def read_regular(path: Path) -> bytes:
    """Read a file that is one; raises OSError, also for what a read could wait in for ever (a named pipe, a device)."""
    with open(path, "rb", opener=without_waiting) as file:
        _check_regular(file.fileno(), path)
        return file.read()


def _check_regular(handle: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def without_waiting(path: str, flags: int) -> int:
    """An opener of files that does not wait for whoever is at the other end of a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left half-written below a folder that nobody else writes to."""
    with contextlib.suppress(OSError):
        for left in folder.rglob(f".*{_TEMPORARY}"):
            left.unlink()


def sweep_old(folder: Path, name: str) -> None:
    """The same in a folder that others may be writing to now: only of files of this name (a pattern), and only old."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f".{name}.*{_TEMPORARY}"):
            if time.time() - left.stat().st_mtime > _OLD_SECONDS:
                left.unlink()


def append_whole(handle: int, lines: bytes, path: Path | None = None) -> None:
    """Write to the end of an open file, in the kernel's hands; raises OSError with `path`, and nothing of it stays."""
    end = os.fstat(handle).st_size
    rest = memoryview(lines)
    try:
        while rest:
            rest = rest[os.write(handle, rest):]
    except OSError as error:
        os.ftruncate(handle, end)
        error.filename = error.filename or path and str(path)
        raise


class LineFile:
    """A file that grows by whole lines. A torn line that a crash left is cut off first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = self._opened(os.O_CREAT)

    def append(self, lines: bytes) -> None:
        """Write whole lines; they are in the kernel's hands when this returns.

        Raises:
            OSError: they could not be written; nothing of them stays.
        """
        try:
            same = os.path.samestat(os.fstat(self._handle), os.stat(self.path))
        except FileNotFoundError:
            same = False
        if not same:  # its folder was moved or removed, and may have come back as another one
            handle = self._opened(0)  # an empty folder in its place, such as a mount's, gets no file of ours
            os.close(self._handle)
            self._handle = handle
        append_whole(self._handle, lines, self.path)

    def close(self) -> None:
        """Make everything durable."""
        with contextlib.suppress(OSError):  # a pipe or a full disk: it stays in the kernel's hands
            os.fsync(self._handle)
        os.close(self._handle)

    def _opened(self, flags: int) -> int:
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | flags, 0o666)
        _check_regular(handle, self.path)
        with open(handle, "rb", closefd=False) as file:
            content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.ftruncate(handle, whole)
        return handle
