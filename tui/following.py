"""An app that follows one run, starts and resumes engines, and sends them commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual.app import App

from core.contract.config import Config
from core.contract.control import Command
from core.contract.errors import SofttuneError
from core.contract.runs import RunFolder, RunSummary, check_outputs
from core.contract.tracking import check_tracker
from tui import engine
from tui.follower import Follower, Scene
from tui.log_lines import GOES_ON_BY_ITSELF
from tui.plan_words import Plan
from tui.screens.base import RunScreen
from tui.screens.dialogs import Confirm, Message
from tui.starting import Claim, Ready

POLL_SECONDS = 0.25
"""Between two looks at the events of a run that is being worked on; four times that for one that is over."""


@dataclass(frozen=True)
class Parting:
    """What to say on the terminal once the app is closed: the run that goes on, if one does."""

    run_id: str = ""


class FollowingApp(App[Parting], inherit_bindings=False):
    """Follows one run.

    Args:
        plan: what `s` starts.
        runs: the folder of runs.
        command: how an engine is started; tests give their own.
        again: how one is started that goes on with a run that had ended.
    """

    def __init__(self, plan: Plan, runs: Path, command: engine.EngineCommand, again: engine.EngineCommand) -> None:
        super().__init__()
        self.plan = plan
        self.scene = Scene()
        self._runs = runs
        self._command = command
        self._again = again
        self._follower: Follower | None = None
        self._begins = False

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self._runs

    @property
    def link(self) -> engine.RunLink | None:
        """The run that is followed."""
        return self._follower.link if self._follower else None

    async def show(self, name: str) -> None:
        """Switch to a screen, which takes what it missed; from one on top of it, back to it."""
        if name == self.current_mode:
            while len(self.screen_stack) > 1:
                await self.pop_screen()
        else:
            await self.switch_mode(name)
        if isinstance(self.screen, RunScreen):
            self.screen.take(self.scene)

    def _follow(self, link: engine.RunLink) -> None:
        self._follower = Follower(link)
        self.run_worker(self._keep_polling(self._follower), group="follow", exclusive=True)

    async def _keep_polling(self, follower: Follower) -> None:
        """Reading and reducing happen in a thread, so that a long log never holds up a key."""
        while follower is self._follower:
            try:
                scene = await asyncio.to_thread(follower.poll)
            except Exception as error:  # a bug of ours in reading must not end the app: it is told, and q still works
                scene = follower.faulty(f"the run cannot be followed: {type(error).__name__}: {error}")
                await asyncio.sleep(POLL_SECONDS)  # `behind` would make the next try come at once
            if scene is not self.scene:
                self._show(scene)
            if not follower.link.behind:
                await asyncio.sleep(POLL_SECONDS if scene.active else 4 * POLL_SECONDS)

    def _show(self, scene: Scene) -> None:
        before, self.scene = self.scene, scene
        for screen in self.screen_stack:
            if isinstance(screen, RunScreen):
                screen.take(scene)
        if self.screen_stack and _possible(scene) != _possible(before):  # none is left of an app that is closing
            self.refresh_bindings()

    def attach(self, start: bool) -> None:
        """Follow what is being worked on, else what was last; start a run first, if that is wanted and none is."""
        try:
            newest = engine.active_run(self._runs) or engine.newest_run(self._runs)
        except SofttuneError as error:
            self._tell(error)
            return
        if start:
            self._begin(self._ready_to_start(), self._attach_quietly)
        elif newest is not None:
            self._attach_quietly(newest)

    async def open_run(self, run_id: str) -> None:
        """Follow another run, on the Train screen."""
        self._follow(engine.RunLink(RunFolder(self._runs / run_id)))
        await self.show("train")

    def action_start_run(self) -> None:
        """Start training, unless something is training already."""
        self._begin(self._ready_to_start(), self._attach_to_another)

    def action_resume_training(self) -> None:
        """Go on with a run that had ended before its time, from its last checkpoint."""
        if self.link is not None and self.scene.resumable:
            start = partial(engine.resume, self.link.folder, self._again)
            self._begin(lambda: start, self._attach_to_another)

    def action_begin_again(self) -> None:
        """Begin a run again that ended before it had a checkpoint."""
        self.action_resume_training()

    async def start_with(self, config: Config) -> None:
        """Start a run with these settings and show it, unless something is training already."""
        if await self._beginning(self._ready_to_start(config), self._refuse):
            await self.show("train")

    def _ready_to_start(self, config: Config | None = None) -> Ready:
        def ready() -> Callable[[], engine.RunLink]:
            settings = config or self.plan.load()
            check_outputs(settings)
            check_tracker(settings)
            return partial(engine.start, settings, self.plan.name, self._runs, self._command)

        return ready

    def _begin(self, ready: Ready, otherwise: Callable[[RunSummary], None]) -> None:
        self.run_worker(self._beginning(ready, otherwise), group="begin", exclusive=False)

    async def _beginning(self, ready: Ready, otherwise: Callable[[RunSummary], None]) -> bool:
        """Start an engine and follow it; whether that was done.

        Args:
            otherwise: what to do with the run that another engine is at work on: two would share one machine's memory.
        """
        if self._begins:  # a key that was pressed twice
            return False
        self._begins, claim = True, Claim(self._runs)
        try:
            begun = await asyncio.to_thread(claim.take, ready)
        except SofttuneError as error:
            self._tell(error)
            return False
        finally:
            self._begins = False
        if isinstance(begun, RunSummary):
            otherwise(begun)
            return False
        self._follow(begun)
        self.run_worker(claim.hold(begun), group="hold", exclusive=False)
        return True

    def _attach_quietly(self, run: RunSummary) -> None:
        self._follow(engine.RunLink(run.folder))

    def _attach_to_another(self, run: RunSummary) -> None:
        """Follow a run that somebody else has started, or has gone on with; one's own has only not said so yet."""
        if self.link is not None and self.link.run_id == run.folder.run_id and self.link.own:
            return
        self.notify(f"attached to {run.folder.run_id}, which was started elsewhere", markup=False)
        self._attach_quietly(run)

    def _refuse(self, run: RunSummary) -> None:
        self._tell(SofttuneError(f"{run.folder.run_id} is being worked on",
                                 "wait for its end, or stop it first (1, then x)"))

    def _tell(self, error: SofttuneError) -> None:
        self.push_screen(Message(error.what, error.remedy, "error"))

    def action_pause_run(self) -> None:
        """Pause; the header and the log say when it does."""
        self._send(Command.PAUSE)

    def action_resume_run(self) -> None:
        """Go on."""
        self._send(Command.RESUME)

    def action_tell_wait(self) -> None:
        """Say what a run waits for that no key can make go on."""
        self.notify(f"{self.scene.view.waits_for}\n{GOES_ON_BY_ITSELF}", title="the run waits", severity="warning",
                    markup=False, timeout=10)

    def action_stop_run(self) -> None:
        """Stop, once the user has confirmed it."""
        training = self.scene.view.phase in ("training", "validating")
        kept = "A checkpoint is saved, and training can go on from it." if training else "What it wrote so far stays."

        def answered(yes: bool | None) -> None:
            if yes and self._send(Command.STOP):
                self.notify("stopping after the micro-batch it is at", timeout=3)

        self.push_screen(Confirm("Stop this run?", kept), answered)

    def _send(self, command: Command) -> bool:
        if self._follower is None or not self.scene.active:
            return False
        try:
            self._follower.link.send(command)
        except SofttuneError as error:
            self._tell(error)
            return False
        return True


def _possible(scene: Scene) -> tuple[object, ...]:
    """What decides which commands a run takes now."""
    return scene.run_id, scene.active, scene.view.paused, scene.view.waits_for, scene.resumable, scene.has_last


def parting_words(parting: Parting | None) -> str:
    """The line for the terminal after the app has closed; "" where nothing goes on."""
    if parting is None or not parting.run_id:
        return ""
    return f"run {parting.run_id} goes on; `softtune` attaches to it again"
