"""Signals that ask a headless command to stop."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from core.contract.control import ControlInbox
from core.contract.errors import EXIT_STOPPED

UNWINDING_SECONDS = 3.0
"""What is interrupted has this long to come to an end; then the process ends all the same."""


class StopSignals:
    """What has been asked for by signals.

    ctrl+c, SIGTERM and SIGHUP ask the job to stop and save. Once that is asked for, ctrl+c ends it at once, by a
    KeyboardInterrupt (files are written whole anyway). Another SIGTERM does not: schedulers and `timeout` like to send
    it twice, to the process and to its group.

    Args:
        left_behind: called in a thread before the process ends in the middle of something that does not let itself be
            interrupted.
    """

    def __init__(self, control: ControlInbox, left_behind: Callable[[], None]) -> None:
        self._control, self._left_behind = control, left_behind
        self._at_once = False
        self._interrupts: queue.SimpleQueue[int] = queue.SimpleQueue()  # what a handler may use at any time
        self.asked = False
        self._unwound = threading.Event()
        threading.Thread(target=self._end_what_goes_on, name="interrupts", daemon=True).start()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that any of them ends, by a KeyboardInterrupt: nothing is left to save."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def heard(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal."""
        again, self.asked = self.asked, True
        try:
            self._control.interrupt()
            if self._at_once or again and number == signal.SIGINT:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            self._interrupts.put(number)
            raise

    def unwound(self) -> None:
        """The interrupt, if there was one, has ended what went on."""
        self._unwound.set()

    def _end_what_goes_on(self) -> None:
        self._interrupts.get()
        if self._unwound.wait(UNWINDING_SECONDS):
            return
        try:
            self._left_behind()
        finally:
            os._exit(EXIT_STOPPED)


@contextlib.contextmanager
def stopping(
    control: ControlInbox, left_behind: Callable[[], None] = lambda: None, *, detached: bool = False
) -> Iterator[StopSignals]:
    """Let signals ask for a stop while the block runs; afterwards the process is meant to end.

    Args:
        left_behind: see `StopSignals`.
        detached: a terminal that closes is none of this process's business.
    """
    signals = StopSignals(control, left_behind)
    handled = [signal.SIGINT, signal.SIGTERM]
    if detached:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup's wish
        handled.append(signal.SIGHUP)
    for name in handled:
        signal.signal(name, signals.heard)
    try:
        yield signals
    finally:
        signals.unwound()
        for name in handled:  # everything is written: one that comes while the process ends must not change how
            signal.signal(name, _end_now if name == signal.SIGINT else signal.SIG_IGN)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # later Python takes the handler away


def _end_now(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_STOPPED)
