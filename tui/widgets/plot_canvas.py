"""The one place that touches plotext: a picture in, styled text out.

plotext's figure is one per process and not locked, so this runs on the UI thread only. Colours never reach it: each
trace is drawn in a palette number that stands for it, and the numbers become theme variables here. So a theme change
needs no new plot, and nothing depends on the themes of plotext.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from textual.content import Content, Span

from tui.train.axes import Axis, limits, linear_axis, log_axis
from tui.train.curves import Curve

Glyph = Literal["line", "dots", "points"]

XScale = Literal["steps", "whole", "numbers", "powers", "names"]
"""What an x value is: a step, another whole number, any number, the log10 of one, the place of a name."""

MARKS: dict[Glyph, str] = {"line": "━", "dots": "⠢", "points": "●"}
"""How each kind of trace looks in a legend: told apart by shape, not by colour alone."""

CURSOR = "│"
"""The cursor's cells."""

SPOT = "◆"
"""The cell of a point that is marked."""

LARGEST = 1e150
"""Values beyond are drawn here: the span of two of them still has to be a number."""

_AXIS_LINES = 2
_CURSOR_STYLE = "$foreground"
_SPOT_STYLE = "bold $text-accent"
_FRAME_TAG = 90
_FIRST_TAG = 100
_FRAME_STYLE = "$plot-frame 85%"
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")
_COLOUR = re.compile(r"38;5;(\d+)")


@dataclass(frozen=True)
class Trace:
    """One curve of a plot. `style` is a content style such as "$plot-train"; one without a name is in no legend."""

    name: str
    curve: Curve
    style: str
    glyph: Glyph = "line"
    mark: str = ""
    """A letter that stands for the points, or at the end of the line, so that many curves are told apart."""

    @property
    def sign(self) -> str:
        """How the trace looks in a legend."""
        return self.mark or MARKS[self.glyph]


@dataclass(frozen=True)
class Picture:
    """All that a plot shows."""

    title: str = ""
    traces: tuple[Trace, ...] = ()
    window: tuple[float, float] | None = None
    """The x values to show; None for all."""
    logarithmic: bool = False
    from_zero: bool = False
    """Whether the y axis begins at zero."""
    empty: str = "no data yet"
    ahead: float | None = None
    """Where the x axis ends at least: a run that goes on grows into this room, instead of being squeezed anew with
    every step."""
    cursor: float | None = None
    """The x value at which a vertical line stands."""
    spot: tuple[float, float] | None = None
    """A point that is marked."""
    x_scale: XScale = "steps"
    x_names: tuple[str, ...] = ()
    """What stands at 0, 1, 2, … of the x axis, where these are places of names."""

    def same_as(self, other: Picture) -> bool:
        """Whether both draw alike but for cursor and spot; curves are compared by identity, because they are long."""
        return (
            len(self.traces) == len(other.traces)
            and all(_same(a.curve, b.curve) and (a.name, a.style, a.glyph, a.mark) == (b.name, b.style, b.glyph, b.mark)
                    for a, b in zip(self.traces, other.traces, strict=True))
            and (self.title, self.window, self.logarithmic, self.from_zero, self.empty, self.ahead, self.x_scale,
                 self.x_names)
            == (other.title, other.window, other.logarithmic, other.from_zero, other.empty, other.ahead, other.x_scale,
                other.x_names)
        )

    def x_limits(self) -> tuple[float, float] | None:
        """The x values to draw: the window, else all that the traces span."""
        if self.window:
            return self.window
        spanned = limits((t.curve.xs[0], t.curve.xs[-1]) for t in self.traces if len(t.curve))
        return (spanned[0], max(spanned[1], self.ahead)) if spanned and self.ahead is not None else spanned


def _same(a: Curve, b: Curve) -> bool:
    return a is b or (len(a) == len(b) <= 2 and a == b)  # a level line is made anew each time


