"""What opens over the Checkpoints screen: the choice of a sort column, and one checkpoint in full."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from core.contract.record import ACTIVE
from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.columns import BY_ID, COLUMNS, Order
from tui.checkpoints.detail import Detail, detail_content, detail_title


def key_line(*keys: tuple[str, str]) -> Content:
    """Keys with what they do, for the foot of a dialog."""
    return Content("   ").join([Content.assemble((key, "bold $accent"), f" {words}") for key, words in keys])


class SortChoice(ModalScreen[str]):
    """Lists the columns, each with a letter that chooses it at once; gives the column's id, "" for none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,o", "dismiss('')", "back", key_display="esc"),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
        *(Binding(column.key, f"dismiss('{column.id}')", column.words, show=False) for column in COLUMNS),
    ]

    def __init__(self, order: Order) -> None:
        super().__init__()
        self._order = order

    def compose(self) -> ComposeResult:
        """The columns, the present one with its direction."""
        with Vertical(classes="dialog checkpoints-sort"):
            yield Static(Content.styled("Sort by", "bold"))
            yield OptionList(*(Option(self._line(column.id), id=column.id) for column in COLUMNS))
            yield Static(key_line(("letter", "sorts"), ("again", "turns round"), ("esc", "back")), classes="keys")

    def _line(self, name: str) -> Content:
        column, arrow = BY_ID[name], "▼" if self._order.descending else "▲"
        return Content.assemble((f" {column.key} ", "bold $accent"), f" {column.words}",
                                (f"  {arrow}", "bold") if name == self._order.column else "")

    def on_mount(self) -> None:
        """Begin at the column in use."""
        columns = self.query_one(OptionList)
        columns.highlighted = columns.get_option_index(self._order.column)
        columns.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Sort by it."""
        self.dismiss(event.option_id or "")

    def action_move(self, lines: int) -> None:
        """Move as j and k do."""
        columns = self.query_one(OptionList)
        if lines > 0:
            columns.action_cursor_down()
        else:
            columns.action_cursor_up()


class CheckpointDetail(ModalScreen[str]):
    """One checkpoint in full. Gives the name of the screen's action that its key asks for, "" for none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss('')", "close", key_display="esc"),
        Binding("space", "dismiss('mark')", "mark"),
        Binding("t", "dismiss('tokens')", "tokens"),
        Binding("p", "dismiss('problems')", "problems"),
        Binding("i", "dismiss('run')", "run"),
        Binding("E", "dismiss('score')", "score", key_display="E"),
        Binding("P", "dismiss('publish')", "publish", key_display="P"),
        Binding("e", "dismiss('export')", "export"),
        Binding("d", "dismiss('deploy')", "deploy"),
        Binding("D", "dismiss('delete')", "delete", key_display="D"),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("pagedown", "scroll(10)", "page down", show=False),
        Binding("pageup", "scroll(-10)", "page up", show=False),
    ]

    def __init__(self, row: CheckpointRow, detail: Detail) -> None:
        super().__init__()
        self._row = row
        self._detail = detail

    def compose(self) -> ComposeResult:
        """Title, everything, keys."""
        with Vertical(classes="dialog checkpoints-detail"):
            yield Static(detail_title(self._row))
            with VerticalScroll(can_focus=False):
                yield Static(detail_content(self._row, self._detail))
            yield Static(self._keys(), classes="keys")

    def _keys(self) -> Content:
        """On two lines, so that none is broken between a key and its word."""
        shown = [(binding.key_display or binding.key, binding.description)
                 for binding in Binding.make_bindings(self.BINDINGS)
                 if binding.show and binding.key not in ("q", "enter") and self._works(binding.action)]
        close, *others = shown
        return Content("\n").join([key_line(*part) for part in (others[:4], [*others[4:], close]) if part])

    def _works(self, action: str) -> bool:
        if self._row.damage:
            return action == "dismiss('')"
        if action == "dismiss('problems')":
            return self._row.scored
        return action != "dismiss('delete')" or self._row.state not in ACTIVE

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would be refused do nothing here."""
        return action != "dismiss" or self._works(f"dismiss({', '.join(repr(part) for part in parameters)})")

    def action_scroll(self, lines: int) -> None:
        """Scroll what has no room."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)
