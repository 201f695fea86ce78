"""Where a prompt is typed: tab indents, escape leaves, and what a terminal would act on is shown as signs."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from tui.visible import visible_line
from tui.widgets.field import KeysInOrder

INDENT = 4
_TAKEN = frozenset({"enter", "tab"})


class PromptArea(KeysInOrder, TextArea):
    """A plain editor for a few lines of code."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave the prompt", id="playground.leave_prompt", key_display="esc",
                tooltip="go from the prompt to the keys of the screen"),
    ]

    def __init__(self, id: str, placeholder: str = "") -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id, tab_behavior="indent", placeholder=placeholder, highlight_cursor_line=False)
        self.indent_width = INDENT
        self.cursor_blink = False  # a cursor that blinks costs an SSH line two frames a second

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Enter and tab are text here, so that no hint promises anything else of them."""
        return key in _TAKEN or super().check_consume_key(key, character)

    def action_leave(self) -> None:
        """Give the keys back to the screen."""
        self.screen.set_focus(None)

    def put(self, text: str) -> None:
        """Replace the whole prompt, in a way that the editor's undo takes back."""
        whole = text.encode("utf-8", "replace").decode()  # half of a surrogate pair cannot be sent to a terminal
        self.replace(whole, (0, 0), self.document.end, maintain_selection_offset=False)
        self.move_cursor(self.document.end)

    def get_line(self, line_index: int) -> Text:
        """The line as it can be shown: one sign for each character, so that the cursor stays where it is."""
        line = self.document.get_line(line_index)
        if not (line.isascii() and line.isprintable()):
            line = "".join(map(_sign, line))
        return Text(line, end="", no_wrap=True)


def _sign(char: str) -> str:
    if char == "\t":
        return char
    sign = visible_line(char)
    return sign if len(sign) == 1 else "�"
