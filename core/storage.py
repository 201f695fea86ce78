"""Disks that are full, read-only or gone for a while: a job waits for them, tells so, and goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

from core.contract.control import Command, ControlInbox, StopRequested
from core.contract.events import Event, Notice, RunPaused, RunResumed
from core.contract.files import write_whole

PASSING = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.ENOTDIR,
    errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT,
})
"""What the kernel says of a disk that may take the same bytes later."""

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
GONE_SECONDS = 600.0
"""A folder that somebody has removed is waited for this long: it may be a mount that comes back."""

POLL_SECONDS = 0.5

RESERVE_BYTES = 65_536
"""Kept in a run's folder, to be given up where a full disk could not take the words that say so."""

T = TypeVar("T")


def until_written(write: Callable[[], T], control: ControlInbox) -> Generator[Event, None, T]:
    """Call `write`, which writes all or nothing, and where the disk does not take it wait until it does.

    The value is that of `write`. Meanwhile the run is paused, with a Notice.

    Raises:
        StopRequested: the user did not want to wait for it.
        OSError: the disk does not say something passing, or the folder stays away.
    """
    waited: Waiting | None = None
    while True:
        try:
            value = write()
            break
        except OSError as error:
            if waited is None:
                waited = Waiting(error)
                yield from waited.words
            else:
                waited.again(error)
        if not waited.wait(control):
            raise StopRequested
    if waited:
        yield RunResumed()
    return value


class Waiting:
    """Waiting for a disk that did not take something.

    Raises:
        OSError: it says nothing that may pass, or has said for too long that the folder is gone.
    """

    def __init__(self, error: OSError) -> None:
        self._gone_since: float | None = None
        self.again(error)
        self.what = in_words(error)

    @property
    def words(self) -> Iterator[Event]:
        """What to tell at its beginning."""
        yield Notice(what=f"{self.what}; the run waits", remedy="make room, or mend it: it goes on by itself (df -h)")
        yield RunPaused(reason=self.what)

    def again(self, error: OSError) -> None:
        """Take note of one more try in vain."""
        if error.errno not in PASSING:
            raise error
        if error.errno not in GONE:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = time.monotonic()
        elif time.monotonic() - self._gone_since > GONE_SECONDS:
            raise error

    def wait(self, control: ControlInbox) -> bool:
        """Wait a little; False where the user wants to stop instead."""
        if control.state == Command.STOP:
            return False
        time.sleep(POLL_SECONDS)
        return True


def in_words(error: OSError) -> str:
    """Which file, and what is wrong with it."""
    return f"{error.filename or 'a file'} cannot be written: {error.strerror or error}"


class Reserve:
    """A little room in a run's folder that is given up when the disk is full, so that the run can still say so."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def take(self) -> None:
        """Take the room, where it is not taken yet; raises OSError where there is none."""
        if not self._file.exists():
            write_whole(self._file, os.urandom(RESERVE_BYTES))  # no disk can make less of it

    def give_up(self) -> None:
        """Give the room to whoever needs it."""
        with contextlib.suppress(OSError):
            self._file.unlink()
