"""The settings under their headings, one line each; one of them can be open for typing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from tui.config.fields import SECTIONS, SETTINGS, Setting, shown
from tui.config.words import FAULTY, VALUE_AT, RowState, range_line, row_content
from tui.visible import visible_line
from tui.widgets.field import Field


class SettingRow(Widget):
    """One setting; open, it has a field over its value and a second line for what may be typed or what is wrong."""

    ALLOW_SELECT = False

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting
        self.state = RowState(setting.default)
        self.here = False
        self.typing_fault = ""

    def show(self, state: RowState, here: bool) -> None:
        """Show another state; nothing is painted where it is the same."""
        if (state, here) != (self.state, self.here):
            self.state, self.here = state, here
            self.set_class(here, "-here")
            self.refresh()

    def fault(self, words: str) -> None:
        """What is wrong with what is being typed; "" for nothing."""
        self.typing_fault = words
        self.refresh()

    def render(self) -> Content:
        """The line, and the second one below an open field."""
        width = self.content_size.width
        line = row_content(self.setting, self.state, width, self.here)
        if not self.has_class("-open"):
            return line
        if self.typing_fault:
            note = Content.styled(f"{FAULTY} {visible_line(self.typing_fault)}", "bold $text-error")
        else:
            note = Content.styled(f"  {range_line(self.setting)}", "$text-muted")
        return Content.assemble(line, "\n", "  ", note.truncate(max(1, width - 2), ellipsis=True))


class SettingList(VerticalScroll, can_focus=True):
    """Moves through the settings, and opens the field of one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "move(-1000)", "first", show=False),
        Binding("end", "move(1000)", "last", show=False),
    ]

    class Moved(Message):
        """The cursor is on another setting."""

    class Opened(Message):
        """A field is open."""

    class Typed(Message):
        """The text in the open field is another."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Entered(Message):
        """The open field is to be closed with its text; `steps` is how far the cursor then moves."""

        def __init__(self, text: str, steps: int = 0) -> None:
            super().__init__()
            self.text = text
            self.steps = steps

    class Deserted(Message):
        """The focus went elsewhere while a field was open."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Pressed(Message):
        """The setting under the cursor was clicked once more."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self.rows = {name: SettingRow(setting) for name, setting in SETTINGS.items()}
        self._heads = {section: _heading(section, words) for section, words in SECTIONS.items()}
        self._shown: list[str] = list(SETTINGS)
        self.here = self._shown[0]
        self._mark_top()

    def compose(self) -> ComposeResult:
        """Every heading, and the rows below it."""
        for section, head in self._heads.items():
            yield head
            yield from (row for row in self.rows.values() if row.setting.section == section)

    def show(self, states: Mapping[str, RowState]) -> None:
        """Bring the rows up to date; those that did not change are left alone."""
        for name, row in self.rows.items():
            row.show(states[name], name == self.here)

    def show_only(self, names: Collection[str]) -> None:
        """Hide the other rows, and headings without any. The cursor stays, or goes to the first that is left."""
        self._shown = [name for name in SETTINGS if name in names]
        for name, row in self.rows.items():
            row.display = name in names
        for section, head in self._heads.items():
            head.display = any(SETTINGS[name].section == section for name in self._shown)
        self._mark_top()
        if self._shown and self.here not in self._shown:
            self.go_to(self._shown[0])
        self.call_after_refresh(self.reveal)

    def _mark_top(self) -> None:
        """The first heading that is shown needs no line of room above it."""
        top = next((head for head in self._heads.values() if head.display), None)
        for head in self._heads.values():
            head.set_class(head is top, "-top")

    @property
    def row(self) -> SettingRow:
        """The row under the cursor."""
        return self.rows[self.here]

    @property
    def editor(self) -> Input | None:
        """The field that is open."""
        return next(iter(self.row.query(Input)), None)

    def go_to(self, name: str) -> None:
        """Move the cursor."""
        if name == self.here:
            return
        before, self.here = self.row, name
        before.show(before.state, False)
        self.row.show(self.row.state, True)
        self.reveal()
        self.post_message(self.Moved())

    def reveal(self) -> None:
        """Scroll to the cursor; with its heading where it is the first below it."""
        section = self.row.setting.section
        first = next((name for name in self._shown if SETTINGS[name].section == section), "")
        if first == self.here:
            self.scroll_to_widget(self._heads[section], animate=False)
        self.scroll_to_widget(self.row, animate=False)

    def open(self) -> None:
        """Open the field of the setting under the cursor, with its value."""
        row = self.row
        if self.editor is not None or row.setting.choices:
            return
        row.add_class("-open")
        row.fault("")
        editor = Field(shown(row.state.value), compact=True, classes="setting-editor")
        editor.styles.margin = (0, 0, 0, VALUE_AT)
        row.mount(editor)
        self.screen.set_focus(editor)  # now, not when it is mounted: keys that were typed ahead are for it
        self.call_after_refresh(self.reveal)
        self.post_message(self.Opened())

    async def close(self) -> None:
        """Close the field, whatever is in it."""
        editor, row = self.editor, self.row
        if editor is None:
            return
        self.screen.set_focus(self)
        row.remove_class("-open")
        await editor.remove()
        row.refresh()

    def action_move(self, steps: int) -> None:
        """Move by settings; out of an open field, its text is taken first."""
        if self.editor is not None:
            self.post_message(self.Entered(self.editor.value, steps))
        elif self._shown:
            at = self._shown.index(self.here) if self.here in self._shown else 0
            self.go_to(self._shown[min(len(self._shown) - 1, max(0, at + steps))])

    def action_page(self, pages: int) -> None:
        """Move by what is in view."""
        self.action_move(pages * max(1, self.size.height - 2))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Tell of every character."""
        event.stop()
        if event.input is self.editor:
            self.post_message(self.Typed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Tell of enter."""
        event.stop()
        self.post_message(self.Entered(event.value))

    def on_input_blurred(self, event: Input.Blurred) -> None:
        """The mouse went elsewhere; a terminal that is not looked at for a while is no reason to close."""
        event.stop()
        if event.input is self.editor and self.app.app_focus and self.screen.is_current:
            self.post_message(self.Deserted(event.value))

    def on_click(self, event: events.Click) -> None:
        """Go to the row that was clicked; a second click opens it."""
        row = event.widget if isinstance(event.widget, SettingRow) else None
        if row is None or self.editor is not None:
            return
        if row.setting.name == self.here:
            self.post_message(self.Pressed())
        self.go_to(row.setting.name)


def _heading(section: str, words: str) -> Static:
    line = Content.assemble((f"  {section}", "bold $text-primary"), (f"  {words}", "$text-muted"))
    return Static(line, classes="setting-head")
