"""Signals that tell the app to leave."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tui.leaving import leaving_on_signals


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers of this process, put back afterwards."""
    names = (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT)
    before = [signal.getsignal(name) for name in names]
    yield
    for name, handler in zip(names, before, strict=True):
        signal.signal(name, handler)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_the_terminal_is_not_taken_again_when_the_app_is_told_to_leave(handlers: None, number: int) -> None:
    taken: list[int] = []
    signal.signal(signal.SIGCONT, lambda number, frame: taken.append(number))  # as Textual does
    with leaving_on_signals(lambda number: None):
        signal.raise_signal(signal.SIGCONT)
        assert taken == [signal.SIGCONT]
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGCONT)  # the kernel's after a hangup, systemd's after a SIGTERM
    assert taken == [signal.SIGCONT]
