"""A map of cosines: one shaded cell for each pair of virtual tokens, readable without colour, and a cursor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

Matrix = Sequence[Sequence[float]]
"""`matrix[i][j]`: row i of A against row j of B."""

SHADES = ((0.75, "█"), (0.5, "▓"), (0.25, "▒"), (0.1, "░"), (-0.1, "·"), (-1.0, "−"))
"""The least cosine of each sign; what is opposed is a minus, what is neither is a dot."""

WIDEST_CELL, HIGHEST_CELL = 6, 3
_POSITIVE, _NEGATIVE, _NEITHER = "$plot-train", "$plot-heldout", "$text-muted"
_AXIS_ROWS = 1
"""Lines above the cells: the numbers of B's tokens."""


def shade(cosine: float) -> str:
    """The sign of a cosine; "?" where it is no number."""
    if math.isnan(cosine):
        return "?"
    return next((sign for least, sign in SHADES if cosine >= least), "−")


@dataclass(frozen=True)
class Layout:
    """How a matrix lies on a pane: `down` and `across` tokens share a cell where there are more tokens than cells."""

    margin: int
    """Cells before the first column."""
    width: int = 1
    """Of a matrix cell, in columns of the terminal."""
    height: int = 1
    across: int = 1
    down: int = 1

    def cell_at(self, x: int, y: int) -> tuple[int, int] | None:
        """The (row, column) of the matrix that is drawn at a place; None beside the map."""
        if x < self.margin or y < _AXIS_ROWS:
            return None
        return (y - _AXIS_ROWS) // self.height * self.down, (x - self.margin) // self.width * self.across


