"""The editor for a scratch copy: numbers its lines as the program does, and never shows what a terminal would obey."""

from __future__ import annotations

from rich.text import Text
from textual.events import Paste
from textual.widgets import TextArea

from tui.problems.scratch import StandIns
from tui.widgets.field import KeysInOrder

LONGEST_WRAPPED = 2_000
"""Characters of the longest line beyond which lines are not wrapped: every key would wrap it anew."""


class CompletionEditor(KeysInOrder, TextArea):
    """A text area for code."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id, tab_behavior="indent", show_line_numbers=True, theme="css", soft_wrap=True)
        self.cursor_blink = False  # a cursor that blinks costs an SSH line two frames a second
        self._stand_ins = StandIns("")
        self._failing = 0

    def begin(self, text: str, stand_ins: StandIns, first: int) -> None:
        """Edit a text whose first line has number `first`."""
        self._stand_ins = stand_ins
        self.line_number_start = first
        self.soft_wrap = max(map(len, text.split("\n"))) <= LONGEST_WRAPPED
        self.load_text(stand_ins.shown(text))

    @property
    def completion(self) -> str:
        """The text as the program has it."""
        return self._stand_ins.original(self.text)

    def put(self, text: str) -> None:
        """Replace everything; undo brings it back."""
        self.replace(self._stand_ins.shown(text), (0, 0), self.document.end)
        self.move_cursor((0, 0))

    def mark(self, number: int) -> None:
        """Underline the line that failed; 0 marks none."""
        if number != self._failing:
            self._failing = number
            self._line_cache.clear()
            self.refresh()

    def get_line(self, line_index: int) -> Text:
        """A line, underlined where it failed."""
        line = super().get_line(line_index)
        if self._failing and line_index + self.line_number_start == self._failing:
            line.stylize("bold underline")
        return line

    def _on_paste(self, event: Paste) -> None:  # type: ignore[override]  # Textual calls this, then the base's
        event.text = self._stand_ins.shown(event.text.replace("\r\n", "\n").replace("\r", "\n"))
