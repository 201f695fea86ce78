"""Apps on fake runs: nothing here loads a model or reads the user's own settings."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual._context import active_app
from textual._wait import wait_for_idle
from textual.pilot import Pilot

from core.contract.control import Command, send
from core.contract.runs import RunFolder, list_runs
from tests.tui.fake_run import __file__ as fake_engine
from tests.tui.fake_workbench import __file__ as fake_workbench
from tui.app import SofttuneApp
from tui.engine import RunLink
from tui.plan_words import Plan
from tui.preferences import Preferences
from tui.workbench import Workbench

OpenApp = Callable[..., SofttuneApp]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of runs, in a working directory of its own, with an empty config folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def one_key_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is pressed once all messages that came of the one before it are handled.

    Textual's pilot waits until the process seems idle, which one that gets no processor time does too: on a busy
    machine keys overtook what the keys before them had begun.
    """
    monkeypatch.setattr("textual.app.wait_for_idle", settled)
    monkeypatch.setattr("textual.pilot.wait_for_idle", settled)


async def settled(*seconds: float) -> None:
    """Idle as Textual understands it, and no widget of the app at hand has a message left."""
    await wait_for_idle(*seconds)
    app, waiting = active_app.get(), True
    while waiting:
        waiting = any(pump._message_queue.qsize() for pump in (app, *app.screen.walk_children(with_self=True)))
        await Pilot(app)._wait_for_screen()


@pytest.fixture
def open_app(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenApp]:
    """Makes apps with the fake engine and workbench, given these options. Every engine is ended afterwards."""
    apps: list[SofttuneApp] = []
    notify = SofttuneApp.notify

    def notify_and_keep(app: SofttuneApp, message: str, **how: Any) -> None:
        app.__dict__.setdefault("notified", []).append(message)
        notify(app, message, **how)

    monkeypatch.setattr(SofttuneApp, "notify", notify_and_keep)
    shut_down = SofttuneApp._shutdown

    async def cancel_and_shut_down(app: SofttuneApp) -> None:
        await asyncio.sleep(0)  # no work is cancelled before it has begun
        app.workers.cancel_all()  # as when a user leaves; run_test would take the widgets from under them first
        await shut_down(app)

    monkeypatch.setattr(SofttuneApp, "_shutdown", cancel_and_shut_down)

    def make(
        *, start: bool = False, engine: tuple[str, ...] = ("--count", "4", "--steps", "6"),
        workbench: tuple[str, ...] = (),
    ) -> SofttuneApp:
        def command(folder: RunFolder) -> list[str]:
            return [sys.executable, fake_engine, str(folder.root), *engine]

        app = SofttuneApp(Plan(demo=True), start=start, runs=runs, command=command, again=command,
                          preferences=Preferences(tmp_path / "config" / "softtune"),
                          workbench=Workbench([sys.executable, fake_workbench, *workbench]))
        apps.append(app)
        return app

    yield make
    for summary in list_runs(runs):
        if summary.state in ("queued", "running", "paused"):
            send(Path(summary.folder.control_file), Command.STOP)
    for app in apps:
        if app.link is not None:
            reap(app.link)


def reap(link: RunLink) -> None:
    """Wait for an engine that this process started."""
    if link._process is not None:
        link._process.wait(10)


def told(app: SofttuneApp) -> list[str]:
    """The messages of all toasts so far: one is up for seconds, and a busy machine may look later."""
    return list(app.__dict__.get("notified", ()))


async def until(pilot: Pilot[object], true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Let the app work until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)
    await pilot.pause()