def lay_out(rows: int, columns: int, width: int, height: int) -> Layout:
    """The largest cells that fit, about as wide as high; else as few tokens to a cell as possible."""
    margin = len(str(max(1, rows))) + 3
    room, lines = max(1, width - margin), max(1, height - _AXIS_ROWS)
    across, down = math.ceil(columns / room), math.ceil(rows / lines)
    cells, bands = math.ceil(columns / across), math.ceil(rows / down)
    tall = min(HIGHEST_CELL, lines // bands)
    wide = min(WIDEST_CELL, room // cells, max(2, 2 * tall))
    return Layout(margin, max(1, wide), max(1, min(tall, (wide + 1) // 2)), across, down)


def strongest(matrix: Matrix, rows: range, columns: range) -> float:
    """The cosine farthest from zero among those that share a cell; one that is no number hides no other."""
    values = [matrix[i][j] for i in rows for j in columns if not math.isnan(matrix[i][j])]
    return max(values, key=abs, default=math.nan)


def draw_map(matrix: Matrix, width: int, height: int, cursor: tuple[int, int]) -> Content:
    """The map with numbered axes, A downwards and B across; the cursor's cell is in brackets where it has room."""
    rows, columns = len(matrix), len(matrix[0]) if matrix else 0
    plan = lay_out(rows, columns, width, height)
    here = cursor[0] // plan.down, cursor[1] // plan.across
    lines = [_axis(columns, plan, here[1])]
    for band, top in enumerate(range(0, rows, plan.down)):
        taken = range(top, min(rows, top + plan.down))
        cells = [strongest(matrix, taken, range(left, min(columns, left + plan.across)))
                 for left in range(0, columns, plan.across)]
        at = here[1] if band == here[0] else None
        line = Content.assemble(*(_cell(value, plan.width, number == at) for number, value in enumerate(cells)))
        for part in range(plan.height):
            lines.append(Content.assemble(_row_label(top, plan, part, band == here[0]), line))
    return Content("\n").join(lines[:height])


def _cell(cosine: float, width: int, here: bool) -> Content:
    sign = shade(cosine)
    style = _NEITHER if sign in "·?" else _POSITIVE if cosine > 0 else _NEGATIVE
    if not here:
        return Content.styled(sign * width, style)
    inner = sign * (width - 2) if width > 2 else ""
    return Content.assemble((f"[{inner}]" if width > 1 else "◆", "bold $text-accent reverse"))


def _row_label(top: int, plan: Layout, part: int, here: bool) -> Content:
    letter = "A" if top == 0 and part == 0 else " "
    number = f"{top + 1:>{plan.margin - 3}}" if part == 0 else " " * (plan.margin - 3)
    return Content.assemble((letter, "bold"), " ", (number, "bold $text-accent" if here else "$text-muted"),
                            "▸" if here and part == 0 else " ")


def _axis(columns: int, plan: Layout, here: int) -> Content:
    """B's numbers, as many as have room; the cursor's stands instead of those that it would touch."""
    cells = math.ceil(columns / plan.across)
    room = cells * plan.width
    every = max(1, math.ceil((len(str(columns)) + 1) / plan.width))
    labels = {cell * plan.width: str(cell * plan.across + 1) for cell in range(0, cells, every)}
    own, at = str(here * plan.across + 1), here * plan.width
    at = max(0, min(at, room - len(own)))
    line = [" "] * max(room, len(own))
    for start, words in labels.items():
        if start + len(words) < at or start > at + len(own):
            for offset, char in enumerate(words):
                if start + offset < len(line):
                    line[start + offset] = char
    plain = "".join(line)
    return Content.assemble((f"{'B':>{plan.margin - 1}} ", "bold"), (plain[:at], "$text-muted"),
                            (own, "bold $text-accent"), (plain[at + len(own):], "$text-muted"))


def legend() -> Content:
    """What the signs mean, strongest first; "+" is "or more"."""
    shades = [Content.assemble((sign, _POSITIVE), f" {least:g}+") for least, sign in SHADES[:-2]]
    return Content("  ").join([*shades, Content.assemble(("·", _NEITHER), " near 0"),
                               Content.assemble(("−", _NEGATIVE), " less")])


def shared(plan: Layout) -> str:
    """What to say where tokens share cells: "a cell is 2 × 1 tokens, the strongest is drawn"; else ""."""
    if plan.down == plan.across == 1:
        return ""
    return f"a cell is {plan.down} × {plan.across} tokens: the strongest cosine is drawn"


class Heatmap(Widget):
    """Shows a matrix; `move` moves the cursor, and a click puts it there."""

    ALLOW_SELECT = False

    class Moved(Message):
        """The cursor is on another cell."""

    class LaidOut(Message):
        """The map has other cells; `words` says how many tokens share one."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self.matrix: Matrix = ()
        self.cursor = (0, 0)

    def show(self, matrix: Matrix) -> None:
        """Show a matrix; the cursor stays where the matrix has that cell."""
        self.matrix = matrix
        self.put_cursor(*self.cursor)
        self.refresh()
        self._tell_layout()

    def on_resize(self) -> None:
        """Cells grow and shrink with the pane."""
        self._tell_layout()

    def _tell_layout(self) -> None:
        if self.matrix:
            self.post_message(self.LaidOut(shared(self._plan)))

    @property
    def _plan(self) -> Layout:
        return lay_out(len(self.matrix), len(self.matrix[0]), self.content_size.width, self.content_size.height)

    def put_cursor(self, row: int, column: int) -> None:
        """Put the cursor on a cell, or on the nearest one there is."""
        rows, columns = len(self.matrix), len(self.matrix[0]) if self.matrix else 0
        cursor = max(0, min(row, rows - 1)), max(0, min(column, columns - 1))
        if cursor != self.cursor:
            self.cursor = cursor
            self.refresh()
            self.post_message(self.Moved())

    def move(self, rows: int, columns: int) -> None:
        """Move the cursor by tokens."""
        self.put_cursor(self.cursor[0] + rows, self.cursor[1] + columns)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is."""
        if self.matrix and self.matrix[0]:
            offset = event.get_content_offset(self)
            cell = self._plan.cell_at(offset.x, offset.y) if offset else None
            if cell:
                self.put_cursor(*cell)

    def render(self) -> Content:
        """The map at the widget's present size."""
        if not self.matrix or not self.matrix[0]:
            return Content.styled("there are no virtual tokens to map", "$text-muted italic")
        return draw_map(self.matrix, self.content_size.width, self.content_size.height, self.cursor)
