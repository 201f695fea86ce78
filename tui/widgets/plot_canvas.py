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

from tui.axes import Axis, limits, linear_axis, log_axis
from tui.curves import Curve

Glyph = Literal["line", "dots", "points"]

MARKS: dict[Glyph, str] = {"line": "━", "dots": "⠢", "points": "●"}
"""How each kind of trace looks in a legend: told apart by shape, not by colour alone."""

_FRAME_TAG = 90
_FIRST_TAG = 100
_FRAME_STYLE = "$plot-frame 60%"
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")
_COLOUR = re.compile(r"38;5;(\d+)")


@dataclass(frozen=True)
class Trace:
    """One curve of a plot. `style` is a content style such as "$plot-train"."""

    name: str
    curve: Curve
    style: str
    glyph: Glyph = "line"


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

    def same_as(self, other: Picture) -> bool:
        """Whether both draw alike; curves are compared by identity, because they are long."""
        return (
            len(self.traces) == len(other.traces)
            and all(a.curve is b.curve and (a.name, a.style, a.glyph) == (b.name, b.style, b.glyph)
                    for a, b in zip(self.traces, other.traces, strict=True))
            and (self.title, self.window, self.logarithmic, self.from_zero, self.empty)
            == (other.title, other.window, other.logarithmic, other.from_zero, other.empty)
        )

    def x_limits(self) -> tuple[float, float] | None:
        """The x values to draw: the window, else all that the traces span."""
        return self.window or limits((t.curve.xs[0], t.curve.xs[-1]) for t in self.traces if len(t.curve))


Drawable = tuple[Trace, list[float], list[float]]


def draw(picture: Picture, width: int, height: int) -> Content:
    """The picture as `height` lines of `width` cells; a sentence where there is nothing to draw."""
    across = picture.x_limits()
    if across is None or width < 12 or height < 3:
        return _sentence(picture.empty, width, height)
    drawables = [_prepared(trace, across, width, picture.logarithmic) for trace in picture.traces]
    inside = [
        (min(ys), max(ys)) for _, xs, all_ys in drawables
        if (ys := [y for x, y in zip(xs, all_ys, strict=True) if across[0] <= x <= across[1]])
    ]
    span = limits(inside)
    if span is None:
        nothing = "nothing above zero to draw on a log scale" if picture.logarithmic else "no data in this window"
        return _sentence(nothing if any(len(t.curve) for t in picture.traces) else picture.empty, width, height)
    return _styled(_plotext(drawables, _x_axis(across, width), _y_axis(span, height, picture), width, height), picture)


def _prepared(trace: Trace, across: tuple[float, float], width: int, logarithmic: bool) -> Drawable:
    xs, ys = trace.curve.thinned(*across, width)
    if logarithmic:
        kept = [(x, math.log10(y)) for x, y in zip(xs, ys, strict=True) if y > 0]
        xs, ys = [x for x, _ in kept], [y for _, y in kept]
    return trace, xs, ys


def _x_axis(across: tuple[float, float], width: int) -> Axis:
    return linear_axis(*across, at_most=max(2, width // 9), whole=True)


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
        marker = plotext.marker("●" if trace.glyph == "points" else "braille", pixel=pixel)
        figure.draw(figure.signal(xs, ys, marker=marker).lines(trace.glyph == "line"))
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
