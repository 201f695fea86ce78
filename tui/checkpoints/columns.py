"""The columns of the Checkpoints screen: what each says of a row, how rows are sorted and filtered. Pure functions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core.contract.events import Score
from core.contract.wording import share_text
from tui.checkpoints.catalogue import CheckpointRow
from tui.formatting import data_size, figure, rate
from tui.status import status_of_state
from tui.visible import visible_line

UNKNOWN = "–"


@dataclass(frozen=True)
class Column:
    """One column. `value` is what rows are sorted by, None or not a number at the end; `text` is what is shown."""

    id: str
    key: str
    """Chooses it in the sort choice."""
    words: str
    head: str
    value: Callable[[CheckpointRow], Any]
    text: Callable[[CheckpointRow], str]
    rank: int = 0
    """Where there is no room the highest goes first; 0 always stays."""
    group: str = ""
    right: bool = True
    descending: bool = False
    """The direction that one wants first: the best or the newest on top."""


def share(score: Score | None) -> float | None:
    """pass@1; None where nothing was run."""
    return score.pass_at_1 if score is not None and score.total > 0 else None


def short_figure(value: float | None, digits: int = 3) -> str:
    """A number of the table; what is no number in few letters."""
    if value is not None and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return figure(value, digits)


def when(seconds: float) -> str:
    """"2026-11-23 22:10", local time; "–" where it is unknown."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds > 0 else UNKNOWN
    except (OverflowError, ValueError, OSError):
        return UNKNOWN


def _pass_text(score: Score | None) -> str:
    return share_text(share(score))


def _rate_text(value: float | None) -> str:
    return UNKNOWN if value is None else rate(value)


def _name(row: CheckpointRow) -> str:
    return visible_line(row.name) + (" !" if row.faults else "")


COLUMNS: tuple[Column, ...] = (
    Column("run", "r", "run", "run", lambda row: row.run.run_id, lambda row: visible_line(row.run.run_id),
           right=False, descending=True),
    Column("state", "a", "state of the run", "state", lambda row: row.state,
           lambda row: status_of_state(row.state).word, rank=8, right=False),
    Column("name", "c", "checkpoint", "checkpoint", lambda row: row.name or None, _name, right=False),
    Column("epoch", "e", "epoch", "epoch", lambda row: row.epoch,
           lambda row: UNKNOWN if row.epoch is None else f"{row.epoch:,}", rank=1, descending=True),
    Column("train_loss", "t", "training loss", "train", lambda row: row.train_loss,
           lambda row: short_figure(row.train_loss), rank=3, group="loss"),
    Column("heldout_loss", "h", "held-out loss", "held-out", lambda row: row.heldout_loss,
           lambda row: short_figure(row.heldout_loss), group="loss"),
    Column("perplexity", "p", "perplexity, held-out", "perplexity", lambda row: row.perplexity,
           lambda row: short_figure(row.perplexity), rank=4),
    Column("pass_train", "T", "pass@1, training problems", "train", lambda row: share(row.train),
           lambda row: _pass_text(row.train), rank=2, group="pass@1", descending=True),
    Column("pass_heldout", "H", "pass@1, held-out problems", "held-out", lambda row: share(row.heldout),
           lambda row: _pass_text(row.heldout), group="pass@1", descending=True),
    Column("virtual_tokens", "v", "V, virtual tokens", "V", lambda row: row.virtual_tokens,
           lambda row: UNKNOWN if row.virtual_tokens is None else f"{row.virtual_tokens:,}", rank=6, descending=True),
    Column("learning_rate", "l", "learning rate, peak", "lr", lambda row: row.learning_rate,
           lambda row: _rate_text(row.learning_rate), rank=7, descending=True),
    Column("size", "s", "size of the file", "size", lambda row: row.size or None,
           lambda row: data_size(row.size), rank=9, descending=True),
    Column("written", "d", "date", "written", lambda row: row.written or None, lambda row: when(row.written), rank=5,
           descending=True),
)
BY_ID = {column.id: column for column in COLUMNS}


@dataclass(frozen=True)
class Order:
    """The column that rows are sorted by."""

    column: str = "written"
    descending: bool = True

    def chosen(self, column: str) -> Order:
        """After a column was chosen: in its own direction, and the other way round when it was chosen already."""
        return self.reversed() if column == self.column else Order(column, BY_ID[column].descending)

    def reversed(self) -> Order:
        """The other way round."""
        return Order(self.column, not self.descending)


def ordered(rows: Iterable[CheckpointRow], order: Order) -> list[CheckpointRow]:
    """Sorted rows; those without a value are at the end in either direction, and equal ones stay as they were."""
    value = BY_ID[order.column].value
    known: list[tuple[Any, CheckpointRow]] = []
    unknown: list[CheckpointRow] = []
    for row in rows:
        found = None if row.damage and order.column not in ("run", "state") else value(row)
        missing = found is None or (isinstance(found, float) and math.isnan(found))
        if missing:
            unknown.append(row)
        else:
            known.append((found, row))
    known.sort(key=lambda pair: pair[0], reverse=order.descending)
    return [*(row for _, row in known), *unknown]


def fits(row: CheckpointRow, words: str) -> bool:
    """Whether all the words occur in what is known of a row."""
    wanted = words.casefold().split()
    if not wanted:
        return True
    parts = [row.run.run_id, row.name, row.model, status_of_state(row.state).word, *row.faults]
    parts += ["damaged", row.damage] if row.damage else []
    parts += ["scored"] if row.scored else []
    haystack = " ".join(parts).casefold()
    return all(word in haystack for word in wanted)


def cells_of(row: CheckpointRow) -> tuple[str, ...]:
    """What each of COLUMNS shows of a row."""
    return tuple(column.text(row) for column in COLUMNS)


def as_text(rows: Sequence[CheckpointRow]) -> str:
    """Rows as tab-separated text with a header."""
    lines = ["\t".join([*(column.words for column in COLUMNS), "model", "file", "damage"])]
    for row in rows:
        lines.append("\t".join([*cells_of(row), *map(visible_line, (row.model, str(row.path), row.damage))]))
    return "\n".join(lines) + "\n"
