"""The lines above the list: which evaluations are shown, the filters with their numbers, the words looked for."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from tui.problems.listing import (
    CHEATED_GLYPH,
    FLIP_SIGNS,
    GLYPHS,
    SAMPLES_LISTED,
    STATUS_STYLES,
    Attempt,
    Row,
    Show,
    Status,
    chosen,
    counts,
    offered,
)
from tui.visible import visible_line

_SIGNS = {Show.FAILED: "✗ ", Show.PASSED: "✓ ", Show.CHEATED: f"{CHEATED_GLYPH} ", Show.FLIPPED: "± "}
_STYLES = {Show.FAILED: "$text-error", Show.PASSED: "$text-success", Show.TIMED_OUT: "$text-warning",
           Show.CHEATED: "$text-error", Show.HELDOUT: "$text-accent"}


def heading_content(labels: Sequence[str], rows: tuple[Row, ...], show: Show, words: str, width: int) -> Content:
    """One line an opened evaluation, then the filters."""
    lines = [source_line(label, [row.attempts[at] for row in rows if at < len(row.attempts)], width)
             for at, label in enumerate(labels)]
    return Content("\n").join([*lines, filter_line(rows, show, words, len(labels) == 2, width)])


def source_line(label: str, attempts: Sequence[Attempt], width: int) -> Content:
    """Letter, run, checkpoint, and how it did."""
    passed, failed = (sum(attempt.status is status for attempt in attempts)
                      for status in (Status.PASSED, Status.FAILED))
    score = Content.assemble(("  ✓ " + str(passed), STATUS_STYLES[Status.PASSED]), "  ",
                             (f"✗ {failed}", STATUS_STYLES[Status.FAILED])) if attempts else Content("")
    letter, name = label[:1], label[1:]
    room = max(8, width - 2 - score.cell_length)
    return Content.assemble(" ", (letter, "bold $text-accent"), Content(name).truncate(room, ellipsis=True), score)


def filter_line(rows: tuple[Row, ...], show: Show, words: str, two: bool, width: int) -> Content:
    """Every filter with its number, the one in use marked; less where there is less room."""
    found = f"“{visible_line(words)}”: {len(chosen(rows, show, words))} shown" if words else ""
    tail = [Content.styled(found, "bold $text-accent")] if found else []
    waiting = _waiting(rows)
    there = {*offered(rows, two), show}
    shows = [one for one in Show if one in there]
    for tabs, gap in (
        ([_tab(rows, one, one is show, True) for one in shows] + waiting, "  "),
        ([_tab(rows, one, one is show, True) for one in shows], "  "),
        ([_tab(rows, one, one is show, False) for one in shows], " "),
        ([_tab(rows, one, one is show, True) for one in shows if one in (Show.ALL, show)], "  "),
    ):
        line = Content(gap).join([*tail, *tabs])
        if line.cell_length <= width:
            break
    return line.truncate(width, ellipsis=True)


def _tab(rows: tuple[Row, ...], show: Show, here: bool, signs: bool) -> Content:
    number = len(chosen(rows, show, ""))
    unit = "sample" if any(row.key[1] for row in rows) else "problem"
    first = f", the first {SAMPLES_LISTED} of each problem" if any(row.unlisted for row in rows) else ""
    name = unit + ("" if number == 1 else "s") + first if show is Show.ALL else show.value
    words = f"{_SIGNS.get(show, '')}{number} {name}" if signs else f"{number} {name}"
    if signs and show is Show.FLIPPED:
        words += _flips(rows)
    style = _STYLES.get(show, "") if number else "$text-muted"
    return Content.assemble(("▸" if here else " ", "bold $text-accent"), (words, f"bold underline {style}".rstrip()
                                                                         if here else style))


def _flips(rows: tuple[Row, ...]) -> str:
    """How many of the flipped were gained and how many lost."""
    gained, lost = (sum(row.flip == flip for row in rows) for flip in ("gained", "lost"))
    return f": {FLIP_SIGNS['gained']}{gained} gained, {FLIP_SIGNS['lost']}{lost} lost" if gained + lost else ""


def _waiting(rows: tuple[Row, ...]) -> list[Content]:
    number = counts(rows)
    return [Content.styled(f" {GLYPHS[status]} {number[status]} {word}", STATUS_STYLES[status])
            for status, word in ((Status.RUNNING, "to run"), (Status.PENDING, "pending")) if number[status]]
