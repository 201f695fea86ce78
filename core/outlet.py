"""Output that never holds up the work: a reader that is slow, stalled or away costs memory, not time.

Printing to a pipe that nobody empties, or to a terminal behind an SSH link that has stalled, blocks. Here that befalls
a thread, and what is printed meanwhile waits in a queue. At the end somebody has to wait for the reader (`wait`).
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

GRACE_SECONDS = 1.0
"""How long what was said last may take when a command ends without waiting for its reader."""


class Outlet(io.TextIOWrapper):
    """A text stream, flushed at every line's end, that keeps the order of what is written and never blocks a writer.

    After a write that failed (the reader is gone, the disk full) the next write or flush raises that OSError.

    Args:
        stream: where it leads to, and how that is encoded; its descriptor is copied, and the stream itself not used.
    """

    def __init__(self, stream: TextIO) -> None:
        self._belt = _Belt(os.dup(stream.fileno()))
        super().__init__(self._belt, stream.encoding, stream.errors, line_buffering=True)

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._belt.put - self._belt.taken

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all that came so far is written, for so long at most (None is as long as it takes); whether it is.

        Raises:
            OSError: it could not be written.
        """
        self.flush()
        return self._belt.wait(seconds)

    def close(self) -> None:
        """Take nothing more in. Does not wait: what is left is written by and by, as long as the process lives."""
        with contextlib.suppress(OSError):
            super().close()


class _Belt(io.BufferedIOBase):
    """Takes bytes at once, and writes them to a descriptor, which it owns, in a thread of its own."""

    name = "outlet"

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._items: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._failure: OSError | None = None
        self._terminal = os.isatty(handle)
        self.put = self.taken = 0
        threading.Thread(target=self._pass_on, name="outlet", daemon=True).start()

    def write(self, data: ReadableBuffer) -> int:
        self._complain()
        chunk = bytes(data)
        self.put += len(chunk)
        self._items.put(chunk)
        return len(chunk)

    def flush(self) -> None:
        self._complain()

    def wait(self, seconds: float | None) -> bool:
        reached = threading.Event()
        self._items.put(reached)
        done = reached.wait(seconds)
        self._complain()
        return done

    def close(self) -> None:
        if not self.closed:
            self._items.put(None)
            super().close()

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return self._handle

    def writable(self) -> bool:
        return True

    def _complain(self) -> None:
        if self._failure:
            raise OSError(self._failure.errno, self._failure.strerror)

    def _pass_on(self) -> None:
        """The thread. After a failure the rest is dropped, as there is nobody left to read it."""
        while (item := self._items.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            if not self._failure:
                try:
                    write_all(self._handle, item)
                except OSError as error:
                    self._failure = error
            self.taken += len(item)
        os.close(self._handle)


def write_all(handle: int, data: bytes) -> None:
    """Write everything to a descriptor, also to one that another program has set to be non-blocking."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(handle, rest):]
        except BlockingIOError:
            poll = select.poll()
            poll.register(handle, select.POLLOUT)
            poll.poll()


@contextlib.contextmanager
def outlets(out: TextIO, err: TextIO) -> Iterator[tuple[Outlet, Outlet]]:
    """Outlets in place of two streams: one for both where they lead to the same place, so that the order stays."""
    first = Outlet(out)
    together = os.path.samestat(os.fstat(out.fileno()), os.fstat(err.fileno()))
    streams = (first, first if together else Outlet(err))
    try:
        yield streams
    finally:
        end = time.monotonic() + GRACE_SECONDS
        for stream in dict.fromkeys(streams):
            with contextlib.suppress(OSError):
                stream.wait(max(0.0, end - time.monotonic()))
            stream.close()


def last_words(text: str) -> None:
    """Print a line on stderr before the process ends, unless nobody takes it.

    What came from files of others cannot move the cursor there.
    """
    text = "".join(sign if sign.isprintable() or sign == "\n" else "�" for sign in text)
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):
        poll.register(sys.stderr.fileno(), select.POLLOUT)
        if poll.poll(GRACE_SECONDS * 1000):
            print(text, file=sys.stderr, flush=True)
