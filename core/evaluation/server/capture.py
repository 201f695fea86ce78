"""What comes out of a program's pipes, kept where it can be wiped: the next program is forked from this process.

A failing test may quote what it expected, and a program can read all memory that it was forked with. So what is read
never becomes an object of Python's, whose memory stays as it was when it is freed.
"""

from __future__ import annotations

import os

_DROPPED = bytearray(1 << 16)
_ROUNDS = 16


class Capture:
    """The first bytes that a pipe brings; the rest is read and dropped.

    Args:
        most: how many bytes are kept.
    """

    def __init__(self, pipe: int, most: int) -> None:
        self.pipe = pipe
        self._bytes = bytearray(most)
        self._length = 0

    def read(self) -> bool:
        """Take what the pipe, which must not block, has; False when its other end is closed."""
        for _ in range(_ROUNDS):  # not for ever: a flood must not keep us from the clock
            try:
                count = os.readv(self.pipe, [memoryview(self._bytes)[self._length :], _DROPPED])
            except BlockingIOError:
                return True
            if not count:
                return False
            self._length = min(self._length + count, len(self._bytes))
        return True

    def __contains__(self, text: bytes) -> bool:
        return self._bytes.find(text, 0, self._length) >= 0

    @property
    def content(self) -> memoryview:
        """What was kept."""
        return memoryview(self._bytes)[: self._length]

    def wipe(self) -> None:
        """Leave nothing of it in memory."""
        wipe(self._bytes)
        wipe(_DROPPED)


def wipe(memory: bytearray) -> None:
    """Overwrite with zeros, in place."""
    memory[:] = bytes(len(memory))
