"""A table of rows with a cursor. Only the lines in sight are drawn, and only those that changed again."""

from __future__ import annotations

from typing import ClassVar, Generic, Protocol, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size, Spacing
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

HEAD_LINES = 2


class Keyed(Protocol):
    """A row: two of them are the same thing, seen at two times, where their keys are the same."""

    @property
    def key(self) -> str:
        """What tells it from every other."""


Row = TypeVar("Row", bound=Keyed)


class LineTable(ScrollView, Generic[Row], can_focus=True):
    """Shows rows in the order given, under a head that stays. The cursor stays on its row, wherever that goes.

    A subclass says how many columns have room (`lay_out`), and what stands in the head and in a row's line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor(-1)", "up", show=False),
        Binding("down,j", "cursor(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home,g", "cursor(-1000000)", "first", show=False),
        Binding("end,G", "cursor(1000000)", "last", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"line-table--head", "line-table--row", "line-table--cursor"}

    class HeadClicked(Message):
        """The head of a column was clicked."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    class Moved(Message):
        """The cursor is on another row."""

    class Opened(Message):
        """A row was clicked twice."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._rows: list[Row] = []
        self._at = 0
        self._wanted = ""
        """The key of the row that the cursor was on last; it goes back there when a filter that fits nothing ends."""

    def lay_out(self) -> bool:
        """Choose the columns for the rows and the width; whether they are others than before."""
        raise NotImplementedError

    def head_line(self, number: int, width: int) -> Content:
        """One of the HEAD_LINES."""
        raise NotImplementedError

    def row_line(self, row: Row, width: int, here: bool) -> Content:
        """The line of a row; the cursor is `here` or elsewhere."""
        raise NotImplementedError

    def column_at(self, x: int) -> str:
        """The id of the column with this cell; "" between two of them."""
        raise NotImplementedError

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self._at] if self._at < len(self._rows) else None

    @property
    def row_count(self) -> int:
        """How many rows there are, in sight or not."""
        return len(self._rows)

    def show_rows(self, rows: list[Row], restyled: bool = False) -> None:
        """Show these rows; `restyled` where all of them look otherwise than before."""
        before, at = self._rows, self._at
        same = [row.key for row in rows] == [row.key for row in before]
        changed = [i for i, row in enumerate(rows) if row != before[i]] if same else []
        self._rows = rows
        if not self.lay_out() and same and not restyled:
            for index in changed:
                self.refresh_line(index + HEAD_LINES)
            return
        if not same:
            self._keep_cursor(at)
        self.refresh()

    def wish(self, key: str) -> None:
        """Put the cursor on this row, at once or as soon as it is among those shown."""
        self._wanted = key
        keys = [row.key for row in self._rows]
        if key in keys:
            self._move_to(keys.index(key))

    def _keep_cursor(self, at: int) -> None:
        """On the same row as before, and at the same height where the table is scrolled; else where that row was."""
        keys = [row.key for row in self._rows]
        self._at = keys.index(self._wanted) if self._wanted in keys else max(0, min(at, len(keys) - 1))
        self._wanted = keys[self._at] if keys else self._wanted
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows) + HEAD_LINES)
        if self.scroll_y:
            self.scroll_to(y=self.scroll_y + self._at - at, animate=False)
        self._scroll_to_cursor()
        self.post_message(self.Moved())

    @property
    def width(self) -> int:
        """Cells of a line."""
        return self.scrollable_content_region.width or 80

    def on_resize(self) -> None:
        """There is room for more columns, or for fewer."""
        self.virtual_size = Size(self.width, len(self._rows) + HEAD_LINES)
        self.lay_out()
        self._scroll_to_cursor()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """A line of the head, or of the row that is scrolled there."""
        width, index = self.width, self.scroll_offset.y + y - HEAD_LINES
        name = "line-table--row"
        if y < HEAD_LINES:
            name, content = "line-table--head", self.head_line(y, width)
        elif index < len(self._rows):
            here = index == self._at
            content = self.row_line(self._rows[index], width, here)
            name = "line-table--cursor" if here else name
        else:
            return Strip.blank(width, self.get_visual_style(name).rich_style)
        style = self.get_visual_style(name)
        (strip, *_) = Visual.to_strips(self, content, width, 1, style) or [Strip.blank(width, style.rich_style)]
        return strip.adjust_cell_length(width, style.rich_style)

    def action_cursor(self, lines: int) -> None:
        """Move the cursor; it stops at either end."""
        self._move_to(self._at + lines)

    def action_page(self, direction: int) -> None:
        """Move by what is in sight."""
        self._move_to(self._at + direction * max(1, self.scrollable_content_region.height - HEAD_LINES - 1))

    def _move_to(self, index: int) -> None:
        before, self._at = self._at, max(0, min(index, len(self._rows) - 1))
        if before != self._at:
            self._wanted = self._rows[self._at].key
            self.refresh_line(before + HEAD_LINES)
            self.refresh_line(self._at + HEAD_LINES)
            self._scroll_to_cursor()
            self.post_message(self.Moved())

    def _scroll_to_cursor(self) -> None:
        self.scroll_to_region(Region(0, self._at + HEAD_LINES, self.width, 1), spacing=Spacing(top=HEAD_LINES),
                              animate=False, force=True)

    def on_click(self, event: events.Click) -> None:
        """A row takes the cursor, a second click opens it; a head sorts by its column."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y < HEAD_LINES:
            if column := self.column_at(offset.x):
                self.post_message(self.HeadClicked(column))
        elif (index := self.scroll_offset.y + offset.y - HEAD_LINES) < len(self._rows):
            self._move_to(index)
            if event.chain == 2:
                self.post_message(self.Opened())
