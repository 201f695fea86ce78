"""The Train screen: plots, figures, diagnoses, stage and log of the run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import Static

from tui.follower import Scene
from tui.screens.base import RunScreen
from tui.screens.overlay_flow import ask_for_overlays
from tui.screens.train_keys import KEYS, NEEDS_A_RUN, NEEDS_THE_CURSOR
from tui.train.curves import Curve
from tui.train.diagnoses import Diagnosis, Shown, diagnoses, settled
from tui.train.figures import now_panel, stage_bar
from tui.train.hardware import Reading, Sampler
from tui.train.look import Look
from tui.train.overlays import Letters, OtherRun
from tui.train.pictures import PLOTS, pictures
from tui.train.words import copied_lines, diagnosis_lines, ending
from tui.widgets.panel import Panel
from tui.widgets.plot import Plot
from tui.widgets.plot_canvas import Picture
from tui.widgets.run_log import RunLog

STRIDE = 0.1
"""How far the cursor strides, as a share of the window."""

PAN = 0.5
"""How far a zoomed window moves, as a share of itself."""

TELLING_SECONDS = 0.9
"""Between two changes of the figures while a run goes on: faster ones cannot be read."""

DIAGNOSES = 2
"""Diagnoses shown at once, where there is room."""


class TrainScreen(RunScreen):
    """Watches a training run, and starts, pauses, stops and resumes it."""

    TAB = "Train"
    CSS_PATH = "train.tcss"
    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-slim"), (72, "-narrow"), (100, "-wide")]
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    def __init__(self, welcome: Callable[[], Content]) -> None:
        super().__init__()
        self._welcome = welcome
        self.look = Look()
        self.single = ""
        """The one plot that is shown, over the whole width; "" for as many as have room."""
        self.others: tuple[OtherRun, ...] = ()
        """Runs whose losses are laid over this one's."""
        self.letters = Letters()
        self.reading: Reading | None = None
        self._sampler: Sampler | None = None
        self._shown: tuple[Shown, ...] = ()
        self._told_at = 0.0
        self._seen = ("", Curve())
        """The run that was shown last, and its losses then."""
        self._drawn = 0
        """How often the plots were shown: what is still to be drawn of an earlier time is left out."""

    def compose_body(self) -> ComposeResult:
        """Welcome, plots beside figures, stage, diagnoses, log."""
        yield Static(id="welcome", markup=False)
        with Horizontal(id="train-body"):
            with Vertical(id="train-left"):
                yield Plot("loss")
                yield Plot("memory")
                yield Plot("rate")
            with Vertical(id="train-right"):
                yield Plot("perplexity")
                yield Plot("gradient")
                yield Panel("now", "now")
        yield Panel("stage")
        yield Panel("diagnoses")
        yield RunLog("log")

    def on_mount(self) -> None:
        """Panels paint from the newest scene."""
        self.query_one("#now", Panel).show(self._now)
        self.query_one("#stage", Panel).show(lambda width, height: stage_bar(self.scene, time.time(), width))
        self.query_one("#diagnoses", Panel).show(
            lambda width, height: Content("\n").join(diagnosis_lines(self.diagnosed, width, height)))
        self.query_one("#welcome", Static).update(self._welcome())

    def _now(self, width: int, height: int) -> Content:
        return now_panel(self.scene, width, height, now=time.time(), reading=self.reading, cursor=self.look.cursor,
                         others=self._others())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to zoom before the first run, and no cursor to move before it is there."""
        if action in NEEDS_THE_CURSOR:
            return self.look.cursor is not None
        if action == "leave":
            return self.look.cursor is not None or bool(self.single)
        return self.scene.condition is not None or action not in NEEDS_A_RUN

    def on_resize(self) -> None:
        """A narrow or short screen has room for one plot."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        self._show_plots()
        self._show_diagnoses()

    def tick(self) -> None:
        """The estimates count down, and the machine is looked at."""
        super().tick()
        if self.is_current and self.scene.active:
            self.query_one("#stage", Panel).refresh()
            self.query_one("#now", Panel).refresh()
            self._sample()
            self._diagnose()
        elif self.reading is not None:
            self._forget_machine()

    def show_scene(self, scene: Scene) -> None:
        """Bring everything up to date."""
        self._keep_place(scene)
        self.set_class(scene.condition is None and not scene.fault, "-empty")
        self.set_class(not scene.active, "-over")
        self.set_class(scene.crashed or scene.view.outcome == "failed", "-broken")
        self._show_plots()
        self.query_one("#stage", Panel).refresh()
        self.query_one(RunLog).show(scene.view.log, ending(scene))
        if not scene.active or time.monotonic() - self._told_at >= TELLING_SECONDS:
            self._told_at = time.monotonic()
            self.query_one("#now", Panel).refresh()
            self._diagnose()

    def _keep_place(self, scene: Scene) -> None:
        """Look at the same steps while a run goes on; at another run from its beginning, without what was said of the
        one before."""
        curve = scene.view.train_loss
        run_id, before = self._seen
        self._seen = scene.run_id, curve
        if scene.run_id == run_id:
            self.look = self.look.grown(before, curve)
        elif run_id:
            read = self.look.cursor is not None
            self.look = self.look.unread().whole()
            self._shown, self._told_at = (), 0.0
            self._show_diagnoses()
            self.query_one(RunLog).follow()
            if read:
                self.refresh_bindings()

    @property
    def diagnosed(self) -> tuple[Diagnosis, ...]:
        """The diagnoses that there is room for."""
        return tuple(one.diagnosis for one in self._shown)[: 1 if self.crowded else DIAGNOSES]

    def _diagnose(self) -> None:
        scene, now = self.scene, time.monotonic()
        kept = self._shown if scene.active else ()  # of a run that is over, nothing comes and goes
        found = diagnoses(scene.view, scene.config, self.reading, scene.active)
        shown = settled(kept, found, now)
        changed = [one.diagnosis for one in shown] != [one.diagnosis for one in self._shown]
        self._shown = shown
        if changed:
            self._show_diagnoses()

    def _show_diagnoses(self) -> None:
        panel = self.query_one("#diagnoses", Panel)
        lines = len(diagnosis_lines(self.diagnosed, self.size.width, 2 * DIAGNOSES))
        if (panel.display, panel.styles.height and panel.styles.height.value) != (lines > 0, lines):
            panel.display = lines > 0 and not self.has_class("-empty")
            panel.styles.height = max(1, lines)
        panel.refresh()

    @work(group="hardware")
    async def _sample(self) -> None:
        """One look at the machine, in a thread; none while another is still at it."""
        condition, loaded = self.scene.condition, self.scene.view.loaded
        if condition is None or (self._sampler is not None and self._sampler.busy):
            return
        wanted = condition.pid, loaded.device if loaded else ""
        if self._sampler is None or (self._sampler.pid, self._sampler.device) != wanted:
            self._forget_machine()
            self._sampler = Sampler(*wanted)
        sampler = self._sampler
        reading = await asyncio.to_thread(sampler.sample)
        if sampler is self._sampler and reading != self.reading:
            self.reading = reading
            self.query("#now").refresh()  # all there is: none when the app was left meanwhile

    def _forget_machine(self) -> None:
        self._sampler = self.reading = None

    @property
    def crowded(self) -> bool:
        """Whether there is room for one plot only."""
        return not self.has_class("-wide") or self.has_class("-short")

    def _others(self) -> list[OtherRun]:
        return [other for other in self.others if other.run_id != self.scene.run_id]

    def _show_plots(self, at_once: bool = False) -> None:
        shown = self.single or ("loss" if self.crowded else "")
        wanted = {"-single": bool(shown), "-maximised": bool(self.single)}
        self.add_class(*(name for name, on in wanted.items() if on))  # together: each change looks at every widget
        self.remove_class(*(name for name, on in wanted.items() if not on))
        plots = pictures(self.scene.view, self.look, self._others())
        self._drawn += 1
        try:
            self.query_one("#loss", Plot).show(*plots[shown or "loss"], at_once)
        except NoMatches:
            return  # a resize that arrives before the widgets do
        rest = [] if shown else [(self.query_one(f"#{name}", Plot), plots[name]) for name in PLOTS if name != "loss"]
        if at_once:
            self._draw_rest(self._drawn, rest)
        else:
            for plot, (picture, values) in rest:
                plot.show(picture, values)

    def _draw_rest(self, drawn: int, rest: list[tuple[Plot, tuple[Picture, str]]]) -> None:
        """Draw the other plots, each in a frame of its own, so that the first one answers a key at once."""
        if rest and drawn == self._drawn:
            (plot, picture), *rest = rest
            if plot.display:
                self.call_after_refresh(self._draw_one, drawn, plot, picture, rest)
            else:
                plot.show(*picture)
                self._draw_rest(drawn, rest)

    def _draw_one(
        self, drawn: int, plot: Plot, picture: tuple[Picture, str], rest: list[tuple[Plot, tuple[Picture, str]]]
    ) -> None:
        if drawn == self._drawn:  # else another key has come, or newer steps have
            plot.show(*picture, at_once=True)
            self._draw_rest(drawn, rest)

    def _look(self, look: Look) -> None:
        """Look in another way, as a key has asked."""
        cursor, self.look = self.look.cursor, look
        self._show_plots(at_once=True)
        if cursor != look.cursor:
            self.query_one("#now", Panel).refresh()
        if (cursor is None) != (look.cursor is None):
            self.refresh_bindings()

    def action_zoom(self, factor: float) -> None:
        """Show more or fewer steps."""
        look = self.look.zoomed(factor)
        self._look(look.centred(self.scene.view.train_loss) if look.cursor is not None else look)

    def action_move(self, direction: int) -> None:
        """Move the cursor; without one, a zoomed window."""
        if self.look.cursor is not None:
            self._look(self.look.stepped(direction, self.scene.view.train_loss))
        else:
            self._look(self.look.moved(-direction * PAN))

    def action_stride(self, direction: int) -> None:
        """Move the cursor further."""
        self._look(self.look.stepped(direction, self.scene.view.train_loss, STRIDE))

    def action_go_to_end(self, direction: int) -> None:
        """Move the cursor to the first or the newest step."""
        curve = self.scene.view.train_loss
        if len(curve):
            self._look(self.look.at(curve.xs[0 if direction < 0 else -1], curve))

    def action_read(self) -> None:
        """Switch the cursor on or off."""
        on = self.look.cursor is not None
        self._look(self.look.unread() if on else self.look.reading(self.scene.view.train_loss))

    def action_leave(self) -> None:
        """Put the cursor away; then show all plots."""
        if self.look.cursor is not None:
            self._look(self.look.unread())
        else:
            self._show_single("")

    def action_scroll_log(self, pages: int) -> None:
        """Scroll the log without going there first."""
        self.query_one(RunLog).scroll_pages(pages)

    def action_follow_log(self) -> None:
        """Go to the end of the log."""
        self.query_one(RunLog).follow()

    def action_reset_zoom(self) -> None:
        """Show all steps."""
        self._look(self.look.whole())

    def action_toggle_log(self) -> None:
        """Switch between a linear and a logarithmic y axis."""
        self._look(self.look.on_other_scale())

    def action_toggle_smooth(self) -> None:
        """Switch the smoothed loss on or off."""
        self._look(self.look.with_smoothing(not self.look.smooth))

    def action_next_plot(self) -> None:
        """Step through the plots one by one, over the whole width, then show all that have room."""
        following = PLOTS.index(self.single) + 1 if self.single else 0
        self._show_single(PLOTS[following] if following < len(PLOTS) else "")

    def _show_single(self, name: str) -> None:
        self.single = name
        self._show_plots(at_once=True)
        self.refresh_bindings()

    def action_overlay(self) -> None:
        """Choose other runs to lay over this one."""
        self.run_worker(ask_for_overlays(self), group="overlay", exclusive=True)

    def lay_over(self, others: tuple[OtherRun, ...]) -> None:
        """Show the losses of these runs too."""
        self.others = others
        self._show_plots(at_once=True)
        self.query_one("#now", Panel).refresh()

    def copy_text(self) -> tuple[str, str] | None:
        """The run's figures as plain lines."""
        text = copied_lines(self.scene, self.diagnosed)
        return ("the figures of the run", text) if text else None
