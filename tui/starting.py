"""Starting an engine while another UI may be about to do the same: one of them starts it, and all follow it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from core.contract.errors import UsageError
from core.contract.liveness import locked
from core.contract.runs import RunSummary
from tui.engine import RunLink, active_run

START_LOCK = ".start.lock"
"""In the folder of runs: whoever holds it may start an engine."""

HOLD_SECONDS = 10.0
"""An engine that has not taken its run up by then no longer keeps others from starting one."""

_TRIES = 6
"""Each of about two seconds: others let go of the lock within HOLD_SECONDS."""

_LOOK_SECONDS = 0.05

Ready = Callable[[], Callable[[], RunLink]]
"""Checks all that can be checked before anything is written, and gives what starts the engine."""


class Claim:
    """The right to start an engine, held until that engine shows. Threads may take it; any may let go of it."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._held = contextlib.ExitStack()

    def take(self, ready: Ready) -> RunLink | RunSummary:
        """Start an engine, and hold on to the right; where one is at work or being started, give that run instead.

        It may block for some seconds, while another UI starts one.

        Raises:
            SofttuneError: the engine cannot be started, or the folder of runs cannot be used.
        """
        active = active_run(self._runs)
        if active is not None:
            return active
        start = ready()
        with contextlib.ExitStack() as undone:
            undone.callback(self.let_go)
            active = self._lock()
            if active is not None:
                return active
            link = start()
            undone.pop_all()
            return link

    def _lock(self) -> RunSummary | None:
        """Wait for the lock, and see what is at work then."""
        with contextlib.suppress(OSError):  # the lock then says what is wrong with the folder
            self._runs.mkdir(parents=True, exist_ok=True)
        for tries_left in reversed(range(_TRIES)):
            try:
                self._held.enter_context(locked(
                    self._runs / START_LOCK, "another softtune is starting an engine here", "try again in a moment"))
                break
            except UsageError:
                if active := active_run(self._runs):
                    return active
                if not tries_left:
                    raise
        return active_run(self._runs)

    async def hold(self, link: RunLink) -> None:
        """Keep others from starting until the engine has taken its run up or has ended, or has had long enough."""
        until = time.monotonic() + HOLD_SECONDS
        try:
            while not link.settled() and time.monotonic() < until:
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Let others start."""
        self._held.close()
