"""The cosine map of two checkpoints with what it says in words; asks the workbench when it is first shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from core.contract.workbench import CosinesMapped, MapCosines
from tui.checkpoints.catalogue import CheckpointRow
from tui.compare.cosines import cosine_words, cursor_words, is_map, transposed
from tui.compare.inquiry import Inquiry, inquire
from tui.widgets.heatmap import Heatmap, Matrix, legend
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.workbench import Workbench

_ROOM_FOR_MORE = 8
"""Lines from which there is more than the pair under the cursor."""


class CosinePane(Horizontal):
    """The map, and beside or below it the pair under the cursor. Before that: what is being done, or what is wrong."""

    BORDER_TITLE = "[b]cosine map[/b]"

    class Changed(Message):
        """Something came back from the workbench."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self.inquiry: Inquiry | None = None
        """None until it was asked for."""
        self.matrix: Matrix = ()
        """The cosines of A's tokens (rows) and B's (columns); () until they are there."""
        self._turned = False
        """Whether A and B have changed sides since it was asked for."""

    def compose(self) -> ComposeResult:
        """One of the two: what is being done, or the map."""
        yield Static(id="compare-asking", markup=False)
        yield Heatmap("compare-map")
        yield Panel("compare-cell")

    def on_mount(self) -> None:
        """The words follow the cursor."""
        self.query_one(Panel).show(self._words)
        self._show()

    @property
    def refused(self) -> bool:
        """Whether it may be asked for again."""
        return self.inquiry is not None and self.inquiry.refused

    def ask(self, workbench: Workbench, a: CheckpointRow, b: CheckpointRow) -> None:
        """Ask for the map."""
        self.inquiry, self._turned = Inquiry(), False
        self.run_worker(inquire(
            workbench, lambda number: MapCosines(id=number, a=str(a.path), b=str(b.path)), self._heard,
        ), group="compare-map", exclusive=True)

    def turn(self) -> None:
        """A becomes B; the cursor stays on its pair."""
        self._turned = not self._turned
        if self.matrix:
            heatmap = self.query_one(Heatmap)
            row, column = heatmap.cursor
            self.matrix = transposed(self.matrix)
            heatmap.show(self.matrix)
            heatmap.put_cursor(column, row)
            self.query_one(Panel).refresh()

    def move(self, rows: int, columns: int) -> None:
        """Move the cursor by virtual tokens."""
        self.query_one(Heatmap).move(rows, columns)

    def _heard(self, inquiry: Inquiry) -> None:
        self.inquiry = inquiry
        if isinstance(inquiry.answer, CosinesMapped) and is_map(inquiry.answer.cosines):
            cosines = inquiry.answer.cosines
            self.matrix = transposed(cosines) if self._turned else cosines
        self._show()
        self.post_message(self.Changed())

    def _show(self) -> None:
        there = bool(self.matrix)
        asking, heatmap, panel = self.query_one(Static), self.query_one(Heatmap), self.query_one(Panel)
        asking.display, heatmap.display, panel.display = not there, there, there
        asking.update((self.inquiry or Inquiry()).words())
        heatmap.show(self.matrix)
        panel.refresh()

    def _words(self, width: int, height: int) -> Content:
        if not self.matrix or not self.matrix[0]:
            return Content("")
        cursor = self.query_one(Heatmap).cursor
        if height < _ROOM_FOR_MORE:
            return Content("\n").join([cursor_words(self.matrix, cursor), legend()])
        return cosine_words(self.matrix, cursor, height)

    def on_heatmap_moved(self) -> None:
        """Say what is under the cursor now."""
        self.query_one(Panel).refresh()

    def on_heatmap_laid_out(self, event: Heatmap.LaidOut) -> None:
        """Say how many virtual tokens share a cell."""
        self.border_subtitle = event.words