@dataclass(frozen=True)
class Drawing:
    """A drawn picture, and where its canvas is, so that a cursor can be put on it without drawing it again."""

    content: Content
    left: int = 0
    """Cells before the canvas."""
    columns: int = 0
    """Cells of the canvas."""
    low: float = 0.0
    high: float = 0.0
    y_axis: Axis = Axis(0.0, 0.0, ())

    def with_spot(self, spot: tuple[float, float] | None, logarithmic: bool) -> Content:
        """The content with one point marked, over whatever is there."""
        if spot is None or not self.columns:
            return self.content
        lines = [*self.content.split("\n", allow_blank=True)]  # Textual keeps the list that it gives
        x, y = spot[0], math.log10(spot[1]) if logarithmic and spot[1] > 0 else spot[1]
        across = (x - self.low) / (self.high - self.low)
        up = (y - self.y_axis.low) / (self.y_axis.high - self.y_axis.low)
        if not (0 <= across <= 1 and 0 <= up <= 1):
            return self.content
        column, rows = self.left + int(across * (self.columns - 1) + 0.5), len(lines) - _AXIS_LINES
        row = rows - 1 - int(up * (rows - 1) + 0.5)
        # plotext rounds halves in another way: the point may have been drawn in the next cell.
        near = [(row + j, column + i) for j in (0, 1, -1) for i in (0, 1, -1) if 0 <= row + j < rows]
        drawn = (cell for cell in near if lines[cell[0]].plain[cell[1]:cell[1] + 1].strip())
        row, column = next(drawn, (row, column))
        line = lines[row].pad_right(max(0, column - len(lines[row].plain)))
        lines[row] = Content.assemble(line[:column], (SPOT, _SPOT_STYLE), line[column + 1:])
        return Content("\n").join(lines)

    def with_cursor(self, x: float | None) -> Content:
        """The content with a vertical line at `x`; cells that a curve has keep it."""
        if x is None or not self.columns or not self.low <= x <= self.high:
            return self.content
        column = self.left + int((x - self.low) / (self.high - self.low) * (self.columns - 1) + 0.5)
        lines = self.content.split("\n", allow_blank=True)
        return Content("\n").join([*(_marked(line, column) for line in lines[:-_AXIS_LINES]), *lines[-_AXIS_LINES:]])


def _marked(line: Content, column: int) -> Content:
    """A line of the canvas with the cursor in one cell, where that is free."""
    if line.plain[column:column + 1] not in (" ", ""):
        return line
    padded = line.pad_right(max(0, column - len(line.plain)))
    return Content.assemble(padded[:column], (CURSOR, _CURSOR_STYLE), padded[column + 1:])


Drawable = tuple[Trace, list[float], list[float]]


def draw(picture: Picture, width: int, height: int) -> Content:
    """The picture as `height` lines of `width` cells; a sentence where there is nothing to draw."""
    return drawing(picture, width, height).with_cursor(picture.cursor)


def drawing(picture: Picture, width: int, height: int) -> Drawing:
    """The same without the cursor, and with what is needed to put one on it."""
    across = picture.x_limits()
    if across is None or width < 12 or height < 3:
        return Drawing(_sentence(picture.empty, width, height))
    drawables = [_prepared(trace, across, width, picture.logarithmic) for trace in picture.traces]
    inside = [
        (min(ys), max(ys)) for _, xs, all_ys in drawables
        if (ys := [y for x, y in zip(xs, all_ys, strict=True) if across[0] <= x <= across[1]])
    ]
    span = limits(inside)
    if span is None:
        nothing = "nothing above zero to draw on a log scale" if picture.logarithmic else "no data in this window"
        said = nothing if any(len(t.curve) for t in picture.traces) else picture.empty
        return Drawing(_sentence(said, width, height))
    x_axis, y_axis = _x_axis(across, width, picture), _y_axis(span, height, picture)
    content = _styled(_plotext(drawables, x_axis, y_axis, width, height), picture)
    left = max((len(words) for _, words in y_axis.ticks), default=0) + 1
    return Drawing(content, left, max(0, width - left), x_axis.low, x_axis.high, y_axis)


