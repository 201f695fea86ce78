"""The app: follows one run, switches screens, and turns keys into commands to the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from core.contract.config import Config
from core.contract.control import Command
from core.contract.errors import SofttuneError
from core.contract.runs import RUNS, RunFolder
from tui import engine
from tui.clipboard import copy_file, home_relative, keep, osc52
from tui.follower import Follower, Scene
from tui.formatting import counted
from tui.frugal import TerminalCells
from tui.help import help_groups
from tui.keymap import load_keymap, write_template
from tui.plan_words import Plan, welcome
from tui.preferences import Preferences
from tui.problems.files import EvaluationRef
from tui.screens.base import Copies, Loses, RunScreen
from tui.screens.checkpoints import CheckpointsScreen
from tui.screens.config import ConfigScreen
from tui.screens.dialogs import Confirm, Help, Message, ThemeChoice
from tui.screens.playground import PlaygroundScreen
from tui.screens.problems import ProblemsScreen
from tui.screens.train import TrainScreen
from tui.themes import DARK, config_folder, default_theme, load_themes, plot_colours
from tui.workbench import Workbench

SCREENS = ("train", "checkpoints", "problems", "config", "playground")
"""Modes, each with a screen of its own."""

POLL_SECONDS = 0.25
"""Between two looks at the events of a run that is being worked on; four times that for one that is over."""


@dataclass(frozen=True)
class Parting:
    """What to say on the terminal once the app is closed: the run that goes on, if one does."""

    run_id: str = ""


class SofttuneApp(App[Parting], inherit_bindings=False):
    """softtune in the terminal.

    Args:
        plan: what `s` starts.
        start: start at once where no run is active (`--demo`).
        runs: the folder of runs.
        command: how an engine is started; tests give their own.
        again: how one is started that goes on with a run that had ended.
        workbench: what completes, inspects, runs and exports by hand; None starts the real one when it is needed.
        preferences: what the app remembers; None uses the user's config folder.
    """

    CSS_PATH = "app.tcss"
    TITLE = "softtune"
    DEFAULT_MODE = "train"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "show_screen('train')", "Train", id="app.train", show=False,
                tooltip="the run: plots, figures, log"),
        Binding("2", "show_screen('checkpoints')", "Checkpoints", id="app.checkpoints", show=False,
                tooltip="the checkpoints of every run, and how they compare"),
        Binding("3", "show_screen('problems')", "Problems", id="app.problems", show=False,
                tooltip="every problem, its completion and its verdict"),
        Binding("4", "show_screen('config')", "Config", id="app.config", show=False,
                tooltip="the settings of the next run"),
        Binding("5", "show_screen('playground')", "Playground", id="app.playground", show=False,
                tooltip="complete a prompt of your own, with and without a soft prompt"),
        Binding("y", "copy", "copy", id="app.copy",
                tooltip="copy what this screen is about, to the clipboard and to a file"),
        Binding("colon", "command_palette", "palette", key_display=":", id="app.palette", show=False,
                tooltip="find a command by its name"),
        Binding("T", "choose_theme", "theme", key_display="T", id="app.theme", tooltip="choose another theme"),
        Binding("question_mark", "help", "help", key_display="?", id="app.help", tooltip="the keys of this screen"),
        Binding("q", "quit", "quit", id="app.quit",
                tooltip="leave; the engine goes on, and softtune attaches to it again"),
        Binding("ctrl+c", "help_quit", "how to quit", show=False, system=True),
    ]

    def __init__(
        self, plan: Plan, *, start: bool = False, runs: Path = RUNS,
        command: engine.EngineCommand = engine.engine_command, preferences: Preferences | None = None,
        workbench: Workbench | None = None, again: engine.EngineCommand = engine.resume_command,
    ) -> None:
        self.preferences = preferences or Preferences(config_folder())
        if not start and self.preferences.screen in SCREENS:
            self.DEFAULT_MODE = self.preferences.screen  # type: ignore[misc]  # Textual reads it from the instance
        super().__init__()
        self.add_mode("train", lambda: TrainScreen(lambda: welcome(self.plan, engine.damaged_runs(self._runs))))
        self.add_mode("checkpoints", CheckpointsScreen)
        self.add_mode("problems", ProblemsScreen)
        self.add_mode("config", ConfigScreen)
        self.add_mode("playground", PlaygroundScreen)
        self.plan = plan
        self.workbench = workbench or Workbench()
        self.scene = Scene()
        self._start = start
        self._runs = runs
        self._command = command
        self._again = again
        self._cells = TerminalCells()
        self._follower: Follower | None = None
        self._failed_themes: list[str] = []
        self._load_themes()
        keymap, self._failed_keys = load_keymap(self.preferences.folder, self.BINDINGS)
        self.set_keymap(keymap)

    def _load_themes(self) -> None:
        themes, self._failed_themes = load_themes()
        for name in list(self.available_themes):
            if name.startswith(("textual-", "ansi-")):
                continue  # Textual falls back on these by name
            self.unregister_theme(name)
        for theme in themes:
            self.register_theme(theme)
        names = [self.preferences.theme, default_theme(), DARK]
        self.theme = next((name for name in names if name in self.available_themes), self.theme)
        self._theme_names = [theme.name for theme in themes]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of the plots, for a theme that names none."""
        return plot_colours(self.current_theme)

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Textual's way to the terminal: only what has changed goes on."""
        if self._running and not self._batch_count:  # else it is not written, and must not count as being there
            renderable = self._cells.trimmed(screen, renderable)
        super()._display(screen, renderable)

    def on_resize(self) -> None:
        """The terminal is another one now."""
        self._cells.forget()

    async def on_unmount(self) -> None:
        """The workbench ends with the app."""
        await self.workbench.close()

    def on_mount(self) -> None:
        """Attach to what is there, or start."""
        self.app_resume_signal.subscribe(self, lambda _: self._cells.forget(), immediate=True)
        if self._failed_themes:
            self.notify("\n".join(self._failed_themes), title="themes that cannot be used", severity="warning",
                        markup=False, timeout=10)
        if self._failed_keys:
            self.notify("\n".join(self._failed_keys), title="keys that cannot be used", severity="warning",
                        markup=False, timeout=10)
        try:
            active = engine.active_run(self._runs)
            newest = active or engine.newest_run(self._runs)
        except SofttuneError as error:
            self._tell(error)
            newest = None
        else:
            if self._start and active is None:
                self._start_engine()
                return
        if newest is not None:
            self._follow(engine.RunLink(newest.folder))

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self._runs

    @property
    def link(self) -> engine.RunLink | None:
        """The run that is followed."""
        return self._follower.link if self._follower else None

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
        if _possible(scene) != _possible(before):
            self.refresh_bindings()

    def on_key(self, event: events.Key) -> None:
        """A key that was typed ahead of the field that it is for (over a slow line) goes into it, not to a binding."""
        focused = self.focused
        if event.is_printable and focused is not None and focused.check_consume_key(event.key, event.character):
            event.prevent_default()
            focused.post_message(events.Key(event.key, event.character))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Pausing and stopping need a run that is being worked on, starting needs none; one does not go to the screen
        that one is on."""
        active, paused = self.scene.active, self.scene.view.paused
        possible = {
            "show_screen": parameters != (self.current_mode,) or len(self.screen_stack) > 1,
            "start_run": not active, "stop_run": active,
            "pause_run": active and not paused, "resume_run": active and paused,
            "resume_training": self.scene.resumable,
        }
        return possible.get(action, True)

    async def action_show_screen(self, name: str) -> None:
        """Switch to a screen, which takes what it missed; from one on top of it, back to it."""
        if name == self.current_mode:
            while len(self.screen_stack) > 1:
                await self.pop_screen()
        else:
            await self.switch_mode(name)
        if isinstance(self.screen, RunScreen):
            self.screen.take(self.scene)

    async def open_problems(self, a: EvaluationRef, b: EvaluationRef | None = None, task_id: str = "") -> None:
        """Show the problems of one evaluation, or of two side by side, at a problem."""
        await self.action_show_screen("problems")
        await self.action_show_screen("problems")  # a scratch copy may be open on top of it
        if isinstance(self.screen, ProblemsScreen):
            self.screen.open_evaluations(a, b, task_id)

    async def open_run(self, run_id: str) -> None:
        """Follow another run, on the Train screen."""
        self._follow(engine.RunLink(RunFolder(self._runs / run_id)))
        await self.action_show_screen("train")

    def action_copy(self) -> None:
        """Copy what the screen is about, to the clipboard of the terminal and to a file."""
        found = self.screen.copy_text() if isinstance(self.screen, Copies) else None
        if not found or not found[1]:
            self.notify("there is nothing to copy here yet", timeout=3)
            return
        what, text = found
        path, sequence = copy_file(), osc52(text)
        if sequence and self._driver is not None:
            self._driver.write(sequence)
        try:
            keep(text, path)
        except OSError as error:
            self.notify(f"{what}; not kept in a file: {error.strerror}: {error.filename}", title="copied",
                        severity="warning", markup=False)
            return
        where = f"in {home_relative(path)}" + ("" if sequence else "; too long for the clipboard")
        self.notify(f"{what}, {counted(text.count(chr(10)) + 1, 'lines')}: {where}", title="copied", markup=False)

    def action_start_run(self) -> None:
        """Start training, unless something is training already."""
        try:
            active = engine.active_run(self._runs)
        except SofttuneError as error:
            self._tell(error)
            return
        if active is not None and self.link is not None and active.folder.run_id == self.link.run_id:
            return  # it is being followed, and has not said yet that it works
        if active is not None:
            self.notify(f"attached to {active.folder.run_id}, which was started elsewhere", markup=False)
            self._follow(engine.RunLink(active.folder))
        else:
            self._start_engine()

    def action_resume_training(self) -> None:
        """Go on with a run that had ended before its time, from its last checkpoint."""
        if self.link is None or not self.scene.resumable:
            return
        try:
            active = engine.active_run(self._runs)
            if active is not None:
                raise SofttuneError(f"{active.folder.run_id} is being worked on", "wait for its end, or stop it first")
            link = engine.resume(self.link.folder, self._again)
        except SofttuneError as error:
            self._tell(error)
        else:
            self._follow(link)

    async def start_with(self, config: Config) -> None:
        """Start a run with these settings and show it, unless something is training already."""
        if self.scene.active:
            self.notify(f"{self.scene.run_id} is being worked on: stop it first (1, then x)", severity="warning",
                        markup=False)
            return
        self._start_engine(config)
        await self.action_show_screen("train")

    def _start_engine(self, config: Config | None = None) -> None:
        try:
            link = engine.start(config or self.plan.load(), self.plan.name, self._runs, self._command)
        except SofttuneError as error:
            self._tell(error)
        else:
            self._follow(link)

    def _tell(self, error: SofttuneError) -> None:
        self.push_screen(Message(error.what, error.remedy, "error"))

    def action_pause_run(self) -> None:
        """Pause; the header and the log say when it does."""
        self._send(Command.PAUSE)

    def action_resume_run(self) -> None:
        """Go on."""
        self._send(Command.RESUME)

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

    def action_choose_theme(self) -> None:
        """Let the user choose a theme, and remember it."""
        self.push_screen(ThemeChoice(self._theme_names), self._keep_theme)

    def _keep_theme(self, name: str | None) -> None:
        if not name:
            return
        try:
            self.preferences.remember(theme=name)
        except OSError as error:
            self.notify(f"{error.strerror}: {error.filename}", title="the choice is not remembered",
                        severity="warning", markup=False)

    def action_write_keymap(self) -> None:
        """Write a file in which every key can be changed."""
        try:
            path = write_template(self.preferences.folder, self.BINDINGS)
        except OSError as error:
            self.notify(f"{error.strerror}: {error.filename}", title="no keymap", severity="warning", markup=False)
        else:
            self.notify(f"{home_relative(path)} has every key; softtune reads it when it starts", title="keymap",
                        markup=False, timeout=8)

    def action_help(self) -> None:
        """Show the keys of the present screen."""
        name = getattr(self.screen, "TAB", "") or "this screen"
        self.push_screen(Help(f"{name}: keys", help_groups(self.screen, name, self._keymap)))

    async def action_quit(self) -> None:
        """Leave; an engine at work stays. Asks where the app itself would lose something."""
        screens = [screen for stack in self._screen_stacks.values() for screen in stack]
        losses = [loss for screen in screens if isinstance(screen, Loses) and (loss := screen.would_lose())]
        if not losses:
            self._leave()
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._leave()

        self.push_screen(Confirm("Quit all the same?", "\n".join(losses)), answered)

    def _leave(self) -> None:
        with contextlib.suppress(OSError):  # not worth a word at this point
            self.preferences.remember(screen=self.current_mode)
        self.exit(Parting(self.scene.run_id if self.scene.active else ""))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette has what the keys have, and what is done too seldom for a key."""
        yield SystemCommand("write a keymap file", "a file in the config folder in which every key can be changed",
                            self.action_write_keymap)
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.tooltip and not binding.system and binding.action != "command_palette":
                action, node = binding.action, active.node
                yield SystemCommand(
                    f"{binding.description} ({self.get_key_display(binding)})", binding.tooltip,
                    lambda action=action, node=node: self.call_later(self.run_action, action, node),
                )


def _possible(scene: Scene) -> tuple[object, ...]:
    """What decides which commands a run takes now."""
    return scene.run_id, scene.active, scene.view.paused, scene.resumable


def parting_words(parting: Parting | None) -> str:
    """The line for the terminal after the app has closed; "" where nothing goes on."""
    if parting is None or not parting.run_id:
        return ""
    return f"run {parting.run_id} goes on; `softtune` attaches to it again"
