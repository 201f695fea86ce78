"""Curves as pure data: growing them, cutting them to a window, and thinning them to what a plot can show."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Finite points with rising x; `dropped` counts those that were NaN or infinite."""

    xs: tuple[float, ...] = ()
    ys: tuple[float, ...] = ()
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.xs)

    @property
    def last(self) -> float | None:
        """The newest value; None of an empty curve."""
        return self.ys[-1] if self.ys else None

    def extended(self, points: Sequence[Point]) -> Curve:
        """The curve with more points. A point that goes back replaces what followed (a resumed run)."""
        if not points:
            return self
        kept, dropped = len(self.xs), self.dropped
        xs: list[float] = []
        ys: list[float] = []
        for x, y in points:
            if not (math.isfinite(x) and math.isfinite(y)):
                dropped += 1
                continue
            if xs and x <= xs[-1]:
                back = bisect_left(xs, x)
                del xs[back:], ys[back:]
            if not xs and kept and x <= self.xs[kept - 1]:
                kept = bisect_left(self.xs, x, 0, kept)
            xs.append(x)
            ys.append(y)
        return Curve(self.xs[:kept] + tuple(xs), self.ys[:kept] + tuple(ys), dropped)

    def thinned(self, low: float, high: float, columns: int) -> tuple[list[float], list[float]]:
        """The points in [low, high], at most the smallest and largest of each of `columns` columns.

        The neighbours just outside are kept too, so that a line leaves the plot at its edge instead of ending there.
        """
        start = max(0, bisect_left(self.xs, low) - 1)
        stop = min(len(self.xs), bisect_right(self.xs, high) + 1)
        if stop - start <= 2 * columns or high <= low:
            return list(self.xs[start:stop]), list(self.ys[start:stop])
        xs: list[float] = []
        ys: list[float] = []
        edge = start
        for column in range(1, columns + 1):
            end = stop if column == columns else bisect_left(self.xs, low + (high - low) * column / columns, edge, stop)
            if end > edge:
                for at in sorted({self._extreme(edge, end, largest) for largest in (False, True)}):
                    xs.append(self.xs[at])
                    ys.append(self.ys[at])
            edge = end
        return xs, ys

    def _extreme(self, start: int, stop: int, largest: bool) -> int:
        part = self.ys[start:stop]
        return start + part.index(max(part) if largest else min(part))


def smoothing_window(total_steps: int) -> int:
    """Steps that the smoothed curve averages over: a fifteenth of the run, between 4 and 100."""
    return min(100, max(4, total_steps // 15))


@dataclass(frozen=True)
class Smoother:
    """An exponential mean without the bias of its start (Kingma & Ba 2015, section 3)."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float, window: int) -> Smoother:
        """Take one more finite value; `window` is the span of steps that count."""
        share = 2 / (window + 1)
        return Smoother(self.total * (1 - share) + share * value, self.weight * (1 - share) + share)

    @property
    def value(self) -> float | None:
        """The mean so far."""
        return self.total / self.weight if self.weight else None
