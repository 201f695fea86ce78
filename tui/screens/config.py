"""The Config screen: the settings of the next run, in a form made from the schema, and the file that they are in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType

from core.contract.errors import SofttuneError
from core.contract.presets import Preset
from tui.config.dialogs import PresetChoice, Question
from tui.config.disk import Found, is_of_file, read_file, settings_file, write_file
from tui.config.editing import FormScreen
from tui.config.form import open_form
from tui.plan_words import Plan
from tui.screens.dialogs import Message

if TYPE_CHECKING:
    from tui.app import SofttuneApp

LOOK_SECONDS = 2.0
"""Between two looks at the file, in case another program has written it."""

_NOT_WHILE_TYPING = frozenset({
    "search", "yaml", "scroll_yaml", "next_pane", "save", "start", "presets", "reset", "undo", "redo", "reload",
})
_UNDO = Binding.Group("undo", compact=True)


class ConfigScreen(FormScreen):
    """Changes settings, writes them, and starts a run with them."""

    CSS_PATH = "config.tcss"
    AUTO_FOCUS = "#config-list"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "edit", "edit", id="config.edit", key_display="enter",
                tooltip="change the value in place; enter takes it, esc leaves it as it was"),
        Binding("space", "cycle(1)", "next value", id="config.next_value", key_display="space",
                tooltip="flip a switch, or take the next of a setting's choices"),
        Binding("right", "cycle(1)", "next value", id="config.choice_right", key_display="→", show=False,
                tooltip="take the next of a setting's choices"),
        Binding("left", "cycle(-1)", "previous value", id="config.choice_left", key_display="←", show=False,
                tooltip="take the choice before"),
        Binding("w", "save", "write", id="config.write",
                tooltip="write the changes into the file; its comments and its order stay"),
        Binding("s", "start", "start", id="config.start", tooltip="start a run with the settings as they stand here"),
        Binding("p", "presets", "presets", id="config.presets",
                tooltip="settings by the memory of the GPU, for a quick trial, of the demo"),
        Binding("u", "undo", "undo", id="config.undo", group=_UNDO, tooltip="take the last change back"),
        Binding("U", "redo", "redo", id="config.redo", key_display="U", group=_UNDO,
                tooltip="make the change again that was taken back"),
        Binding("v", "next_pane", "view", id="config.view",
                tooltip="the setting's help, what the settings imply, or the YAML"),
        Binding("d", "yaml", "diff", id="config.diff", tooltip="what changes in the YAML, or all of it"),
        Binding("r", "reset", "default", id="config.reset", tooltip="give the setting its default"),
        Binding("slash", "search", "search", id="config.search", key_display="/",
                tooltip="show settings with some words in their name or help"),
        Binding("R", "reload", "read anew", id="config.reload", key_display="R",
                tooltip="read the file again after it changed on disk; changes made here stay"),
        Binding("left_square_bracket", "scroll_yaml(-1)", "YAML up", id="config.yaml_up", key_display="[", show=False,
                tooltip="scroll the YAML up"),
        Binding("right_square_bracket", "scroll_yaml(1)", "YAML down", id="config.yaml_down", key_display="]",
                show=False, tooltip="scroll the YAML down"),
        Binding("escape", "back", "back", id="config.back", key_display="esc",
                tooltip="leave a field as it was; end the search"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._opened = False

    @property
    def softtune(self) -> SofttuneApp:
        """The app, which starts runs."""
        from tui.app import SofttuneApp

        assert isinstance(self.app, SofttuneApp)
        return self.app

    @property
    def unsaved(self) -> bool:
        """Whether there are changes that are in no file."""
        return self.form.unsaved

    def would_lose(self) -> str:
        """What quitting would lose."""
        return f"Changes to {self.path} are not saved: {', '.join(self.form.changes)}." if self.unsaved else ""

    def copy_text(self) -> tuple[str, str] | None:
        """The YAML as it would be written."""
        written = self.form.written
        text = self.form.text if isinstance(written, SofttuneError) else written
        return (f"the YAML of {self.path}", text) if text else None

    def on_mount(self) -> None:
        """Read the file, and look at it from time to time. Textual calls the form's own `on_mount` too."""
        self.path = settings_file(self.softtune.plan)
        self.show_pane("help")
        self.set_interval(LOOK_SECONDS, self.look)
        self.look()

    def on_screen_resume(self) -> None:
        """The file may have changed while another screen was up."""
        self.look()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Choices have keys of their own, and nothing is undone that was not done."""
        if not self.is_mounted or (self.editing and action in _NOT_WHILE_TYPING):
            return False
        possible = {
            "back": lambda: self.editing or self.searching,
            "cycle": lambda: bool(self.setting.choices),
            "undo": lambda: bool(self.form.past), "redo": lambda: bool(self.form.future),
            "start": lambda: not self.scene.active, "reload": lambda: self.changed_on_disk,
            "next_pane": lambda: bool(self.panes),
        }
        return possible[action]() if action in possible else True

    def look(self) -> None:
        """Read the file in a thread."""
        if self.is_current:
            self._look()

    @work(group="look", exclusive=True)
    async def _look(self) -> None:
        found = await asyncio.to_thread(read_file, self.path)
        if not self._opened:
            self._open(found)
        elif found == self._known:
            self._say_changed(False)
        elif self.unsaved or self.editing:
            self._say_changed(True)
        else:
            self._open(found)
            self.notify(f"{self.path} changed on disk and was read again", timeout=4, markup=False)

    @property
    def _known(self) -> Found:
        return Found(self.form.text, self.form.unreadable)

    def _say_changed(self, changed: bool) -> None:
        if changed != self.changed_on_disk:
            self.changed_on_disk = changed
            self.show_state()
            self.refresh_bindings()

    def _open(self, found: Found) -> None:
        plan = self.softtune.plan
        self._opened, self.changed_on_disk = True, False
        self.take_form(open_form(found.text, str(self.path), unreadable=found.fault, demo=plan.demo,
                                 of_file=is_of_file(plan)))

    def _reread(self, found: Found) -> None:
        self.changed_on_disk = False
        self.take_form(self.form.reread(found.text, found.fault))
        number = len(self.form.changes)
        self.notify(f"{self.path} was read again; {number} of your settings differ from it", timeout=4, markup=False)

    @work(group="file", exclusive=True)
    async def action_reload(self) -> None:
        """Read the file again and lay the changes over it."""
        self._reread(await asyncio.to_thread(read_file, self.path))

    @work(group="file", exclusive=True)
    async def action_save(self) -> None:
        """Write the file."""
        await self._save()

    async def _save(self) -> bool:
        """Write the file, unless there are faults or another program wrote it; whether it is written."""
        if self.tell_faults("nothing was written"):
            return False
        written = self.form.written
        if isinstance(written, SofttuneError):
            self.app.push_screen(Message(f"{self.path}: {written.what}", written.remedy, "error"))
            return False
        found = await asyncio.to_thread(read_file, self.path)
        if found != self._known and not await self._may_overwrite(found):
            return False
        if found.text == written:
            self.notify(f"nothing to write: {self.path} says all this already", timeout=3, markup=False)
        else:
            try:
                await asyncio.to_thread(write_file, self.path, written)
            except SofttuneError as error:
                self.app.push_screen(Message(error.what, error.remedy, "error"))
                return False
            self.notify(f"written: {self.path}", timeout=3, markup=False)
        self._written(written)
        return True

    def _written(self, text: str) -> None:
        if not is_of_file(self.softtune.plan):
            self.softtune.plan = Plan(self.path)  # what was the demo's is in a file now, and `s` starts from that
        self.changed_on_disk = False
        self.take_form(self.form.saved(text))

    async def _may_overwrite(self, found: Found) -> bool:
        gone = found.text is None
        answer = await self.app.push_screen_wait(Question(
            f"{self.path} {'is gone' if gone else 'was changed by another program'} since it was read here.",
            "Nothing is overwritten yet. Reading it again keeps what you changed here and takes the rest from the "
            "file; overwriting drops what the other program wrote.",
            {"r": "read it again", "o": "overwrite"},
        ))
        if answer == "r":
            self._reread(found)
        return answer == "o"

    def tell_faults(self, consequence: str) -> bool:
        """List what is wrong, if something is."""
        form = self.form
        faults = [form.unreadable] if form.unreadable else [str(fault) for fault in form.file_faults]
        faults += [str(fault) for fault in form.faults.values()]
        if faults:
            title = f"{self.path}: {'1 fault' if len(faults) == 1 else f'{len(faults)} faults'}; {consequence}"
            self.app.push_screen(Message(title, "\n".join(faults), "error"))
        return bool(faults)

    @work(group="file", exclusive=True)
    async def action_start(self) -> None:
        """Start a run with the settings as they stand."""
        if self.tell_faults("nothing was started"):
            return
        if self.unsaved:
            answer = await self.app.push_screen_wait(Question(
                f"Save the changes to {self.path} first?",
                "The run starts with the settings as they stand here, and keeps a copy of them, either way.",
                {"s": "save and start", "n": "start without saving"},
            ))
            if not answer or (answer == "s" and not await self._save()):
                return
        if self.form.config is not None:
            await self.softtune.start_with(self.form.config)

    def action_presets(self) -> None:
        """Choose a preset."""
        self.app.push_screen(PresetChoice(self.form.values, self.machine), self._take_preset)

    def _take_preset(self, preset: Preset | None) -> None:
        if preset is None:
            return
        form = self.form.changed(preset.changes)
        if form is self.form:
            self.notify(f"{preset.name}: nothing changes", timeout=3, markup=False)
        else:
            self.notify(f"{preset.name}: taken; u undoes it", timeout=3, markup=False)
        self.take_form(form)
