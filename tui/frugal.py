"""Less to send: of what a repaint covers, only the cells that have changed go to the terminal.

Textual repaints whole widgets. A plot that has gained one point is a few thousand bytes then, four times a second,
which a slow line to a GPU box does not carry. Here the cells that the terminal has are remembered. After a start, a
resize, a suspension, on another screen, and now and then, all is sent, so that a disturbed terminal comes right again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import monotonic

from rich.cells import get_character_cell_size
from rich.console import Console
from rich.control import Control
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

WHOLE_SECONDS = 30.0
"""After this time a paint of the whole screen is sent whole."""

Cell = tuple[str, Style | None]

GAP = 6
"""Unchanged cells between two changes that cost less than another move of the cursor and another style."""


class TerminalCells:
    """What the terminal shows, as far as it is known."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Cell | None]] = {}
        self._screen: object = None
        self._whole_at = 0.0

    def forget(self) -> None:
        """Know nothing: somebody else may have written to the terminal, or its size has changed."""
        self._rows.clear()

    def trimmed(self, screen: object, update: object) -> object:
        """The update of a screen without the cells that are there already; None where nothing is left."""
        if isinstance(update, ChopsUpdate):
            painted = _painted(update)
        elif isinstance(update, LayoutUpdate):
            if screen is not self._screen or monotonic() - self._whole_at > WHOLE_SECONDS:
                self._screen, self._whole_at = screen, monotonic()
                self.forget()
            painted = ((y, update.region.x, Strip.join(strips))
                       for y, strips in enumerate(update.strips, update.region.y))
        else:
            if isinstance(update, CompositorUpdate):
                self.forget()  # of a kind that we do not know
            return update
        runs = [run for y, x, strip in painted for run in self._changed(y, x, strip)]
        return RunsUpdate(runs) if runs else None

    def _keep(self, y: int, x: int, strip: Strip) -> list[Cell | None] | None:
        """Remember a strip; gives what was there before, None where that cannot be compared cell by cell."""
        row = self._rows.setdefault(y, [])
        cells = _cells(strip)
        width = strip.cell_length
        row.extend([None] * (x + width - len(row)))
        before = row[x:x + width]
        row[x:x + width] = cells if cells is not None else [None] * width
        return before if cells is not None else None

    def _changed(self, y: int, x: int, strip: Strip) -> Iterator[Run]:
        before = self._keep(y, x, strip)
        if before is None:
            yield y, x, strip
            return
        after = self._rows[y][x:x + strip.cell_length]
        if before == after:
            return
        changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old is None or old != new]
        start = 0
        for n, at in enumerate(changed):
            if n + 1 == len(changed) or changed[n + 1] - at > GAP:
                yield y, x + changed[start], strip.crop(changed[start], at + 1)
                start = n + 1


Run = tuple[int, int, Strip]
"""Row, column, and what to write there."""


class RunsUpdate(CompositorUpdate):
    """Writes some runs of cells."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs

    def render_segments(self, console: Console) -> str:
        """The runs as terminal sequences."""
        return "".join(Control.move_to(x, y).segment.text + strip.render(console) for y, x, strip in self.runs)


def _painted(update: ChopsUpdate) -> Iterator[Run]:
    """The strips that an update would write."""
    for y, left, right in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x < right and end > left:
                yield y, x, strip if end <= right else strip.crop(0, right - x)  # what lies beyond was not rendered


def _cells(strip: Strip) -> list[Cell | None] | None:
    """The cells of a strip; None where a character is not exactly one cell wide."""
    if not all(segment.text.isascii() or all(get_character_cell_size(char) == 1 for char in segment.text)
               for segment in strip):  # the sum alone says nothing: a wide one and a combining one are two
        return None
    return [(char, segment.style) for segment in strip for char in segment.text]
