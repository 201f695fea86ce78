"""What the commands share: the settings that options mean, and showing a job's events until its end."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Generator, Iterable, Iterator
from types import ModuleType

from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import Command, ControlInbox, StopRequested
from core.contract.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from core.contract.events import Event, RunFailed, RunStopped
from core.outlet import Outlet
from core.signals import StopSignals

STOPPED_SECONDS = 2.0
"""A stalled reader of the output does not keep a process that was told to stop for longer."""


def config_of(options: argparse.Namespace) -> Config:
    """The settings that CONFIG, --set and --demo mean; raises ConfigError."""
    return load_config(options.config, options.overrides, demo=options.demo)


def with_torch(
    name: str, job: Callable[[ModuleType], Iterator[Event]], control: ControlInbox,
    stopped: Callable[[], RunStopped] = lambda: RunStopped(step=0),
) -> Iterator[Event]:
    """Import a module of jobs, torch with it, and pass on the events of one; a stop meanwhile is obeyed at once.

    Args:
        stopped: what to tell of such a stop.
    """
    try:
        with control.interruptible():
            module = importlib.import_module(name)
    except StopRequested:
        yield stopped()
    else:
        yield from job(module)


def drain(
    events: Iterator[Event], show: Callable[[Event], None], control: ControlInbox, signals: StopSignals
) -> int:
    """Show every event; the exit status is what the last one means.

    When nobody can read us any more (| head, a full disk) the job is asked to stop and save.
    """
    status, heard = EXIT_DONE, True
    try:
        for event in events:
            try:
                if heard:
                    show(event)
            except OSError:
                heard = False
                control.request(Command.STOP)
            if isinstance(event, RunFailed):
                status = EXIT_FAILED
            elif isinstance(event, RunStopped):
                status = EXIT_STOPPED
    except KeyboardInterrupt as interrupt:
        if isinstance(events, Generator):
            events.throw(interrupt)  # it came while an event was shown, and the job has to write it down
        raise
    return status if heard or signals.asked else EXIT_FAILED


def delivered(status: int, streams: Iterable[Outlet], signals: StopSignals) -> int:
    """The exit status, once the reader of the output has taken everything.

    That may take as long as it wants to, until a signal says otherwise.
    """
    try:
        with signals.at_once():
            taken = [stream.wait(STOPPED_SECONDS if signals.asked else None) for stream in streams]
    except OSError:
        if not signals.asked:  # a terminal that has closed is no failure of the work
            raise
        return status
    return status if all(taken) else EXIT_STOPPED
