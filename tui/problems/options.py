"""The list of problems as a widget: lines change by key, and the cursor stays with its problem."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.problems.listing import FLIP_SIGNS, STATUS_STYLES, Row
from tui.visible import visible_line

_FLIP_STYLES = {"gained": "$text-success", "lost": "$text-error"}


def option_id(row: Row) -> str:
    """What tells a row from every other."""
    return f"{row.key[0]}#{row.key[1]}"


def row_content(row: Row, wide: bool, here: bool) -> Content:
    """A line of the list: cursor, signs, word, task, side of the split. The cursor is a sign, not a colour alone."""
    task = visible_line(row.key[0] if wide else row.problem.number)
    if row.key[1]:
        task += f" #{row.key[1]}"
    return Content.assemble(
        ("▸" if here else " ", "bold $text-accent"), *_verdicts(row), " ",
        f"{task:<13}" if wide else f"{task:<5}", " ",
        (row.side, "bold $text-accent" if row.split == "heldout" else "$text-muted"),
    )


def _verdicts(row: Row) -> list[tuple[str, str]]:
    """Sign and word of A; or the signs of A and B and what came of it."""
    if row.b is None:
        return [(f"{row.a.glyph} {row.a.word:<7}", STATUS_STYLES[row.a.status])]
    signs = [(attempt.glyph, STATUS_STYLES[attempt.status]) for attempt in row.attempts]
    if row.flip:
        return [*signs, (f" {FLIP_SIGNS[row.flip]}{row.flip:<6}", f"bold {_FLIP_STYLES[row.flip]}")]
    same = row.a.word == row.b.word or row.a.status is row.b.status
    return [*signs, (f" {row.b.word if same else '–':<7}", STATUS_STYLES[row.b.status] if same else "$text-muted")]


class ProblemOptions(OptionList):
    """Lists rows; the one with the cursor is kept through filters, searches and new verdicts."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._shown: dict[str, Row] = {}
        self._wide = True
        self._marked = ""
        self._kept = ""
        """The problem that the user is at, to come back to after filters and searches that leave it out."""
        self._instead = ""
        """What has the cursor while that one is left out."""

    @property
    def rows(self) -> list[Row]:
        """What is listed."""
        return list(self._shown.values())

    @property
    def row(self) -> Row | None:
        """The row with the cursor."""
        at, rows = self.highlighted, self.rows
        return rows[at] if at is not None and at < len(rows) else None

    def show(self, rows: tuple[Row, ...], wide: bool) -> None:
        """List these rows; lines come and go only when the problems do."""
        fitting = {option_id(row): row for row in rows}
        before, self._shown = self._shown, fitting
        if list(fitting) != list(before) or wide != self._wide:
            self._wide = wide
            self._refill()
            return
        for key, row in fitting.items():
            if row != before[key]:
                self.replace_option_prompt(key, row_content(row, wide, key == self._marked))

    def _refill(self) -> None:
        self.clear_options()
        self._marked = ""
        self.add_options(Option(row_content(row, self._wide, False), id=key) for key, row in self._shown.items())
        if self._shown:
            keys = list(self._shown)
            self._instead = "" if self._kept in self._shown else keys[0]
            self.highlighted = 0 if self._instead else keys.index(self._kept)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Move the cursor's sign to the line that it is on."""
        before, self._marked = self._marked, event.option_id or ""
        if self._marked != self._instead or not self._kept:
            self._kept, self._instead = self._marked, ""
        for changed in {before, self._marked} & set(self._shown):
            self.replace_option_prompt(
                changed, row_content(self._shown[changed], self._wide, changed == self._marked))

    def step(self, lines: int) -> None:
        """Move the cursor by lines, and stay at the ends."""
        if self._shown:
            at = (self.highlighted if self.highlighted is not None else -1) + lines
            self.highlighted = min(len(self._shown) - 1, max(0, at))

    def go_to_task(self, task_id: str) -> bool:
        """Put the cursor on the first row of a problem; False where it is not listed."""
        at = next((at for at, row in enumerate(self.rows) if row.key[0] == task_id), None)
        if at is not None:
            self.highlighted = at
        return at is not None

    def go_to_failure(self, direction: int) -> str:
        """Go to the nearest failure in a direction, round the end where need be; what the user should know of it."""
        rows = self.rows
        failures = [at for at, row in enumerate(rows) if row.failed]
        if not failures:
            return "no problem of this list failed" if rows else "no problem is listed"
        here = self.highlighted if self.highlighted is not None else -1
        further = [at for at in failures if (at - here) * direction > 0]
        self.highlighted = min(further or failures) if direction > 0 else max(further or failures)
        if further:
            return ""
        if failures == [here]:
            return "no other problem of this list failed"
        return "round the end: the first failed problem" if direction > 0 else "round the top: the last failed problem"
