"""The Config screen: rows, help, figures and YAML; moving, typing, searching, undoing. No file is written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static

from core.contract.config import DEFAULT_CONFIG_FILE, Config
from core.contract.errors import Fault
from tui.config.facts import Facts, Machine, gather, probe_machine
from tui.config.fields import SETTINGS, Setting, checked, same, shown, typed
from tui.config.form import Form, open_form
from tui.config.words import fault_words, faults_content, row_state, state_content
from tui.screens.base import RunScreen
from tui.visible import visible_line
from tui.widgets.field import Field
from tui.widgets.panel import Panel
from tui.widgets.setting_aside import PANES, SettingAside
from tui.widgets.setting_list import SettingList

FAULTS_SHOWN = 5
"""Faults of the file that are listed above the form."""


class FormScreen(RunScreen):
    """Shows a form and changes it."""

    TAB = "Config"

    def __init__(self) -> None:
        super().__init__()
        self.form: Form = open_form(None, DEFAULT_CONFIG_FILE)
        self.path = Path(DEFAULT_CONFIG_FILE)
        self.changed_on_disk = False
        self.machine = Machine()
        self.facts = Facts()
        self.words = ""
        """What is searched for."""
        self.whole = False
        """The whole YAML, not what changes of it."""
        self.pane = "help"
        """What is shown beside or below the rows where there is no room for everything."""
        self._typing: tuple[Any, Fault | None] | None = None
        """The value that is being typed, and what is wrong with it."""
        self._gathered: tuple[str, str | None] | None = None

    def compose_body(self) -> ComposeResult:
        """State, faults, rows beside what they mean."""
        yield Panel("config-state")
        yield Static(id="config-faults", markup=False)
        with Horizontal(id="config-body"):
            with Vertical(id="config-form"):
                yield Field(placeholder="words in a name or its help", id="config-search", compact=True)
                yield SettingList("config-list")
            yield SettingAside("config-side")

    def on_mount(self) -> None:
        """Begin on the rows."""
        self.query_one("#config-state", Panel).show(lambda width, height: state_content(
            self.form, str(self.path), self.changed_on_disk, self.words, len(self._fitting())))
        self.settings.focus()
        self._probe()
        self.show_form()

    @property
    def settings(self) -> SettingList:
        """The rows."""
        return self.query_one(SettingList)

    @property
    def aside(self) -> SettingAside:
        """What stands beside them."""
        return self.query_one(SettingAside)

    @property
    def setting(self) -> Setting:
        """The setting under the cursor."""
        return SETTINGS[self.settings.here]

    @property
    def editing(self) -> bool:
        """Whether a field is open."""
        return self.is_mounted and self.settings.editor is not None

    @property
    def searching(self) -> bool:
        """Whether the search field is open, or hides rows."""
        return self.has_class("-config-searching")

    def take_form(self, form: Form) -> None:
        """Show another form."""
        self.form = form
        self.show_form()

    def show_form(self) -> None:
        """Bring everything up to date."""
        with self.app.batch_update():
            self.settings.show({name: row_state(self.form, name) for name in SETTINGS})
            broken = bool(self.form.unreadable or self.form.file_faults)
            self.query_one("#config-faults").display = broken
            if broken:
                self.query_one("#config-faults", Static).update(faults_content(self.form, FAULTS_SHOWN))
            self.show_state()
            self.show_setting()
            self.aside.show_yaml(self.form, self.whole)
        self.refresh_bindings()
        self._gather_facts()

    def show_state(self) -> None:
        """The line above the form."""
        self.query_one("#config-state", Panel).refresh()

    def show_setting(self) -> None:
        """Help of the setting under the cursor, and what the form implies, with what is being typed."""
        setting, form, fault = self.setting, self.form, self.form.faults.get(self.settings.here)
        if self._typing is not None:
            value, fault = self._typing
            form = form if fault else form.changed({setting.name: value})
        self.aside.show_setting(setting, form, fault)
        self.aside.show_figures(form, self.facts, self.machine, close=self.has_class("-narrow"))

    def _gather_facts(self) -> None:
        config = self.form.config
        if config is not None and (config.model.name, config.dataset.path) != self._gathered:
            self._gathered = (config.model.name, config.dataset.path)
            self._gather(config)

    @work(group="facts", exclusive=True)
    async def _gather(self, config: Config) -> None:
        self.facts = await asyncio.to_thread(gather, config)
        self.show_setting()

    @work(group="probe", exclusive=True)
    async def _probe(self) -> None:
        self.machine = await asyncio.to_thread(probe_machine)
        self.show_setting()

    def on_setting_list_moved(self) -> None:
        """Help of another setting."""
        self.show_setting()
        self.refresh_bindings()

    def on_setting_list_typed(self, event: SettingList.Typed) -> None:
        """Say at once what is wrong with it, and what it implies."""
        value, fault = checked(self.setting, typed(self.setting, event.text))
        self._typing = (value, fault)
        self.settings.row.fault(fault.allowed if fault else "")
        self.show_setting()

    async def on_setting_list_entered(self, event: SettingList.Entered) -> None:
        """Take a value, unless something is wrong with it: then the field stays open."""
        value, fault = checked(self.setting, typed(self.setting, event.text))
        untouched = event.text == shown(self.form.values[self.setting.name])
        if fault is not None and not untouched:
            self.notify(f"{self.setting.name}: {fault_words(fault)}. esc gives the old value back.", markup=False,
                        title="not taken", severity="error", timeout=4)
            return
        await self._close()
        if not untouched:
            self.take_form(self.form.changed({self.setting.name: value}))
        if event.steps:
            self.settings.action_move(event.steps)

    async def on_setting_list_deserted(self, event: SettingList.Deserted) -> None:
        """Take a good value, and drop a bad one."""
        event.stop()
        value, fault = checked(self.setting, typed(self.setting, event.text))
        await self._close()
        if fault is None and event.text != shown(self.form.values[self.setting.name]):
            self.take_form(self.form.changed({self.setting.name: value}))

    def on_setting_list_pressed(self) -> None:
        """As enter does."""
        self.action_edit()

    def on_setting_list_opened(self) -> None:
        """Say how to leave the field."""
        self.query_one("#config-form").border_subtitle = "enter takes it, esc leaves it as it was"
        self.refresh_bindings()

    async def _close(self) -> None:
        self._typing = None
        self.query_one("#config-form").border_subtitle = ""
        await self.settings.close()
        self.show_setting()
        self.refresh_bindings()

    def action_edit(self) -> None:
        """Open the field of a setting; a switch is flipped, and a choice goes to its next value."""
        if self.setting.choices:
            self.action_cycle(1)
        else:
            self.settings.open()

    def action_cycle(self, steps: int) -> None:
        """Another of a setting's choices."""
        name = self.setting.name
        self.take_form(self.form.changed({name: self.setting.following(self.form.values[name], steps)}))

    def action_reset(self) -> None:
        """The default of the setting under the cursor."""
        setting = self.setting
        form = self.form.changed({setting.name: setting.default})
        words = f"{setting.name}: {visible_line(shown(setting.default))}, the default"
        self.notify(words if form is not self.form else f"{words}, already", timeout=3, markup=False)
        self.take_form(form)

    def action_undo(self) -> None:
        """Take the last change back, and go to where it was."""
        self._step_back(self.form.undone(), "undone")

    def action_redo(self) -> None:
        """Make it again."""
        self._step_back(self.form.redone(), "made again")

    def _step_back(self, form: Form, word: str) -> None:
        changed = [name for name in SETTINGS if not same(form.values[name], self.form.values[name])]
        self.take_form(form)
        if changed:
            self._reveal(changed[0])
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            value = visible_line(shown(form.values[changed[0]]))
            self.notify(f"{word}: {changed[0]} is {value}{more}", timeout=3, markup=False)

    def _reveal(self, name: str) -> None:
        if name not in self._fitting():
            self.query_one("#config-search", Input).value = ""
            self._search("")
        self.settings.go_to(name)

    def _fitting(self) -> list[str]:
        return [name for name, setting in SETTINGS.items() if setting.fits(self.words)]

    def _search(self, words: str) -> None:
        self.words = words
        self.settings.show_only(self._fitting())
        self.show_state()

    def action_search(self) -> None:
        """Open the search field."""
        self.add_class("-config-searching")
        self.set_focus(self.query_one("#config-search", Input))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search while typing."""
        self._search(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the search and go on in the rows."""
        self.set_focus(self.settings)

    async def action_back(self) -> None:
        """Leave the open field as it was before; else end the search."""
        if self.editing:
            await self._close()
            return
        self.remove_class("-config-searching")
        self.query_one("#config-search", Input).value = ""
        self.set_focus(self.settings)
        self.refresh_bindings()  # the focus may have been there already

    @property
    def panes(self) -> tuple[str, ...]:
        """What `v` goes through; nothing where there is room for everything."""
        if self.has_class("-narrow"):
            return PANES
        return PANES[1:] if self.has_class("-short") else ()

    def show_pane(self, name: str) -> None:
        """Show one of the panes, where there is no room for all."""
        self.pane = name
        for pane in PANES:
            self.set_class(pane == name, f"-config-{pane}")
        self.call_after_refresh(self.settings.reveal)

    def on_resize(self) -> None:
        """The cursor stays in view, and the figures fit."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        self.show_setting()
        self.settings.reveal()
        self.refresh_bindings()

    def action_next_pane(self) -> None:
        """Go to the next pane."""
        panes = self.panes
        if panes:
            self.show_pane(panes[(panes.index(self.pane) + 1) % len(panes)] if self.pane in panes else panes[-1])

    def action_yaml(self) -> None:
        """What changes in the YAML, or all of it."""
        if "yaml" in self.panes and self.pane != "yaml":
            self.show_pane("yaml")
        else:
            self.whole = not self.whole
            self.aside.show_yaml(self.form, self.whole)

    def action_scroll_yaml(self, pages: int) -> None:
        """Scroll the YAML."""
        self.aside.scroll_yaml(pages)
