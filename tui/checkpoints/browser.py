"""The table of the Checkpoints screen: reading it again and again, sorting, filtering, marking, and the line above it.

What can be done with a checkpoint is in `screens/checkpoints.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static

from tui.checkpoints.catalogue import Catalogue, CatalogueReader, CheckpointRow
from tui.checkpoints.columns import BY_ID, Order, as_text, fits, ordered
from tui.checkpoints.dialogs import SortChoice
from tui.checkpoints.table import CheckpointTable
from tui.formatting import counted
from tui.screens.base import RunScreen
from tui.visible import visible, visible_line
from tui.widgets.field import Field
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.app import SofttuneApp

REFRESH_SECONDS = 2.0


class CheckpointBrowser(RunScreen):
    """Shows every checkpoint of every run, as it is by now."""

    AUTO_FOCUS = "CheckpointTable"

    def __init__(self) -> None:
        super().__init__()
        self.order = Order()
        self.words = ""
        self.marks: dict[str, str] = {}
        """"A" or "B" by the row's key."""
        self.catalogue = Catalogue()
        self._reader: CatalogueReader | None = None
        self._reading = asyncio.Lock()
        self._read_once = False
        self._possible: object = None

    @property
    def softtune(self) -> SofttuneApp:
        """The app, which has the workbench and the other screens."""
        from tui.app import SofttuneApp

        assert isinstance(self.app, SofttuneApp)
        return self.app

    @property
    def row(self) -> CheckpointRow | None:
        """The row under the cursor."""
        return self.query_one(CheckpointTable).row

    def compose_body(self) -> ComposeResult:
        """Counts, a scoring that goes on, filter, table."""
        yield Panel("checkpoint-status")
        yield Panel("checkpoint-job")
        yield Field(placeholder="words to look for", id="checkpoint-filter")
        yield CheckpointTable("checkpoint-table")
        yield Static(id="checkpoint-empty")

    def on_mount(self) -> None:
        """Read at once, then again and again."""
        self._reader = CatalogueReader(self.softtune.runs)
        self.query_one("#checkpoint-status", Panel).show(self._status)
        self.set_interval(REFRESH_SECONDS, self._look_if_current)

    def on_screen_resume(self) -> None:
        """It may have been away for long."""
        self.look_again()

    def _look_if_current(self) -> None:
        if self.is_current:
            self.look_again()

    def look_again(self) -> None:
        """Read what has changed since the last time."""
        if not self._reading.locked() and self._reader is not None:
            self.run_worker(self.read(), group="catalogue")

    async def read(self) -> None:
        """Files are read in a thread, so that no key waits for them."""
        assert self._reader is not None
        async with self._reading:
            catalogue = await asyncio.to_thread(self._reader.read)
        if catalogue is not self.catalogue or not self._read_once:
            self._read_once, self.catalogue = True, catalogue
            keys = {row.key for row in catalogue.rows}
            self.marks = {key: mark for key, mark in self.marks.items() if key in keys}
            self._show_rows()

    def _show_rows(self) -> None:
        rows = ordered((row for row in self.catalogue.rows if fits(row, self.words)), self.order)
        with self.app.batch_update():
            self.set_class(not rows, "-no-checkpoints")
            self.query_one("#checkpoint-empty", Static).update(self._nothing())
            table = self.query_one(CheckpointTable)
            table.show(rows, self.order, self.marks)
            if rows and self.focused is None and self.is_current:
                table.focus()
            self.query_one("#checkpoint-status", Panel).refresh()
        self.check_keys()

    def possible(self) -> object:
        """What decides which keys work now; the hints change with it."""
        row = self.row
        return (bool(self.catalogue.rows), row is not None and not row.damage, bool(self.catalogue.trash))

    def check_keys(self) -> None:
        """Bring the hints up to date."""
        possible = self.possible()
        if possible != self._possible:
            self._possible = possible
            self.refresh_bindings()

    def on_line_table_moved(self) -> None:
        """Another row may allow other keys."""
        self.check_keys()

    def _status(self, width: int, height: int) -> Content:
        rows = self.catalogue.rows
        checkpoints = sum(not row.damage for row in rows)
        parts = [Content(f"{counted(checkpoints, 'checkpoints')} of {counted(self.catalogue.runs, 'runs')}")]
        damaged = len(rows) - checkpoints
        parts += [Content.styled(f"? {damaged} damaged", "$text-error")] if damaged else []
        if self.words:
            shown = self.query_one(CheckpointTable).row_count
            parts.append(Content.styled(f"showing {shown} of {len(rows)}: “{visible_line(self.words)}”",
                                        "bold $text-accent"))
        if len(self.marks) == 2:
            parts.append(Content.assemble("A and B: ", ("c", "bold $accent"), " compares"))
        elif self.marks:
            parts.append(Content.assemble(f"{next(iter(self.marks.values()))} is marked, ", ("space", "bold $accent"),
                                          " marks the other"))
        arrow = "▼" if self.order.descending else "▲"
        by = Content.styled(f"by {BY_ID[self.order.column].words} {arrow}", "$text-muted")
        while len(parts) > 1 and sum(part.cell_length + 3 for part in parts) - 2 > width:
            parts.pop(0)  # what the next keys are for is at the end
        line = Content.assemble(" ", Content("   ").join(parts))
        room = width - line.cell_length - by.cell_length - 1
        return Content.assemble(line, " " * room, by) if room >= 3 else line

    def _nothing(self) -> Content:
        if self.catalogue.fault:
            return Content.styled(f"✗ {visible(self.catalogue.fault)}", "$text-error")
        if not self._read_once:
            return Content("")
        if self.catalogue.rows:
            return Content.assemble("No checkpoint fits. ", ("/", "bold $accent"), " changes the words, ",
                                    ("esc", "bold $accent"), " shows all again.")
        more: tuple[str | tuple[str, str], ...] = ()
        if self.catalogue.runs and not (self._reader and self._reader.members):
            more = ("\n", ("m", "bold $accent"), " shows those of trials and folds too.")
        return Content.assemble("No checkpoints yet: a run writes one at the end of every epoch.\n",
                                ("1", "bold $accent"), " goes to Train, where ", ("s", "bold $accent"), " starts one.",
                                "\n", ("I", "bold $accent"), " imports an adapter, or what softtune exported.", *more)

    def copy_text(self) -> tuple[str, str] | None:
        """The table as it is sorted and filtered."""
        rows = ordered((row for row in self.catalogue.rows if fits(row, self.words)), self.order)
        return ("the table of checkpoints", as_text(rows)) if rows else None

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self.words = event.value
        self._show_rows()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter and go on in the table."""
        self.set_focus(self.query_one(CheckpointTable))

    def action_filter(self) -> None:
        """Open the filter."""
        self.add_class("-filtering")
        self.set_focus(self.query_one(Input))

    def action_back(self) -> None:
        """End the filter; back to the table."""
        self.remove_class("-filtering")
        self.query_one(Input).value = self.words = ""
        self._show_rows()  # a table without rows is hidden, and could not take the focus
        self.set_focus(self.query_one(CheckpointTable))

    def action_members(self) -> None:
        """Show the checkpoints of trials and folds too, or no more."""
        assert self._reader is not None
        self._reader.members = not self._reader.members
        self.look_again()

    def action_sort(self) -> None:
        """Ask for the column."""
        self.app.push_screen(SortChoice(self.order), self._sort_by)

    def _sort_by(self, column: str | None) -> None:
        if column:
            self.order = self.order.chosen(column)
            self._show_rows()

    def on_line_table_head_clicked(self, event: CheckpointTable.HeadClicked) -> None:
        """Sort by the column that was clicked."""
        self._sort_by(event.column)

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self.order = self.order.reversed()
        self._show_rows()

    def action_mark(self) -> None:
        """Mark A, then B, then move B; take a mark away."""
        row = self.row
        if row is None:
            return
        if row.key not in self.marks:
            letter = "A" if "A" not in self.marks.values() else "B"
            self.marks = {key: mark for key, mark in self.marks.items() if mark != letter} | {row.key: letter}
        else:
            self.marks = {key: mark for key, mark in self.marks.items() if key != row.key}
        self._show_rows()
