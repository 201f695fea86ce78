"""The table of checkpoints."""

from __future__ import annotations

from textual.content import Content

from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.columns import Order, cells_of
from tui.checkpoints.lines import Place, head_lines, layout, row_line
from tui.widgets.line_table import LineTable


class CheckpointTable(LineTable[CheckpointRow]):
    """Shows checkpoints in the order given, with the marks A and B."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id)
        self._cells: dict[str, tuple[CheckpointRow, tuple[str, ...]]] = {}
        self._order = Order()
        self._marks: dict[str, str] = {}
        self._places: tuple[Place, ...] = ()

    def show(self, rows: list[CheckpointRow], order: Order, marks: dict[str, str]) -> None:
        """Show these rows; `marks` has the letter of a marked one by its key."""
        self._cells = {row.key: self._cells_of(row) for row in rows}
        restyled = (order, marks) != (self._order, self._marks)
        self._order, self._marks = order, dict(marks)
        self.show_rows(rows, restyled)

    def _cells_of(self, row: CheckpointRow) -> tuple[CheckpointRow, tuple[str, ...]]:
        kept = self._cells.get(row.key)
        return kept if kept is not None and kept[0] == row else (row, cells_of(row))

    def lay_out(self) -> bool:
        """The columns that have room."""
        before, self._places = self._places, layout(
            (cells for _, cells in self._cells.values()), self.width, self._order.column)
        return before != self._places

    def head_line(self, number: int, width: int) -> Content:
        """Groups of columns, then their names."""
        return head_lines(self._places, self._order, width)[number]

    def row_line(self, row: CheckpointRow, width: int, here: bool) -> Content:
        """Cursor, mark, state, cells."""
        return row_line(row, self._cells[row.key][1], self._places, width, self._marks.get(row.key, ""), here)

    def column_at(self, x: int) -> str:
        """The column of a cell."""
        return next((place.column.id for place in self._places if place.at <= x < place.at + place.width), "")
