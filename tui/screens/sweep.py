"""The Sweep screen: the trials of a sweep, ranked; how each parameter bears on the objective; taking a trial's
settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from core.contract.errors import SofttuneError
from tui.config.disk import is_of_file, settings_file
from tui.plan_words import Plan
from tui.screens.base import RunScreen
from tui.screens.dialogs import Confirm, Message
from tui.sweep.columns import Column, Order, as_text, columns_of, ordered
from tui.sweep.reader import ShownSweep, SweepReader
from tui.sweep.slices import Slice, slices
from tui.sweep.table import TrialTable
from tui.sweep.using import Use, prepare_use, take_back, write
from tui.sweep.view import Trial, ranked
from tui.sweep.words import empty_content, status_lines, trial_lines
from tui.widgets.panel import Panel
from tui.widgets.plot import Plot

if TYPE_CHECKING:
    from tui.app import SofttuneApp

READ_SECONDS = 1.0
"""Between two looks at the sweep."""
MOST_SLICES = 4
"""Slices beside each other."""
NARROWEST = 38
"""Cells of one."""

_NEEDS_A_TRIAL = frozenset({"curves", "use", "sort", "reverse", "log_scale", "next_slice"})
_SWEEPS = Binding.Group("sweeps", compact=True)


class SweepScreen(RunScreen):
    """Shows the sweep that the app follows, else the newest one."""

    TAB = "Sweep"
    CSS_PATH = "sweep.tcss"
    AUTO_FOCUS = "TrialTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "curves", "curves", id="sweep.curves", key_display="enter",
                tooltip="show the curves of a trial on the Train screen"),
        Binding("u", "use", "use this config", id="sweep.use",
                tooltip="write a trial's settings into the file that runs start from; asks first"),
        Binding("z", "undo", "undo", id="sweep.undo", tooltip="bring back what that file was before"),
        Binding("o", "sort", "sort", id="sweep.sort", tooltip="sort by the next column"),
        Binding("O", "reverse", "reverse", id="sweep.reverse", key_display="O", show=False,
                tooltip="sort the other way round"),
        Binding("v", "next_slice", "view", id="sweep.view",
                tooltip="one parameter at a time, over the whole width, then all"),
        Binding("L", "log_scale", "log scale", id="sweep.log_scale", key_display="L",
                tooltip="logarithmic axis for the objective"),
        Binding("left_square_bracket", "other(1)", "older", id="sweep.older", key_display="[", group=_SWEEPS,
                tooltip="show the sweep before this one"),
        Binding("right_square_bracket", "other(-1)", "newer", id="sweep.newer", key_display="]", group=_SWEEPS,
                tooltip="show the sweep after this one"),
        Binding("i", "run", "its run", id="sweep.run", tooltip="show the sweep's own run on the Train screen"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.sweep = ShownSweep()
        self.trials: list[Trial] = []
        """By rank."""
        self.order = Order()
        self._columns: tuple[Column, ...] = ()
        self._slices: list[Slice] = []
        self._single: int | None = None
        """The one parameter that is shown; None for as many as have room."""
        self._logarithmic = False
        self._chosen = ""
        """The run id of the sweep that keys went to; "" follows the app's run."""
        self._written: list[tuple[Use, Plan]] = []
        """What was written, with what was started before."""
        self._reader: SweepReader | None = None
        self._reading = asyncio.Lock()

    @property
    def softtune(self) -> SofttuneApp:
        """The app, which has the other screens."""
        from tui.app import SofttuneApp

        assert isinstance(self.app, SofttuneApp)
        return self.app

    @property
    def trial(self) -> Trial | None:
        """The trial under the cursor."""
        return self.query_one(TrialTable).row if self.is_mounted else None

    def compose_body(self) -> ComposeResult:
        """What the sweep is about, its trials, the one under the cursor, slices."""
        yield Panel("sweep-status")
        yield TrialTable("sweep-table")
        yield Panel("sweep-trial")
        with Horizontal(id="sweep-slices"):
            for number in range(MOST_SLICES):
                yield Plot(f"slice-{number}")
        yield Static(id="sweep-empty")

    def on_mount(self) -> None:
        """Read at once, then again and again."""
        self._reader = SweepReader(self.softtune.runs)
        self.query_one("#sweep-status", Panel).show(
            lambda width, height: Content("\n").join(status_lines(self.sweep, self.trials, width)))
        self.query_one("#sweep-trial", Panel).show(
            lambda width, height: Content("\n").join(trial_lines(self.trial, width)[:height]))
        self.set_interval(READ_SECONDS, self.look)

    def on_screen_resume(self) -> None:
        """It may have been away for long."""
        self.look()

    def look(self) -> None:
        """Read what has changed since the last time."""
        if self.is_current and not self._reading.locked() and self._reader is not None:
            self.run_worker(self.read(), group="sweep")

    async def read(self) -> None:
        """Files are read in a thread, so that no key waits for them."""
        assert self._reader is not None
        async with self._reading:
            followed = (self.scene.run_id.partition("/")[0],)
            sweep = await asyncio.to_thread(self._reader.read, self._chosen, followed)
        if sweep is not self.sweep or not self._columns:
            self._take(sweep)

    def _take(self, sweep: ShownSweep) -> None:
        before, self.sweep = self.sweep, sweep
        if (before.run_id, before.view, before.active, before.plan) != (
                sweep.run_id, sweep.view, sweep.active, sweep.plan) or not self._columns:
            self.trials = ranked(sweep.view, sweep.active)
            self._columns = columns_of(sweep.view)
            self._slices = slices(sweep.view, self.trials, sweep.plan, self._logarithmic)
        if before.run_id != sweep.run_id:
            self._single, self.order = None, Order()
        self._show()

    def _show(self, at_once: bool = False) -> None:
        with self.app.batch_update():
            self.set_class(not self.sweep.run_id, "-no-sweep")
            if not self.sweep.run_id:
                self.query_one("#sweep-empty", Static).update(empty_content(self.sweep.fault))
            objective = "pass" if self.sweep.view.maximize else "loss"
            table = self.query_one(TrialTable)
            table.show(ordered(self.trials, self._columns, self.order), self._columns, self.order, objective)
            if self.sweep.run_id and self.focused is None and self.is_current:
                table.focus()
            self.query_one("#sweep-status", Panel).refresh()
            self.query_one("#sweep-trial", Panel).refresh()
            self._show_slices(at_once)
        self.refresh_bindings()

    @property
    def _shown_slices(self) -> list[Slice]:
        if self._single is not None and self._single < len(self._slices):
            return [self._slices[self._single]]
        return self._slices[:self._room]

    @property
    def _room(self) -> int:
        """How many slices have room beside each other."""
        return max(1, min(MOST_SLICES, self.size.width // NARROWEST))

    def _show_slices(self, at_once: bool) -> None:
        trial, shown = self.trial, self._shown_slices
        for number in range(MOST_SLICES):
            plot = self.query_one(f"#slice-{number}", Plot)
            plot.display = number < len(shown)
            if plot.display:
                one = shown[number]
                spot = one.spot(trial) if trial else None
                plot.show(replace(one.picture, spot=spot), one.words(trial), at_once)

    def on_resize(self) -> None:
        """There is room for more slices, or for fewer."""
        self.call_after_refresh(self._show_slices, True)

    def on_line_table_moved(self) -> None:
        """Another trial is marked in the slices."""
        self.query_one("#sweep-trial", Panel).refresh()
        self._show_slices(at_once=True)
        self.refresh_bindings()

    async def on_line_table_opened(self) -> None:
        """As enter does."""
        await self.action_curves()

    def on_line_table_head_clicked(self, event: TrialTable.HeadClicked) -> None:
        """Sort by the column that was clicked."""
        self._sort_by(event.column)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is impossible now is not offered."""
        if action in _NEEDS_A_TRIAL:
            return self.trial is not None
        if action == "other":
            return isinstance(parameters[0], int) and bool(self._other(parameters[0]))
        return {"undo": bool(self._written), "run": bool(self.sweep.run_id)}.get(action, True)

    def _other(self, older: int) -> str:
        sweeps = self.sweep.sweeps
        at = sweeps.index(self.sweep.run_id) + older if self.sweep.run_id in sweeps else -1
        return sweeps[at] if 0 <= at < len(sweeps) else ""

    def action_other(self, older: int) -> None:
        """Show an older or a newer sweep."""
        self._chosen = self._other(older) or self._chosen
        self.look()

    async def action_run(self) -> None:
        """Show the sweep's run on the Train screen."""
        await self.softtune.open_run(self.sweep.run_id)

    async def action_curves(self) -> None:
        """Show the trial's run on the Train screen."""
        if self.trial is not None:
            member = self.sweep.view.member(self.trial.number)
            await self.softtune.open_run(f"{self.sweep.run_id}/members/{member}")

    def _sort_by(self, column: str) -> None:
        if column == self.order.column:
            self.order = Order(column, not self.order.descending)
        else:
            self.order = Order(column, next(one.descending for one in self._columns if one.id == column))
        self._show()

    def action_sort(self) -> None:
        """Sort by the next column."""
        names = [column.id for column in self._columns]
        at = names.index(self.order.column) if self.order.column in names else -1
        self._sort_by(names[(at + 1) % len(names)])

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._sort_by(self.order.column)

    def action_log_scale(self) -> None:
        """Switch between a linear and a logarithmic axis for the objective."""
        self._logarithmic = not self._logarithmic
        self._slices = slices(self.sweep.view, self.trials, self.sweep.plan, self._logarithmic)
        self._show_slices(at_once=True)

    def action_next_slice(self) -> None:
        """Step through the parameters one by one, then show as many as have room."""
        following = 0 if self._single is None else self._single + 1
        if self._single is None and self._room == 1:
            following = 1  # the first one is there already
        self._single = following if following < len(self._slices) else None
        self._show_slices(at_once=True)

    def action_use(self) -> None:
        """Write a trial's settings, once the user has confirmed it."""
        if self.trial is not None:
            self.run_worker(self._use(self.trial), group="use", exclusive=True)

    async def _use(self, trial: Trial) -> None:
        plan = self.softtune.plan
        path = settings_file(plan)
        try:
            use = await asyncio.to_thread(prepare_use, self.sweep, trial, path)
        except SofttuneError as error:
            self.app.push_screen(Message(f"the settings of trial {trial.number} were not taken: {error.what}",
                                         error.remedy, "error"))
            return
        if use.before == use.after:
            self.notify(f"{path} has the settings of trial {trial.number} already", timeout=4, markup=False)
        elif await self.app.push_screen_wait(Confirm(f"Write the settings of trial {trial.number} into {path}?",
                                                     use.words)) and await self._done(lambda: write(use)):
            self._written.append((use, plan))
            if not is_of_file(plan):
                self.softtune.plan = Plan(path)  # `s` starts from the file now, and no more from the demo's settings
            self.notify(f"written: {path} has the settings of trial {trial.number}; z takes it back", timeout=6,
                        markup=False)
            self.refresh_bindings()

    def action_undo(self) -> None:
        """Bring back what the file was before."""
        self.run_worker(self._undo(), group="use", exclusive=True)

    async def _undo(self) -> None:
        if self._written:
            use, plan = self._written[-1]
            if await self._done(lambda: take_back(use)):
                self.softtune.plan = plan
                self.notify(f"{use.path} is {'as it was before' if use.before is not None else 'gone again'}",
                            timeout=4, markup=False)
                self._written.pop()
                self.refresh_bindings()

    async def _done(self, work: Callable[[], None]) -> bool:
        """Do slow work; whether it could be done: if not, that is told."""
        try:
            await asyncio.to_thread(work)
        except SofttuneError as error:
            self.app.push_screen(Message(error.what, error.remedy, "error"))
            return False
        return True

    def copy_text(self) -> tuple[str, str] | None:
        """The table as it is sorted."""
        rows = ordered(self.trials, self._columns, self.order)
        return ("the table of trials", as_text(rows, self._columns)) if rows else None
