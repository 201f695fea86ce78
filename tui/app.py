"""The app: its screens and keys, themes, copying, help, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from core.contract.errors import UsageError
from core.contract.files import write_whole
from core.contract.run_csv import run_csv
from core.contract.runs import RUNS, RunFolder
from tui import engine
from tui.clipboard import copy, home_relative
from tui.consent import Consent
from tui.following import FollowingApp, Parting, parting_words
from tui.frugal import TerminalCells
from tui.help import help_groups
from tui.keymap import load_keymap, write_template
from tui.plan_words import Plan, welcome
from tui.preferences import Preferences
from tui.problems.files import EvaluationRef
from tui.screens.base import Copies, Loses
from tui.screens.dialogs import Confirm, Help, ThemeChoice
from tui.screens.train import TrainScreen
from tui.themes import DARK, config_folder, default_theme, load_themes, plot_colours
from tui.workbench import Workbench

__all__ = ["SCREENS", "Parting", "SofttuneApp", "parting_words"]

SCREENS = ("train", "checkpoints", "problems", "config", "playground", "sweep")
"""Modes, each with a screen of its own."""


class SofttuneApp(FollowingApp, inherit_bindings=False):
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
        Binding("6", "show_screen('sweep')", "Sweep", id="app.sweep", show=False,
                tooltip="the trials of a sweep, ranked, and what each parameter does"),
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
        if not start and self.preferences.screen in SCREENS and runs.is_dir():  # else the welcome says how to begin
            self.DEFAULT_MODE = self.preferences.screen  # type: ignore[misc]  # Textual reads it from the instance
        super().__init__(plan, runs, command, again)
        self.add_mode("train", lambda: TrainScreen(lambda: welcome(self.plan, engine.damaged_runs(self._runs))))
        for name in SCREENS[1:]:
            self.add_mode(name, partial(_made, name))
        self.workbench = workbench or Workbench()
        self.consent = Consent(self)
        self._start = start
        self._cells = TerminalCells()
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
        self.attach(self._start)

    def on_key(self, event: events.Key) -> None:
        """A key that was typed ahead of the field that it is for (over a slow line) goes into it, not to a binding."""
        focused = self.focused
        if event.is_printable and focused is not None and focused.check_consume_key(event.key, event.character):
            event.prevent_default()
            focused.post_message(events.Key(event.key, event.character))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Pausing and stopping need a run that is being worked on, starting needs none; one does not go to the screen
        that one is on."""
        scene = self.scene
        active, paused, waits = scene.active, scene.view.paused, bool(scene.view.waits_for)
        steered = active and not scene.is_member
        possible = {
            "show_screen": parameters != (self.current_mode,) or len(self.screen_stack) > 1,
            "start_run": not active, "stop_run": steered,
            "pause_run": steered and not paused, "resume_run": steered and paused and not waits,
            "tell_wait": active and waits,
            "resume_training": scene.resumable and scene.has_last,
            "begin_again": scene.resumable and not scene.has_last,
        }
        return possible.get(action, True)

    async def action_show_screen(self, name: str) -> None:
        """Switch to a screen."""
        await self.show(name)

    async def open_problems(self, a: EvaluationRef, b: EvaluationRef | None = None, task_id: str = "") -> None:
        """Show the problems of one evaluation, or of two side by side, at a problem."""
        from tui.screens.problems import ProblemsScreen

        await self.show("problems")
        await self.show("problems")  # a scratch copy may be open on top of it
        if isinstance(self.screen, ProblemsScreen):
            self.screen.open_evaluations(a, b, task_id)

    def action_copy(self) -> None:
        """Copy what the screen is about, to the clipboard of the terminal and to a file."""
        found = self.screen.copy_text() if isinstance(self.screen, Copies) else None
        if not found or not found[1]:
            self.notify("there is nothing to copy here yet", timeout=3)
            return
        told = copy(*found, self._driver.write if self._driver else None)
        self.notify(told.message, title="copied", severity="information" if told.kept else "warning", markup=False)

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

    def action_write_csv(self) -> None:
        """Write the run that is shown as a table, one row a step, into its folder."""
        if self.link is not None:
            self.run_worker(self._write_csv(self.link.folder), group="csv", exclusive=True)

    async def _write_csv(self, folder: RunFolder) -> None:
        path = folder.root / "curves.csv"
        try:
            await asyncio.to_thread(lambda: write_whole(path, run_csv(folder)))
        except UsageError as error:
            self.notify(error.what, title="no CSV", severity="warning", markup=False)
        except OSError as error:
            self.notify(f"{error.strerror}: {error.filename}", title="no CSV", severity="warning", markup=False)
        else:
            self.notify(f"{path} has the run, one row a step", title="CSV", markup=False, timeout=8)

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

    def _leave(self, return_code: int = 0) -> None:
        with contextlib.suppress(OSError):  # not worth a word at this point
            self.preferences.remember(screen=self.current_mode)
        self.exit(Parting(self.scene.run_id.partition("/")[0] if self.scene.active else ""), return_code)

    def leave_on_signal(self, number: int) -> None:
        """Leave without asking, as this signal wants it."""
        self._leave(128 + number)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette has what the keys have, and what is done too seldom for a key."""
        yield SystemCommand("write a keymap file", "a file in the config folder in which every key can be changed",
                            self.action_write_keymap)
        if self.link is not None:
            yield SystemCommand("write this run as CSV", "curves.csv in the run's folder: one row a step, with all "
                                "figures", self.action_write_csv)
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.tooltip and not binding.system and binding.action != "command_palette":
                action, node = binding.action, active.node
                yield SystemCommand(
                    f"{binding.description} ({self.get_key_display(binding)})", binding.tooltip,
                    lambda action=action, node=node: self.call_later(self.run_action, action, node),
                )


def _made(name: str) -> Screen[Any]:
    """A screen, imported when it is first shown: the first frame does not wait for the others."""
    screen: type[Screen[Any]] = getattr(import_module(f"tui.screens.{name}"), f"{name.capitalize()}Screen")
    return screen()
