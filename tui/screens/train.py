"""The Train screen: plots, figures, stage and log of the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import Static

from tui.figures import now_panel, stage_bar
from tui.follower import Scene
from tui.pictures import PLOTS, Look, pictures
from tui.screens.base import RunScreen
from tui.visible import visible
from tui.widgets.panel import Panel
from tui.widgets.plot import Plot
from tui.widgets.run_log import RunLog

_ZOOM = Binding.Group("zoom", compact=True)
_NEEDS_A_RUN = frozenset(
    {"zoom", "reset_zoom", "toggle_log", "toggle_smooth", "next_plot", "move", "scroll_log"}
)


class TrainScreen(RunScreen):
    """Watches a training run, and starts, pauses and stops it."""

    TAB = "Train"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "app.start_run", "start", id="train.start",
                tooltip="start training with the configuration as it is now"),
        Binding("space", "app.pause_run", "pause", id="train.pause", key_display="space",
                tooltip="pause between two micro-batches"),
        Binding("space", "app.resume_run", "resume", id="train.resume", key_display="space",
                tooltip="go on after a pause"),
        Binding("x", "app.stop_run", "stop", id="train.stop",
                tooltip="stop training; asks first, and a checkpoint is saved"),
        Binding("plus,equals_sign", "zoom(0.5)", "zoom in", id="train.zoom_in", key_display="+", group=_ZOOM,
                tooltip="show half as many steps, up to the newest"),
        Binding("minus", "zoom(2.0)", "zoom out", id="train.zoom_out", key_display="−", group=_ZOOM,
                tooltip="show twice as many steps"),
        Binding("0", "reset_zoom", "show all steps", id="train.show_all_steps", tooltip="undo the zoom"),
        Binding("L", "toggle_log", "log scale", id="train.log_scale", key_display="L",
                tooltip="logarithmic y axis for loss, perplexity and gradient norm"),
        Binding("m", "toggle_smooth", "smooth", id="train.smooth",
                tooltip="smoothed loss over the single steps, or the steps alone"),
        Binding("v", "next_plot", "view", id="train.view", tooltip="one plot at a time, then all together"),
        Binding("left", "move(0.5)", "earlier", id="train.earlier", key_display="←", show=False,
                tooltip="look at earlier steps, when zoomed"),
        Binding("right", "move(-0.5)", "later", id="train.later", key_display="→", show=False,
                tooltip="look at later steps, when zoomed"),
        Binding("pageup", "scroll_log(-1)", "log up", id="train.log_up", key_display="PgUp", show=False,
                tooltip="scroll the log up"),
        Binding("pagedown", "scroll_log(1)", "log down", id="train.log_down", key_display="PgDn", show=False,
                tooltip="scroll the log down; at its end it follows the run"),
    ]

    def __init__(self, welcome: Callable[[], Content]) -> None:
        super().__init__()
        self._welcome = welcome
        self.look = Look()
        self.single = ""
        """The one plot that is shown; "" for all together."""

    def compose_body(self) -> ComposeResult:
        """Welcome, plots beside figures, stage, log."""
        yield Static(id="welcome", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield Plot("loss")
                yield Plot("memory")
                yield Plot("rate")
            with Vertical(id="right"):
                yield Plot("perplexity")
                yield Plot("gradient")
                yield Panel("now", "now")
        yield Panel("stage")
        yield RunLog("log")

    def on_mount(self) -> None:
        """Panels paint from the newest scene."""
        super().on_mount()
        self.query_one("#now", Panel).show(lambda width, height: now_panel(self.scene, width, height))
        self.query_one("#stage", Panel).show(lambda width, height: stage_bar(self.scene, time.time(), width))
        self.query_one("#welcome", Static).update(self._welcome())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to zoom before the first run."""
        return self.scene.condition is not None or action not in _NEEDS_A_RUN

    def on_resize(self) -> None:
        """A narrow or short screen has room for one plot."""
        self.call_after_refresh(self._show_plots)

    def tick(self) -> None:
        """The estimate of the stage counts down."""
        super().tick()
        if self.is_current and self.scene.active:
            self.query_one("#stage", Panel).refresh()

    def show_scene(self, scene: Scene) -> None:
        """Bring everything up to date."""
        self.set_class(scene.condition is None and not scene.fault, "-empty")
        self._show_plots()
        for name in ("#now", "#stage"):
            self.query_one(name, Panel).refresh()
        self.query_one(RunLog).show(scene.view.log, ending(scene))

    @property
    def crowded(self) -> bool:
        """Whether there is room for one plot only."""
        return self.has_class("-narrow") or self.has_class("-short")

    def _show_plots(self) -> None:
        shown = self.single or ("loss" if self.crowded else "")
        self.set_class(bool(shown), "-single")
        plots = pictures(self.scene.view, self.look)
        try:
            if shown:
                self.query_one("#loss", Plot).show(*plots[shown])
            else:
                for name in PLOTS:
                    self.query_one(f"#{name}", Plot).show(*plots[name])
        except NoMatches:
            return  # a resize that arrives before the widgets do

    def action_zoom(self, factor: float) -> None:
        """Show more or fewer steps."""
        self.look = self.look.zoomed(factor)
        self._show_plots()

    def action_move(self, windows: float) -> None:
        """Move a zoomed window."""
        self.look = self.look.moved(windows)
        self._show_plots()

    def action_scroll_log(self, pages: int) -> None:
        """Scroll the log without going there first."""
        log = self.query_one(RunLog)
        log.scroll_relative(y=pages * max(1, log.size.height - 1), animate=False)

    def action_reset_zoom(self) -> None:
        """Show all steps."""
        self.look = Look(logarithmic=self.look.logarithmic, smooth=self.look.smooth)
        self._show_plots()

    def action_toggle_log(self) -> None:
        """Switch between a linear and a logarithmic y axis."""
        self.look = Look(self.look.share, self.look.back, not self.look.logarithmic, self.look.smooth)
        self._show_plots()

    def action_toggle_smooth(self) -> None:
        """Switch the smoothed loss on or off."""
        self.look = Look(self.look.share, self.look.back, self.look.logarithmic, not self.look.smooth)
        self._show_plots()

    def action_next_plot(self) -> None:
        """Step through the plots one by one, then show all (where there is room)."""
        shown = self.single or ("loss" if self.crowded else "")
        following = PLOTS.index(shown) + 1 if shown else 0
        self.single = PLOTS[following] if following < len(PLOTS) else PLOTS[0] if self.crowded else ""
        self._show_plots()


def ending(scene: Scene) -> Content | None:
    """What the log says last when something is wrong that no event tells."""
    parts: list[Content] = []
    if scene.fault:
        parts.append(Content.styled(f"✗ {visible(scene.fault)}", "$text-error"))
    condition = scene.condition
    if condition is not None and condition.state == "crashed" and not scene.view.outcome:
        why = condition.reason or "it is gone without having said why"
        if scene.last_words:  # before the headline, which has to be in view where the log has three lines
            parts += [Content.styled("  the last lines of engine.log:", "$text-muted"), Content(scene.last_words)]
        parts.append(Content.styled(f"✗ the engine crashed: {visible(why)}", "bold $text-error"))
        parts.append(Content.styled(
            f"  → softtune train --resume {scene.run_id} goes on from the last checkpoint; s starts anew", "italic"
        ))
    if condition is not None and condition.state == "damaged":
        parts.append(Content.styled(f"✗ the run folder is damaged: {visible(condition.reason)}", "$text-error"))
    if scene.unreadable:
        parts.append(Content.styled(
            f"! {scene.unreadable} lines of events.jsonl are torn or of another version; they are left out",
            "$text-warning",
        ))
    return Content("\n").join(parts) if parts else None
