"""The Checkpoints table as lines: which columns have room, the head, and a line for each row. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.columns import COLUMNS, Column, Order
from tui.status import status_of_state
from tui.visible import visible_line

GUTTER = 3
"""Cells for the cursor and for A and B."""
GAP = 2
SIGN = 2
"""Cells for the sign of the run's state, before its id."""
SHORTEST_RUN = 17
"""Cells of a run's id that are kept: time and name."""
LONGEST = 40
FIRST = -1
"""The rank of the column that sorts, other than the date, which is in a run's id as well."""
IMPORTANT = 3
"""Columns up to this rank are shown beside a run's id that is cut."""
WITHOUT_YEAR = 5
"""Columns up to this rank are shown beside a run's id that lacks no more than its year."""
YEAR = 4
"""Cells that an id is shorter by without its year: "…11-23-221004-demo"."""
_DATED = re.compile(r"\d{4}-\d\d-\d\d-")


@dataclass(frozen=True)
class Place:
    """A column with the cells that it has."""

    column: Column
    index: int
    """In COLUMNS, and in the cells of a row."""
    at: int
    width: int


def layout(cells: Iterable[tuple[str, ...]], width: int, sorted_by: str = "") -> tuple[Place, ...]:
    """The columns that have room in `width` cells, given what they show; a run's id is cut before the most important
    ones go, and whole before the others come. The column that the user sorts by is the most important."""
    widths = [len(column.head) + (2 if not column.right else 1) for column in COLUMNS]
    for row in cells:
        widths = [max(have, min(LONGEST, cell_len(text))) for have, text in zip(widths, row, strict=True)]
    widths[0] += SIGN
    whole, room = widths[0], width - GUTTER
    widths[0] = min(whole, SHORTEST_RUN + SIGN)
    ranks = {index: FIRST if column.rank and column.id == sorted_by != Order().column else column.rank
             for index, column in enumerate(COLUMNS)}
    shown = [index for index, rank in ranks.items() if not rank]
    for index in sorted((index for index, rank in ranks.items() if rank), key=lambda index: ranks[index]):
        if _taken(widths, [*shown, index]) + _kept(ranks[index], whole - widths[0]) <= room:
            shown.append(index)
    left = widths[0] + room - _taken(widths, shown)
    widths[0] = whole if left >= whole else max(4, min(whole - YEAR, left))  # all of about one length lack the year
    places, at = [], GUTTER
    for index in sorted(shown):
        places.append(Place(COLUMNS[index], index, at, widths[index]))
        at += widths[index] + GAP
    return tuple(places)


def _kept(rank: int, more: int) -> int:
    """How many more cells a run's id keeps before a column of this rank comes, `more` being all of them."""
    return 0 if rank <= IMPORTANT else max(0, more - YEAR) if rank <= WITHOUT_YEAR else more


def _taken(widths: list[int], shown: list[int]) -> int:
    return sum(widths[index] for index in shown) + GAP * (len(shown) - 1)


def head_lines(places: tuple[Place, ...], order: Order, width: int) -> list[Content]:
    """Groups of columns, then their names; the column that sorts carries an arrow."""
    groups = [" "] * max(width, 1)
    for name in dict.fromkeys(place.column.group for place in places if place.column.group):
        members = [place for place in places if place.column.group == name]
        start, end = members[0].at, members[-1].at + members[-1].width
        label = f" {name} ".center(end - start - 1, "─") if len(members) > 1 else name.rjust(end - start - 1)
        groups[start + 1:end] = label
    parts = [Content(" " * GUTTER)]
    for place in places:
        arrow = ("▼" if order.descending else "▲") if place.column.id == order.column else ""
        indent = " " * SIGN if place.index == 0 else ""
        text = arrow + place.column.head if place.column.right else f"{indent}{place.column.head} {arrow}"
        parts.append(Content.styled(_aligned(text, place), "bold $text-accent" if arrow else "bold"))
        parts.append(Content(" " * GAP))
    return [Content.styled("".join(groups)[:width], "$text-muted"), Content.assemble(*parts)]


def row_line(
    row: CheckpointRow, cells: tuple[str, ...], places: tuple[Place, ...], width: int, mark: str, here: bool
) -> Content:
    """One row: cursor, mark, sign of the run's state, then the cells; a damaged run gives its reason instead."""
    status = status_of_state(row.state)
    gutter = Content.assemble(("▸" if here else " ", "bold $text-accent"), (mark or " ", "bold $text-accent"), " ")
    run = places[0]
    name = Content.styled(_fitted(cells[0], run.width - SIGN), "$text-muted" if row.damage else "")
    first = Content.assemble((f"{status.glyph} ", status.style), name)
    if row.damage:
        reason = Content.styled(f"damaged: {visible_line(row.damage)}", "$text-error")
        line = Content.assemble(gutter, first, " " * GAP, reason)
        return line.truncate(width, ellipsis=True) if line.cell_length > width else line
    parts = [gutter, first]
    for place in places[1:]:
        text = cells[place.index]
        parts += [Content(" " * GAP), Content.styled(_aligned(text, place), _style(place.column, text, row))]
    return Content.assemble(*parts)


def _style(column: Column, text: str, row: CheckpointRow) -> str:
    if column.id == "name":
        return "$text-warning" if row.faults else "bold"
    if column.id == "state":
        return status_of_state(row.state).style
    return "$text-muted" if text == "–" or column.id in ("written", "size") else ""


def _aligned(text: str, place: Place) -> str:
    text = _cut(text, place.width)
    return " " * (place.width - cell_len(text)) + text if place.column.right else set_cell_size(text, place.width)


def _fitted(run_id: str, width: int) -> str:
    """A run's id in so many cells; its end, which has the name, is kept, and its year goes as a whole."""
    if cell_len(run_id) > width and _DATED.match(run_id):
        run_id = "…" + run_id[YEAR + 1:]
    while cell_len(run_id) > width:
        run_id = "…" + run_id.removeprefix("…")[1:]
    return set_cell_size(run_id, width)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"
