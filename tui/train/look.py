"""How the user looks at the plots: which part of the run, on which scale, and where the cursor stands."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace

from tui.train.curves import Curve

SMALLEST_SHARE = 1 / 64
"""The closest zoom, as a share of the run."""

FINE = 1 / 100
"""How far the cursor goes with one key, as a share of the window, where steps are closer together than that."""


@dataclass(frozen=True)
class Look:
    """How the user looks at the plots: a window that is a share of the run, log scale, smoothing.

    The window ends at the newest step and moves along with it, until it is moved away (`back` > 0) or a cursor is in
    it: then it stays at its steps. A cursor that leaves it pulls it along.
    """

    share: float = 1.0
    back: float = 0.0
    """Share of the run between the window's end and the newest step."""
    logarithmic: bool = False
    smooth: bool = True
    cursor: float | None = None
    """The step whose values are read; None while the cursor is off."""

    def zoomed(self, factor: float) -> Look:
        """Show `factor` times as much, between all and a sixty-fourth."""
        least = min(SMALLEST_SHARE, self.share)  # a window that stays is a smaller share of a longer run
        share = min(1.0, max(least, self.share * factor))
        return replace(self, share=share, back=min(self.back, 1 - share))

    def moved(self, windows: float) -> Look:
        """Look earlier (positive) or later by a share of the window."""
        return replace(self, back=min(1 - self.share, max(0.0, self.back + windows * self.share)))

    def whole(self) -> Look:
        """Show all steps."""
        return replace(self, share=1.0, back=0.0)

    def grown(self, before: Curve, after: Curve) -> Look:
        """With a window that was moved away, or has the cursor, at the same steps after the run has gone on."""
        if self.share >= 1 or (self.back <= 0 and self.cursor is None) or min(len(before), len(after)) < 2:
            return self
        ratio = _span(before) / _span(after)
        share = min(1.0, self.share * ratio)
        back = max(0.0, min(1 - share, 1 - (1 - self.back) * ratio))
        cursor = None if self.cursor is None else min(self.cursor, after.xs[-1])  # a run may go on from further back
        return replace(self, share=share, back=back, cursor=cursor)

    def on_other_scale(self) -> Look:
        """Linear instead of logarithmic, and the other way round."""
        return replace(self, logarithmic=not self.logarithmic)

    def with_smoothing(self, smooth: bool) -> Look:
        """With the smoothed loss, or without."""
        return replace(self, smooth=smooth)

    def unread(self) -> Look:
        """With the cursor off."""
        return replace(self, cursor=None)

    def centred(self, curve: Curve) -> Look:
        """With a zoomed window around the cursor, as far as the run goes."""
        if self.cursor is None or len(curve) < 2:
            return self
        first, last = min(0.0, curve.xs[0]), curve.xs[-1]
        back = (last - self.cursor) / (last - first) - self.share / 2
        return replace(self, back=max(0.0, min(1 - self.share, back)))

    def window(self, curve: Curve) -> tuple[float, float] | None:
        """The steps to show; None for all."""
        if self.share >= 1 or len(curve) < 2:
            return None
        first, last = min(0.0, curve.xs[0]), curve.xs[-1]
        width = self.share * (last - first)
        end = last - self.back * (last - first)
        if self.cursor is not None:
            end = min(max(end, self.cursor), self.cursor + width)
        return end - width, end

    def reading(self, curve: Curve) -> Look:
        """With the cursor on, at the end of what is shown."""
        window = self.window(curve)
        return self.at(window[1], curve) if window else self.at(curve.xs[-1], curve) if len(curve) else self

    def at(self, step: float, curve: Curve) -> Look:
        """With the cursor at the nearest step that there is; a zoomed window follows it."""
        if not len(curve):
            return self
        near = bisect_left(curve.xs, step)
        choice = curve.xs[max(0, near - 1):near + 1]
        cursor = min(choice, key=lambda x: abs(x - step))
        first, last = min(0.0, curve.xs[0]), curve.xs[-1]
        shown = replace(self, cursor=cursor).window(curve)
        back = (last - shown[1]) / (last - first) if shown else self.back
        return replace(self, cursor=cursor, back=max(0.0, min(1 - self.share, back)))

    def stepped(self, direction: int, curve: Curve, windows: float = FINE) -> Look:
        """With the cursor moved by a share of the window, and by one step at least."""
        if self.cursor is None or not len(curve):
            return self
        low, high = self.window(curve) or (curve.xs[0], curve.xs[-1])
        there = self.at(self.cursor + direction * windows * (high - low), curve)
        if there.cursor != self.cursor:
            return there
        place = bisect_left(curve.xs, self.cursor) + direction
        return self.at(curve.xs[max(0, min(len(curve) - 1, place))], curve)


def _span(curve: Curve) -> float:
    """Steps from the first to the newest, zero included."""
    return curve.xs[-1] - min(0.0, curve.xs[0])
