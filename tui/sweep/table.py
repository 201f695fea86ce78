"""The table of a sweep's trials."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from tui.sweep.columns import GAP, GUTTER, RANK, Column, Order, Place, layout
from tui.sweep.view import State, Trial
from tui.widgets.line_table import LineTable

STATE_STYLES: dict[State, str] = {
    "complete": "", "running": "$text-accent", "cut short": "$text-warning", "pruned": "$text-muted",
    "failed": "$text-error",
}
_SO_FAR = frozenset({"running", "cut short", "pruned"})
"""Of these the figures are not final."""


class TrialTable(LineTable[Trial]):
    """Shows trials in the order given."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id)
        self._columns: tuple[Column, ...] = ()
        self._order = Order()
        self._objective = ""
        self._trials: list[Trial] = []
        self._places: tuple[Place, ...] = ()

    def show(self, trials: list[Trial], columns: tuple[Column, ...], order: Order, objective: str) -> None:
        """Show these trials; the column of the objective stands out."""
        same = [one.id for one in columns] == [one.id for one in self._columns]
        restyled = not same or (order, objective) != (self._order, self._objective)
        if restyled:  # else they are the same, made anew
            self._columns, self._order, self._objective = columns, order, objective
        self._trials = trials
        self.show_rows(trials, restyled)

    def lay_out(self) -> bool:
        """The columns that have room."""
        before = self._places
        self._places = layout(self._columns, self._trials, self.width, self._order.column)
        return before != self._places

    def head_line(self, number: int, width: int) -> Content:
        """Names on two lines; the column that sorts carries an arrow."""
        parts = [Content(" " * GUTTER)]
        for place in self._places:
            sorts = place.column.id == self._order.column
            arrow = ("▼" if self._order.descending else "▲") if sorts and number else ""
            text = _right(f"{arrow}{place.column.head[number]}", place.width)
            parts += [Content.styled(text, "bold $text-accent" if sorts else "bold"), Content(" " * GAP)]
        return Content.assemble(*parts)

    def row_line(self, row: Trial, width: int, here: bool) -> Content:
        """Cursor, rank or state, figures, parameters."""
        parts = [Content.styled("▸ " if here else "  ", "bold $text-accent")]
        for place in self._places:
            text = place.column.text(row)
            parts += [Content.styled(_right(text, place.width), self._style(row, place.column.id, text)),
                      Content(" " * GAP)]
        return Content.assemble(*parts)

    def _style(self, row: Trial, column: str, text: str) -> str:
        if column == RANK:
            return "bold $text-success" if row.rank == 1 else STATE_STYLES[row.state]
        if text == "–":
            return "$text-muted"
        if column in (self._objective, "loss") and row.state in _SO_FAR:
            return "$text-muted italic"
        return "bold" if column == self._objective else ""

    def column_at(self, x: int) -> str:
        """The column of a cell."""
        return next((place.column.id for place in self._places if place.at <= x < place.at + place.width), "")


def _right(text: str, width: int) -> str:
    if cell_len(text) > width:
        text = set_cell_size(text, max(0, width - 1)) + "…"
    return " " * (width - cell_len(text)) + text
