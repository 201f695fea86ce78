"""The table of a bench: one row a figure, with its target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table; `met` is None where there is no target."""

    what: str
    figure: str
    target: str
    met: bool | None
    against: str = ""


def print_table(rows: Sequence[Row]) -> bool:
    """Print the rows in columns; whether no target was missed."""
    widths = [max(len(cells) for cells in column)
              for column in zip(*((row.what, row.figure, row.target) for row in rows), strict=True)]
    for row in rows:
        sign = "·" if row.met is None else "✓" if row.met else "✗"
        cells = (row.what.ljust(widths[0]), row.figure.rjust(widths[1]), row.target.ljust(widths[2]))
        print(f"{sign} {'  '.join(cells)}  {row.against}".rstrip())
    return all(row.met is not False for row in rows)
