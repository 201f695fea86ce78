"""Which curves each plot of the Train screen shows. Pure functions of the view and of how the user looks at it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from tui.formatting import data_size, figure, rate
from tui.run_view import RunView
from tui.train.curves import Curve
from tui.train.figures import memory_values
from tui.train.look import SMALLEST_SHARE, Look
from tui.train.overlays import OtherRun
from tui.widgets.plot_canvas import Picture, Trace

__all__ = ["PLOTS", "SMALLEST_SHARE", "Look", "Plots", "pictures"]

PLOTS = ("loss", "perplexity", "memory", "rate", "gradient")
"""Names of the plots, in the order in which they are stepped through one by one."""

Plots = dict[str, tuple[Picture, str]]

CROWDING = 2.0
"""The device's whole memory is drawn where it is at most this many times what the run takes; above that its line would
only press the curves against the floor."""


def pictures(view: RunView, look: Look, others: Sequence[OtherRun] = ()) -> Plots:
    """The picture and lower-edge values of each plot, by name; `others` are drawn below the run's own losses."""
    base = Picture(window=look.window(view.train_loss), logarithmic=look.logarithmic, cursor=look.cursor,
                   ahead=_room_ahead(view))
    made = {
        "loss": _loss(view, look, base, others), "perplexity": _perplexity(view, base, others),
        "memory": _memory(view, base), "rate": _rate(view, base), "gradient": _gradient(view, base),
    }
    if view.outcome and view.step is None:  # it was imported, or failed before
        return {name: (replace(picture, empty="no optimizer step is recorded"), told)
                for name, (picture, told) in made.items()}
    return made


def _room_ahead(view: RunView) -> float | None:
    """Where the steps' axis ends while a run goes on: a round number ahead, so that it seldom moves."""
    total, done = view.total_steps, view.done_steps
    if view.outcome or not done or done >= total:
        return None
    power = 10.0 ** math.floor(math.log10(done))
    ahead = next(power * factor for factor in (1.5, 2, 3, 4, 5, 6, 8, 10, 15) if power * factor > done)
    return min(float(total), max(ahead, 10.0))


def _loss(view: RunView, look: Look, base: Picture, others: Sequence[OtherRun]) -> tuple[Picture, str]:
    heldout = Trace("held-out", view.heldout_loss, "bold $plot-heldout", "points")
    own: tuple[Trace, ...]
    if look.smooth:
        own = (Trace("train", view.train_loss, "$plot-train 80%", "dots"),
               Trace("smoothed", view.smooth_loss, "bold $plot-smooth"), heldout)
    else:
        own = (Trace("train", view.train_loss, "$plot-train"), heldout)
    theirs = [trace for other in others for trace in other.traces(other.smooth_loss, other.heldout_loss)]
    nothing = "no loss so far is a finite number" if view.train_loss.dropped else ""
    picture = replace(base, title="loss", traces=(*theirs, *own),
                      empty=nothing or "the loss appears with the first step")
    return picture, _values(base.cursor, own, theirs, figure)


def _perplexity(view: RunView, base: Picture, others: Sequence[OtherRun]) -> tuple[Picture, str]:
    own = (Trace("train, smoothed", view.smooth_perplexity, "$plot-smooth"),
           Trace("held-out", view.heldout_perplexity, "bold $plot-heldout", "points"))
    theirs = [trace for other in others for trace in other.traces(other.smooth_perplexity, other.heldout_perplexity)]
    picture = replace(base, title="perplexity", traces=(*theirs, *own), empty="perplexity appears with the loss")
    return picture, _values(base.cursor, own, theirs, figure)


def _memory(view: RunView, base: Picture) -> tuple[Picture, str]:
    memory = view.step.memory if view.step else None
    on_gpu = memory is not None and memory.device == "cuda"
    traces: tuple[Trace, ...] = (Trace("allocated" if on_gpu else "resident", view.memory_allocated, "$plot-memory"),)
    if on_gpu:
        traces = (Trace("reserved", view.memory_reserved, "$plot-frame", "dots"), *traces)
    traces = (Trace("peak", view.memory_peak, "$plot-peak", "dots"), *traces)  # what is drawn last is on top
    values = memory_values(memory) if memory else ""
    if base.cursor is not None:
        values = _values(base.cursor, traces, (), data_size)
    if memory and 0 < memory.total <= CROWDING * max(memory.peak, memory.reserved):
        traces = (Trace("total", _level(view.memory_allocated, memory.total), "$text-error"), *traces)
    picture = replace(base, title="GPU memory" if on_gpu else "engine memory", traces=traces, logarithmic=False,
                      from_zero=True, empty="memory is measured at every step")
    return picture, values


def _level(curve: Curve, value: float) -> Curve:
    """A level line as long as a curve."""
    return Curve((curve.xs[0], curve.xs[-1]), (value, value)) if len(curve) > 1 else Curve()


def _rate(view: RunView, base: Picture) -> tuple[Picture, str]:
    own = (Trace("schedule", view.learning_rate, "$plot-rate"),)
    last = view.learning_rate.last
    values = _values(base.cursor, own, (), rate) if base.cursor is not None else rate(last) if last is not None else ""
    picture = replace(base, title="learning rate", traces=own, logarithmic=False, from_zero=True,
                      empty="warm-up, then the schedule")
    return picture, values


def _gradient(view: RunView, base: Picture) -> tuple[Picture, str]:
    own = (Trace("before clipping", view.grad_norm, "$plot-train"),)
    picture = replace(base, title="gradient norm", traces=own, empty="the gradient norm appears with the loss")
    return picture, _values(base.cursor, own, (), figure)


def _values(
    cursor: float | None, own: Sequence[Trace], theirs: Sequence[Trace], words: Callable[[float], str]
) -> str:
    """The newest values, or those at the cursor: of a curve with few points the last one before it, with its step."""
    if cursor is None:
        newest = [(trace.name, trace.curve.last) for trace in own if trace.name != "smoothed"]
        return "  ".join(f"{name} {words(value)}" for name, value in newest if value is not None)
    parts = []
    for trace in (*own, *theirs):
        point = trace.curve.at(cursor)
        if point is None or not trace.name:
            continue
        elsewhere = f" at {point[0]:,.0f}" if point[0] != cursor else ""
        parts.append(f"{trace.mark or trace.name} {words(point[1])}{elsewhere}")
    return "  ".join(parts)
