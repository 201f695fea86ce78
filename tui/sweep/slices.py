"""Slices of a sweep: the objective against one parameter, as a picture for a plot. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from core.contract.sweep_plan import Range, SweepPlan
from core.contract.wording import value_text
from tui.formatting import figure
from tui.sweep.view import SweepView, Trial, parameters, short_names
from tui.train.curves import Curve
from tui.visible import visible_line
from tui.widgets.plot_canvas import Picture, Trace, XScale

WIDE = 100.0
"""Values that span more than this factor are drawn on a logarithmic axis."""

COLUMNS = 8
"""At most so many values of a list have a column each; more numbers than that lie on an axis."""
ROOM = 0.03
"""At either end of the x axis, as a share of it."""

Spot = tuple[float, float]


class Slice:
    """One parameter: how its values lie on the x axis, and the picture of all trials on it."""

    def __init__(self, name: str, title: str, trials: Sequence[Trial], plan: SweepPlan | None, maximize: bool,
                 logarithmic: bool) -> None:
        self.name = name
        self.maximize = maximize
        values = [trial.parameters[name] for trial in trials if name in trial.parameters]
        space = plan.space().get(name) if plan else None
        possible = [space.low, space.high] if isinstance(space, Range) else [*(space or []), *values]
        self.scale: XScale = _scale(possible, space)
        self.names = _names(possible) if self.scale == "names" else ()
        points = [(trial, spot) for trial in trials if (spot := self.spot(trial)) is not None]
        best = next((point for point in points if point[0].rank == 1), None)
        self.picture = Picture(
            title=visible_line(title), x_scale=self.scale, x_names=self.names, window=self._window(possible),
            logarithmic=logarithmic, empty="a point for every trial that has ended",
            traces=tuple(trace for trace in (
                Trace("pruned", _curve([spot for trial, spot in points if trial.state != "complete"]), "$plot-peak",
                      "points", "×"),
                Trace("", _curve([spot for trial, spot in points if trial.rank not in (None, 1)]),
                      "bold $plot-train", "points", "●"),
                Trace("best", _curve([best[1]] if best else []), "bold $plot-heldout", "points", "★"),
            ) if len(trace.curve)))

    def _window(self, possible: Sequence[Any]) -> tuple[float, float] | None:
        """All that could be chosen, so that the axis stands still while trials come in."""
        if self.scale == "names":
            return (-0.5, len(self.names) - 0.49) if self.names else None  # no name lies between two cells
        edges = [self.x(value) for value in possible]
        room = (max(edges) - min(edges)) * ROOM
        return (min(edges) - room, max(edges) + room) if room > 0 else None

    def x(self, value: Any) -> float:
        """Where a value lies."""
        if self.scale == "names":
            return float(self.names.index(visible_line(value_text(value))))
        return math.log10(value) if self.scale == "powers" else float(value)

    def spot(self, trial: Trial) -> Spot | None:
        """Where a trial lies; None where it has no figure, or none that is final."""
        measured = trial.state == "complete" or (trial.state == "pruned" and not self.maximize)
        value = trial.value if trial.state == "complete" else trial.heldout_loss
        if not measured or self.name not in trial.parameters or value is None or not math.isfinite(value):
            return None
        return self.x(trial.parameters[self.name]), value

    def words(self, trial: Trial | None) -> str:
        """What stands in the lower edge: the trial at the cursor."""
        if trial is None or self.name not in trial.parameters:
            return ""
        spot = self.spot(trial)
        measured = figure(spot[1], 4) if spot else trial.state
        return f"trial {trial.number}: {visible_line(value_text(trial.parameters[self.name]))} → {measured}"


def slices(view: SweepView, trials: Sequence[Trial], plan: SweepPlan | None, logarithmic: bool) -> list[Slice]:
    """A slice for each parameter, as they are planned.

    Args:
        view: the sweep.
        trials: `ranked` of it.
        plan: ranges, where they are known.
        logarithmic: whether the objective is drawn on a logarithmic axis.
    """
    names = short_names(parameters(view))
    return [Slice(name, short, trials, plan, view.maximize, logarithmic) for name, short in names.items()]


def _scale(possible: Sequence[Any], space: object) -> XScale:
    """Few values to choose from are columns, and so is what is no number."""
    choices = isinstance(space, list) and len(set(map(repr, possible))) <= COLUMNS
    if choices or not possible or not all(map(_is_number, possible)):
        return "names"
    low, high = min(possible), max(possible)
    if (isinstance(space, Range) and space.log) or (low > 0 and high / low > WIDE):
        return "powers"
    return "whole" if all(isinstance(value, int) for value in possible) else "numbers"


def _names(possible: Sequence[Any]) -> tuple[str, ...]:
    """Columns from the smallest number to the largest; others in the order in which they are written."""
    values = sorted(possible) if all(map(_is_number, possible)) else possible
    return tuple(dict.fromkeys(visible_line(value_text(value)) for value in values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _curve(points: Sequence[Spot]) -> Curve:
    """Points from left to right; several may lie above each other."""
    across = sorted(points)
    return Curve(tuple(x for x, _ in across), tuple(y for _, y in across))
