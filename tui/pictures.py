"""Which curves each plot of the Train screen shows. Pure functions of the view and of how the user looks at it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tui.curves import Curve
from tui.figures import memory_values
from tui.formatting import figure, rate
from tui.run_view import RunView
from tui.widgets.plot_canvas import Picture, Trace

SMALLEST_SHARE = 1 / 64
"""The closest zoom, as a share of the run."""


@dataclass(frozen=True)
class Look:
    """How the user looks at the plots: a window that is a share of the run, log scale, smoothing.

    The window ends at the newest step and moves along with it, until it is moved away (`back` > 0).
    """

    share: float = 1.0
    back: float = 0.0
    """Share of the run between the window's end and the newest step."""
    logarithmic: bool = False
    smooth: bool = True

    def zoomed(self, factor: float) -> Look:
        """Show `factor` times as much, between all and a sixty-fourth."""
        share = min(1.0, max(SMALLEST_SHARE, self.share * factor))
        return replace(self, share=share, back=min(self.back, 1 - share))

    def moved(self, windows: float) -> Look:
        """Look earlier (positive) or later by a share of the window."""
        return replace(self, back=min(1 - self.share, max(0.0, self.back + windows * self.share)))

    def window(self, curve: Curve) -> tuple[float, float] | None:
        """The steps to show; None for all."""
        if self.share >= 1 or len(curve) < 2:
            return None
        first, last = min(0.0, curve.xs[0]), curve.xs[-1]
        end = last - self.back * (last - first)
        return end - self.share * (last - first), end


PLOTS = ("loss", "perplexity", "memory", "rate", "gradient")
"""Names of the plots, in the order in which they are stepped through one by one."""

Plots = dict[str, tuple[Picture, str]]


def pictures(view: RunView, look: Look) -> Plots:
    """The picture and lower-edge values of each plot, by name."""
    window = look.window(view.train_loss)
    base = Picture(window=window, logarithmic=look.logarithmic)
    return {
        "loss": _loss(view, look, base), "perplexity": _perplexity(view, base),
        "memory": _memory(view, base), "rate": _rate(view, base), "gradient": _gradient(view, base),
    }


def _loss(view: RunView, look: Look, base: Picture) -> tuple[Picture, str]:
    heldout = Trace("held-out", view.heldout_loss, "bold $plot-heldout", "points")
    traces: tuple[Trace, ...]
    if look.smooth:
        traces = (Trace("train", view.train_loss, "$plot-train 80%", "dots"),
                  Trace("smoothed", view.smooth_loss, "bold $plot-smooth"), heldout)
    else:
        traces = (Trace("train", view.train_loss, "$plot-train"), heldout)
    values = _values(("train", view.train_loss.last), ("held-out", view.heldout_loss.last))
    return replace(base, title="loss", traces=traces, empty="the loss appears after the first optimizer step"), values


def _perplexity(view: RunView, base: Picture) -> tuple[Picture, str]:
    traces = (Trace("train, smoothed", view.smooth_perplexity, "$plot-smooth"),
              Trace("held-out", view.heldout_perplexity, "bold $plot-heldout", "points"))
    values = _values(("held-out", view.heldout_perplexity.last))
    return replace(base, title="perplexity", traces=traces, empty="perplexity appears with the loss"), values


def _memory(view: RunView, base: Picture) -> tuple[Picture, str]:
    on_gpu = view.step is not None and view.step.memory.device == "cuda"
    traces: tuple[Trace, ...] = (Trace("allocated" if on_gpu else "resident", view.memory_allocated, "$plot-memory"),)
    if on_gpu:
        traces = (Trace("reserved", view.memory_reserved, "$plot-frame", "dots"), *traces)
    traces = (Trace("peak", view.memory_peak, "$plot-peak", "dots"), *traces)  # what is drawn last is on top
    title = "GPU memory" if on_gpu else "engine memory"
    picture = replace(base, title=title, traces=traces, logarithmic=False, from_zero=True,
                      empty="memory is measured at every step")
    return picture, memory_values(view.step.memory) if view.step else ""


def _rate(view: RunView, base: Picture) -> tuple[Picture, str]:
    last = view.learning_rate.last
    trace = Trace("schedule", view.learning_rate, "$plot-rate")
    picture = replace(base, title="learning rate", traces=(trace,), logarithmic=False, from_zero=True,
                      empty="warm-up, then decay")
    return picture, rate(last) if last is not None else ""


def _gradient(view: RunView, base: Picture) -> tuple[Picture, str]:
    trace = Trace("before clipping", view.grad_norm, "$plot-train")
    picture = replace(base, title="gradient norm", traces=(trace,), empty="the gradient norm appears with the loss")
    return picture, _values(("norm", view.grad_norm.last))


def _values(*pairs: tuple[str, float | None]) -> str:
    return "  ".join(f"{name} {figure(value)}" for name, value in pairs if value is not None)
