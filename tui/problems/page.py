"""A long page made of blocks, laid out for a width at once and drawn row by row.

A model may write thousands of lines: only the rows in view are ever styled.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from rich.cells import get_character_cell_size
from textual.content import Content

from tui.problems.code import Code

NARROWEST = 16
"""Cells that text gets at least, however narrow the pane."""

_CHARACTERS_A_CELL = 4
"""Characters that may share a cell: marks that combine take none of their own, and a model may write any number."""

_GAP = " │ "
_ONE_CELL = re.compile("[ -~\u00a0-\u02ff\u2010-\u2027\u2030-\u205e\u2190-\u21ff\u2400-\u2426\u2500-\u25ff]*")
"""Text of which every character takes one cell, signs of `visible` included: it needs no measuring."""

_BLANKS = re.compile(r"^ +| +$| {2,}")


class Laid(Protocol):
    """A block laid out for a width."""

    @property
    def height(self) -> int:
        """Rows."""

    def row(self, y: int) -> Content:
        """One row, no wider than the width that it was laid out for."""


class Block(Protocol):
    """A part of a page."""

    def laid(self, width: int) -> Laid:
        """The block in rows of at most `width` cells."""


Blocks = tuple[Block, ...]


class Rows:
    """Rows that are made already."""

    def __init__(self, rows: Sequence[Content]) -> None:
        self._rows = rows

    @property
    def height(self) -> int:
        """Rows."""
        return len(self._rows)

    def row(self, y: int) -> Content:
        """One row."""
        return self._rows[y]


@dataclass(frozen=True)
class Prose:
    """Lines that wrap between words."""

    lines: tuple[Content, ...]
    indent: int = 0

    def laid(self, width: int) -> Rows:
        """Every line in as many rows as it takes."""
        room = max(NARROWEST, width - self.indent)
        rows = [part for line in self.lines for part in (line.wrap(room) if line.plain else [line])]
        return Rows([row.pad_left(self.indent) for row in rows] if self.indent else rows)


@dataclass(frozen=True)
class CodeLine:
    """A line of code with what stands in its margin: a sign, the number, a heavy bar for what the model wrote."""

    code: Code
    index: int
    number: str = ""
    sign: str = " "
    style: str = "$text-muted"
    """Of sign and number."""
    heavy: bool = False
    emphasis: str = ""
    """A style over the whole line."""
    blanks: bool = False
    """Whether indentation, spaces at the end and runs of spaces are shown as dots."""

    def content(self) -> Content:
        """The line in colours."""
        line = self.code.styled(self.index)
        if self.blanks:
            line = Content(_BLANKS.sub(lambda found: "·" * len(found[0]), line.plain), spans=list(line.spans))
        return line.stylize(self.emphasis) if self.emphasis else line


@dataclass(frozen=True)
class Listing:
    """Lines of code; long ones are folded, clear of the margin."""

    lines: tuple[CodeLine, ...]
    margin: bool = True

    def laid(self, width: int) -> LaidListing:
        """Folds, without styling anything."""
        return LaidListing(self, width)


class LaidListing:
    """A listing whose lines are cut into rows."""

    def __init__(self, listing: Listing, width: int) -> None:
        self._listing = listing
        self._digits = max((len(line.number) for line in listing.lines), default=0)
        room = max(NARROWEST, width - self._digits - 4) if listing.margin else max(NARROWEST, width)
        self._last: tuple[CodeLine, Content] | None = None
        self._rows = [(line, start, end) for line in listing.lines
                      for start, end in folds(line.code.lines[line.index], room)]

    @property
    def height(self) -> int:
        """Rows."""
        return len(self._rows)

    def row(self, y: int) -> Content:
        """One row: margin and a piece of a line."""
        line, start, end = self._rows[y]
        if self._last is None or self._last[0] is not line:
            self._last = line, line.content()  # a line may have thousands of rows
        piece = self._last[1][start:end]
        if not self._listing.margin:
            return piece
        label = f"{line.sign}{line.number:>{self._digits}} " if start == 0 else " " * (self._digits + 2)
        bar = ("┃ ", "bold $accent") if line.heavy else ("│ ", "$text-muted")
        return Content.assemble((label, line.style), bar, piece)


def folds(text: str, room: int) -> list[tuple[int, int]]:
    """Where to cut a line so that no piece is wider than `room` cells; one empty piece of an empty line."""
    if len(text) <= room and text.isascii():
        return [(0, len(text))]
    simple, pieces, start = _ONE_CELL.fullmatch(text) is not None, [], 0
    while len(text) - start > room or not simple:
        end = start + room if simple else _end(text, start, room)
        if end == len(text):
            break
        after_word = text.rfind(" ", start + 2 * (end - start) // 3, end) + 1  # a little short of the edge, if at all
        pieces.append((start, after_word or end))
        start = after_word or end
    return [*pieces, (start, len(text))]


def _end(text: str, start: int, room: int) -> int:
    """How far `room` cells reach."""
    cells = 0
    for at in range(start, min(len(text), start + _CHARACTERS_A_CELL * room)):
        cells += get_character_cell_size(text[at])
        if cells > room:
            return at
    return min(len(text), start + _CHARACTERS_A_CELL * room)


@dataclass(frozen=True)
class Columns:
    """Two columns of blocks, A on the left and B on the right."""

    left: Blocks
    right: Blocks

    def laid(self, width: int) -> LaidColumns:
        """Both at half the width."""
        half = max(NARROWEST, (width - len(_GAP)) // 2)
        return LaidColumns(Layout(self.left, half), Layout(self.right, half), half)


@dataclass(frozen=True)
class LaidColumns:
    """Two layouts beside each other."""

    left: Layout
    right: Layout
    half: int

    @property
    def height(self) -> int:
        """Rows of the longer one."""
        return max(self.left.height, self.right.height)

    def row(self, y: int) -> Content:
        """A row of each."""
        left = self.left.row(y) if y < self.left.height else Content("")
        right = self.right.row(y) if y < self.right.height else Content("")
        return Content.assemble(left, " " * max(0, self.half - left.cell_length), (_GAP, "$text-muted"), right)


class Layout:
    """A page laid out for a width."""

    def __init__(self, blocks: Blocks, width: int) -> None:
        self._laid = [laid for laid in (block.laid(width) for block in blocks) if laid.height]
        self._starts = [0, *accumulate(laid.height for laid in self._laid)]

    @property
    def height(self) -> int:
        """Rows."""
        return self._starts[-1]

    def row(self, y: int) -> Content:
        """One row."""
        at = bisect_right(self._starts, y) - 1
        return self._laid[at].row(y - self._starts[at])


def page_text(blocks: Blocks, width: int) -> str:
    """The whole page as plain text."""
    layout = Layout(blocks, width)
    return "\n".join(layout.row(y).plain for y in range(layout.height))


BLANK = Prose((Content(""),))


def heading(name: str) -> Prose:
    """The title of a part."""
    return Prose((Content.styled(f"── {name} ", "bold $text-accent"),))


def note(words: str, style: str = "$text-muted italic") -> Prose:
    """A sentence of ours between what models and programs wrote."""
    return Prose((Content.styled(words, style),))
