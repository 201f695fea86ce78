"""Leaving when the terminal goes away or the app is told to end: the terminal gets its modes back, where it is there.

The engine has a session of its own, so that no signal for the app reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGHUP, signal.SIGTERM)

LEAVE_SECONDS = 3.0
"""Closing the app properly writes to the terminal, which may take nothing any more: then it is ended without that."""

_WRITE_SECONDS = 0.5

_MODES_OFF = (
    b"\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l"  # mouse
    b"\x1b[?2004l\x1b[?2048l\x1b[?1004l\x1b[<u"  # paste, resize and focus reports, kitty's keys
    b"\x1b[?7h\x1b[?1049l\x1b[?25h"  # wrapping, the other screen, the cursor
)


@contextlib.contextmanager
def leaving_on_signals(leave: Callable[[int], None]) -> Iterator[None]:
    """While the block runs, SIGHUP and SIGTERM call `leave` with the signal's number, on the running event loop.

    A SIGCONT that follows, as one does when a terminal hangs up, is nothing to the app from then on: Textual would take
    the terminal again, with a new thread for its keys.

    A process that has not ended LEAVE_SECONDS later ends at once, with that signal's exit status. A SIGHUP that is
    ignored stays ignored (nohup).
    """
    modes = _Modes()
    ends: list[threading.Timer] = []

    def obey(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGCONT, lambda *_: None)
        timer = threading.Timer(LEAVE_SECONDS, _end, (number, modes))
        timer.daemon = True
        timer.start()
        ends.append(timer)
        with contextlib.suppress(RuntimeError):  # no loop: it has not begun yet, or is over
            asyncio.get_running_loop().call_soon_threadsafe(leave, number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, obey)
    try:
        yield
    finally:
        for timer in ends:
            timer.cancel()
            timer.join()  # one that has begun to end the process does so
        for number, handler in before.items():
            signal.signal(number, handler)


def end(status: int) -> NoReturn:
    """End the process, whatever goes on in other threads.

    Textual's reader of keys, where the terminal went away in the wrong moment, is told of nothing any more and would
    keep a core busy for ever.
    """
    others = (thread for thread in threading.enumerate() if thread is not threading.current_thread())
    left = [thread for thread in others if not thread.daemon]
    until = time.monotonic() + LEAVE_SECONDS
    for thread in left:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in left):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


class _Modes:
    """The terminal's modes as they are now; none where stdin and stderr, which Textual uses, are no terminal."""

    def __init__(self) -> None:
        self._attributes: list[Any] | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError, termios.error):
            self._keys, self._screen = sys.__stdin__.fileno(), sys.__stderr__.fileno()  # type: ignore[union-attr]
            self._attributes = termios.tcgetattr(self._keys)

    def restore(self) -> None:
        """Have them again, as far as the terminal takes that: one that takes no output keeps its other screen."""
        if self._attributes is None:
            return
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._keys, termios.TCSANOW, self._attributes)
            os.write(self._screen, _MODES_OFF)


def _end(number: int, modes: _Modes) -> None:
    writing = threading.Thread(target=modes.restore, daemon=True)
    writing.start()
    writing.join(_WRITE_SECONDS)
    os._exit(128 + number)
