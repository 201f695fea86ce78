"""Signals that ask a headless command to stop."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from types import FrameType

from core.contract.control import ControlInbox
from core.contract.errors import EXIT_STOPPED

UNWINDING_SECONDS = 3.0
"""What is interrupted has this long to come to an end; then the process ends all the same."""

NUDGE = signal.SIGURG
"""What makes the main thread look for signals; of no meaning by itself."""

_NUDGE_SECONDS = 0.1


class StopSignals:
    """What has been asked for by signals.

    ctrl+c, SIGTERM and SIGHUP ask the job to stop and save. Once that is asked for, ctrl+c ends it at once, by a
    KeyboardInterrupt (files are written whole anyway). Another SIGTERM does not: schedulers and `timeout` like to send
    it twice, to the process and to its group.

    Python calls a handler in the main thread alone, between two of its instructions: a long call of a library makes it
    wait, and so does a sleep that begins just after the signal. So a thread sees to it that signals are heard.

    Args:
        left_behind: called in that thread before the process ends in the middle of something that does not let itself
            be interrupted.
    """

    def __init__(self, control: ControlInbox, left_behind: Callable[[], None]) -> None:
        self._control, self._left_behind = control, left_behind
        self.asked = self._at_once = self._interrupted = False
        self._listening = False  # set by a handler, which may interrupt itself: nothing with a lock
        self._unwound = threading.Event()
        self._arrivals, self._arriving = socket.socketpair()
        self._arriving.setblocking(False)
        threading.Thread(target=self._see_to_it, name="interrupts", daemon=True).start()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that any of them ends, by a KeyboardInterrupt: nothing is left to save."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @contextlib.contextmanager
    def handled(self, numbers: Collection[int]) -> Iterator[None]:
        """Hear these signals while the block runs."""
        for number in numbers:
            signal.signal(number, self._heard)
        signal.signal(NUDGE, self._nudged)
        before = signal.set_wakeup_fd(self._arriving.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            self._unwound.set()
            signal.set_wakeup_fd(before)
            signal.signal(NUDGE, signal.SIG_DFL)
            self._arriving.close()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        try:
            self._control.interrupt()
            if self._at_once or again and number == signal.SIGINT:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            self._interrupted = True
            raise

    def _nudged(self, number: int, frame: FrameType | None) -> None:
        """Signals of a smaller number have been heard: Python calls handlers in the order of the numbers."""
        self._listening = True

    def _see_to_it(self) -> None:
        asked = False
        with self._arrivals:
            while arrived := self._arrivals.recv(1):
                number = arrived[0]
                if signal.getsignal(number) == self._heard:
                    self._see_to_one(number, again=asked)
                    asked = True

    def _see_to_one(self, number: int, again: bool) -> None:
        """Let a signal be heard, and end the process where it interrupts something that does not come to an end."""
        end = time.monotonic() + UNWINDING_SECONDS
        self._listening = False
        while not self._listening and time.monotonic() < end:
            signal.pthread_kill(threading.main_thread().ident or 0, NUDGE)
            if self._unwound.wait(_NUDGE_SECONDS):
                return
        due = self._at_once or self._control.may_be_left or again and number == signal.SIGINT
        interrupted = self._interrupted or due and not self._listening
        if interrupted and not self._unwound.wait(max(0.0, end - time.monotonic())):
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
    numbers = [signal.SIGINT, signal.SIGTERM]
    if detached:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup's wish
        numbers.append(signal.SIGHUP)
    try:
        with signals.handled(numbers):
            yield signals
    finally:
        for name in numbers:  # everything is written: one that comes while the process ends must not change how
            signal.signal(name, _end_now if name == signal.SIGINT else signal.SIG_IGN)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # later Python takes the handler away


def _end_now(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_STOPPED)