def _prepared(trace: Trace, across: tuple[float, float], width: int, logarithmic: bool) -> Drawable:
    xs, ys = trace.curve.thinned(*across, width)
    if ys and (min(ys) < -LARGEST or max(ys) > LARGEST):
        ys = [max(-LARGEST, min(LARGEST, y)) for y in ys]
    if logarithmic:
        kept = [(x, math.log10(y)) for x, y in zip(xs, ys, strict=True) if y > 0]
        xs, ys = [x for x, _ in kept], [y for _, y in kept]
    return trace, xs, ys


def _x_axis(across: tuple[float, float], width: int, picture: Picture) -> Axis:
    at_most = max(2, width // 9)
    if picture.x_scale == "names":
        room = max(1, width // max(1, len(picture.x_names)) - 2)
        return Axis(*across, tuple((float(place), name if len(name) <= room else f"{name[:room - 1]}…")
                                   for place, name in enumerate(picture.x_names)))
    if picture.x_scale == "powers":
        return log_axis(10 ** across[0], 10 ** across[1], at_most)
    return linear_axis(*across, at_most=at_most, whole=picture.x_scale in ("steps", "whole"))


def _y_axis(span: tuple[float, float], height: int, picture: Picture) -> Axis:
    low, high = span
    if picture.logarithmic:
        return log_axis(10**low, 10**high, at_most=max(2, height // 2))
    if picture.from_zero:
        low, high = min(0.0, low), high * 1.08 or 1.0
    elif high > low:
        low, high = low - (high - low) * 0.04, high + (high - low) * 0.04
    return linear_axis(low, high, at_most=max(3, round(height / 2.5)))


def _plotext(drawables: list[Drawable], x_axis: Axis, y_axis: Axis, width: int, height: int) -> str:
    """Draw with plotext; imported here because the first frame should not wait for it."""
    import plotext  # type: ignore[import-untyped]

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.canvas("default")
    figure.axes(False, axis=[0, 1], side=1)
    figure.axes(True, pixel=_FRAME_TAG, axis=[0, 1], side=0)
    figure.legend(False)
    for name, axis in (("x", x_axis), ("y", y_axis)):
        ruler = figure.ruler(name, 0)
        ruler.lim(axis.low, axis.high)
        ruler.ticks([position for position, _ in axis.ticks], [label for _, label in axis.ticks])
        ruler.pixel(_FRAME_TAG)
    for number, (trace, xs, ys) in enumerate(drawables):
        if not xs:
            continue
        pixel = plotext.pixel(_FIRST_TAG + number)
        marker = plotext.marker(trace.sign if trace.glyph == "points" else "braille", pixel=pixel)
        figure.draw(figure.signal(xs, ys, marker=marker).lines(trace.glyph == "line"))
        if trace.mark and trace.glyph == "line":
            last = max((n for n, x in enumerate(xs) if x <= x_axis.high), default=0)
            figure.draw(figure.signal(xs[last:last + 1], ys[last:last + 1],
                                      marker=plotext.marker(trace.mark, pixel=pixel)))
    return str(figure.build().string())


def _styled(drawn: str, picture: Picture) -> Content:
    """plotext's text with its palette numbers turned into the styles that they stand for."""
    styles = {_FRAME_TAG: _FRAME_STYLE, **{_FIRST_TAG + n: trace.style for n, trace in enumerate(picture.traces)}}
    plain: list[str] = []
    spans: list[Span] = []
    at, style, length = 0, "", 0
    for escape in _ESCAPE.finditer(drawn):
        part = drawn[at:escape.start()]
        if part and style:
            spans.append(Span(length, length + len(part), style))
        plain.append(part)
        length += len(part)
        at = escape.end()
        code = _COLOUR.search(escape[1])
        style = styles.get(int(code[1]), "") if code else "" if escape[1] in ("", "0") else style
    plain.append(drawn[at:])
    return Content("".join(plain).rstrip("\n"), spans=spans)


def _sentence(words: str, width: int, height: int) -> Content:
    above = "\n" * max(0, (height - 1) // 2)
    return Content(above + words[:width].center(width)).stylize("$text-muted italic")
