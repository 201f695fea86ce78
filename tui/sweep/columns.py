"""The columns of the Sweep screen: what each says of a trial, how trials are sorted, which columns have room. Pure
functions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

from core.contract.wording import interval_text, share_text, value_text
from tui.formatting import figure
from tui.sweep.view import SweepView, Trial, parameters, short_names
from tui.visible import visible_line

UNKNOWN = "–"
GUTTER, GAP = 2, 2
"""Cells for the cursor, and between columns."""
LONGEST = 14
"""Cells of a parameter's column."""
ONE_LINE = 9
"""A name of so many letters is not broken."""
RANK = "rank"
_BREAK = re.compile(r"[_.]")


@dataclass(frozen=True)
class Column:
    """One column. `value` is what trials are sorted by, None or not a number at the end; `text` is what is shown."""

    id: str
    words: str
    head: tuple[str, str]
    value: Callable[[Trial], Any]
    text: Callable[[Trial], str]
    order: int = 0
    """Where there is no room the highest goes first; 0 always stays."""
    descending: bool = False
    """The direction that one wants first."""


@dataclass(frozen=True)
class Place:
    """A column with the cells that it has."""

    column: Column
    at: int
    width: int


@dataclass(frozen=True)
class Order:
    """The column that trials are sorted by."""

    column: str = RANK
    descending: bool = False


def columns_of(view: SweepView) -> tuple[Column, ...]:
    """The columns of a sweep: rank, trial, what was measured, what was varied, and how long it took."""
    names = parameters(view)
    scored = view.maximize or any(trial.score for trial in view.trials.values())
    scores = (
        Column("pass", "held-out pass@1", ("", "pass@1"), _share, lambda trial: share_text(_share(trial)),
               0 if view.maximize else 1, descending=True),
        Column("interval", "95 % interval", ("", "95 % interval"), _low, _interval, 4, descending=True),
    )
    return (
        Column(RANK, "rank", ("", "rank"), lambda trial: trial.rank, lambda trial: str(trial.rank or trial.state)),
        Column("trial", "trial", ("", "trial"), lambda trial: trial.number, lambda trial: str(trial.number)),
        Column("loss", "held-out loss", ("held-out", "loss"), lambda trial: trial.heldout_loss,
               lambda trial: figure(trial.heldout_loss, 4), 2 if view.maximize else 0),
        *(scores if scored else ()),
        Column("epoch", "epoch", ("", "epoch"), lambda trial: trial.epoch,
               lambda trial: UNKNOWN if trial.epoch is None else str(trial.epoch), 5),
        *(_parameter(name, short) for name, short in short_names(names).items()),
        Column("seconds", "seconds", ("", "seconds"), lambda trial: trial.seconds, _seconds, 6, descending=True),
    )


def _parameter(name: str, short: str) -> Column:
    return Column(name, name, two_lines(visible_line(short)), lambda trial: trial.parameters.get(name),
                  lambda trial: visible_line(value_text(trial.parameters[name])) if name in trial.parameters
                  else UNKNOWN, 3)


def _share(trial: Trial) -> float | None:
    return trial.score.pass_at_1 if trial.score else None


def _low(trial: Trial) -> float | None:
    interval = trial.score.interval() if trial.score else None
    return interval[0] if interval else None


def _interval(trial: Trial) -> str:
    return interval_text(trial.score.interval() if trial.score else None) or UNKNOWN


def _seconds(trial: Trial) -> str:
    if trial.seconds is None:
        return UNKNOWN
    return f"{trial.seconds:,.0f}" if trial.seconds >= 100 else f"{trial.seconds:.1f}"


def two_lines(name: str) -> tuple[str, str]:
    """A name on two lines, broken where it makes the shortest lines; a short one on the second alone."""
    breaks = [found.start() for found in _BREAK.finditer(name) if found.start()]
    if len(name) <= ONE_LINE or not breaks:
        return "", name
    at = min(breaks, key=lambda at: max(at, len(name) - at))
    return name[:at], name[at:]


def ordered(trials: Sequence[Trial], columns: Iterable[Column], order: Order) -> list[Trial]:
    """Sorted trials, which come by rank; those without a value are at the end in either direction."""
    column = next((one for one in columns if one.id == order.column), None)
    if column is None or column.id == RANK:
        return list(reversed(trials)) if order.descending else list(trials)
    found = [(column.value(trial), trial) for trial in trials]
    known = [pair for pair in found if _sortable(pair[0])]
    known.sort(key=lambda pair: (isinstance(pair[0], str), pair[0]), reverse=order.descending)
    return [trial for _, trial in known] + [trial for value, trial in found if not _sortable(value)]


def _sortable(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def layout(columns: Sequence[Column], trials: Iterable[Trial], width: int, sorted_by: str = "") -> tuple[Place, ...]:
    """The columns that have room in `width` cells, given what they show; the one that sorts is the most important."""
    rows = list(trials)
    widths = [max([*(min(LONGEST, cell_len(line)) for line in column.head), cell_len(column.head[1]) + 1 if not
                   column.head[0] else 0, *(min(LONGEST, cell_len(column.text(row))) for row in rows)])
              for column in columns]
    left = width - GUTTER + GAP
    shown: list[int] = []
    importance = sorted(range(len(columns)), key=lambda i: 0 if columns[i].id == sorted_by else columns[i].order)
    for index in importance:
        if widths[index] + GAP <= left:
            shown.append(index)
            left -= widths[index] + GAP
    places, at = [], GUTTER
    for index in sorted(shown):
        places.append(Place(columns[index], at, widths[index]))
        at += widths[index] + GAP
    return tuple(places)


def as_text(trials: Sequence[Trial], columns: Sequence[Column]) -> str:
    """Trials as tab-separated text with a header, and why those ended early that did."""
    lines = ["\t".join([*(column.words for column in columns), "reason"])]
    lines += ["\t".join([*(column.text(trial) for column in columns), visible_line(trial.reason)]) for trial in trials]
    return "\n".join(lines) + "\n"
