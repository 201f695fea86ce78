"""The loss curves of two runs, read from their events and laid over each other."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.contract.event_log import EventTail
from core.contract.runs import RunFolder
from tui.formatting import figure
from tui.run_view import RunView, advance
from tui.train.curves import Curve
from tui.widgets.plot_canvas import Picture, Trace

PART = 2_000_000
"""Bytes of events taken in at once: parsing holds the interpreter, and keys should not notice."""

SIDE_STYLES = {"A": "$plot-train", "B": "$plot-heldout"}
"""Each side keeps its colour wherever it is shown."""


@dataclass(frozen=True)
class RunCurves:
    """The losses of a run, by optimizer step; `fault` says why there are none."""

    train: Curve = Curve()
    """Smoothed."""
    heldout: Curve = Curve()
    fault: str = ""


class CurvesReader:
    """Reads the events of a run part by part: a long log is then no single long wait. For a worker thread."""

    def __init__(self, folder: RunFolder) -> None:
        self._path = Path(folder.events_file)
        self._tail = EventTail(self._path)
        self._view = RunView()
        self.done = False

    def read(self) -> RunCurves:
        """Read one more part; the curves by now. `done` says if that was the last one."""
        gc.disable()  # many objects that all stay: looking through them takes half the time
        try:
            return self._read()
        finally:
            gc.enable()

    def _read(self) -> RunCurves:
        try:
            events = self._tail.read(PART)
        except OSError as error:
            self.done = True
            return RunCurves(fault=f"{self._path.name} cannot be read: {error.strerror}")
        self._view = advance(self._view, events)
        self.done = not self._tail.behind
        return RunCurves(self._view.smooth_loss, self._view.heldout_loss)


@dataclass(frozen=True)
class CurveSide:
    """One side of the picture: its curves, and where on them its checkpoint is."""

    curves: RunCurves = RunCurves()
    step: int | None = None
    heldout_loss: float | None = None

    @property
    def place(self) -> Curve:
        """The checkpoint as a point; empty where its step or its loss is unknown."""
        if self.step is None or self.heldout_loss is None:
            return Curve()
        return Curve().extended([(float(self.step), self.heldout_loss)])


def curves_picture(
    a: CurveSide, b: CurveSide, *, one_run: bool, logarithmic: bool, reading: bool,
) -> tuple[Picture, str]:
    """The picture and its lower-edge values. The letters A and B stand where the checkpoints were saved.

    Args:
        one_run: both are checkpoints of the same run, which has one pair of curves.
        reading: more of the events is still to come.
    """
    traces = _one_run(a) if one_run else (*_side("A", a), *_side("B", b))
    places = (Trace("", a.place, f"bold {SIDE_STYLES['A']}", "points", "A"),
              Trace("", b.place, f"bold {SIDE_STYLES['B']}", "points", "B"))
    shown = tuple(trace for trace in (*traces, *places) if len(trace.curve))
    empty = "reading the events …" if reading else "neither run has events with a loss"
    picture = Picture("loss", shown, logarithmic=logarithmic, empty=empty)
    if reading:
        return picture, "reading the events …"
    sides = (("both", a),) if one_run else (("A", a), ("B", b))
    return picture, _values(sides) if shown or a.curves.fault or b.curves.fault else ""


def _one_run(side: CurveSide) -> tuple[Trace, ...]:
    return (Trace("train", side.curves.train, "$plot-smooth"),
            Trace("held-out", side.curves.heldout, "$plot-frame", "points"))


def _side(letter: str, side: CurveSide) -> tuple[Trace, ...]:
    style, second = SIDE_STYLES[letter], letter == "B"
    return (Trace(letter, side.curves.train, style, "dots" if second else "line"),
            Trace(f"{letter} held-out", side.curves.heldout, f"bold {style}", "points", "○" if second else ""))


def _values(sides: Sequence[tuple[str, CurveSide]]) -> str:
    """The last held-out losses; a run without one is named, and one whose events cannot be read says why."""
    said = []
    for letter, side in sides:
        last = side.curves.heldout.last
        missing = f"{letter}: {side.curves.fault}" if side.curves.fault else f"{letter} has none"
        said.append(missing if last is None else f"{letter} {figure(last)}")
    return "last held-out: " + "  ".join(said)
