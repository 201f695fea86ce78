"""Curves as pure data: growing them, cutting them to a window, and thinning them to what a plot can show."""

from __future__ import annotations

import math
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, starmap

Point = tuple[float, float]

BLOCK = 64
"""Points whose extremes are remembered together, so that thinning a long curve does not look at each of its points."""


@dataclass(frozen=True)
class Curve:
    """Finite points with rising x; `lost` has the x of those that were NaN or infinite."""

    xs: tuple[float, ...] = ()
    ys: tuple[float, ...] = ()
    lost: tuple[float, ...] = ()
    extremes: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """Indices of the smallest and the largest point of each whole block, one after the other, for as many blocks as
    are known; a curve that was made by hand has none, and is looked through."""

    def __len__(self) -> int:
        return len(self.xs)

    @property
    def dropped(self) -> int:
        """How many points were NaN or infinite."""
        return len(self.lost)

    @property
    def last(self) -> float | None:
        """The newest value; None of an empty curve."""
        return self.ys[-1] if self.ys else None

    def at(self, x: float) -> Point | None:
        """The last point at or before `x`; None where there is none."""
        found = bisect_right(self.xs, x)
        return (self.xs[found - 1], self.ys[found - 1]) if found else None

    def mean(self, after: float, until: float) -> float | None:
        """The mean of the values with after < x <= until; None where there are none."""
        start, stop = bisect_right(self.xs, after), bisect_right(self.xs, until)
        return sum(self.ys[start:stop]) / (stop - start) if stop > start else None

    def extended(self, points: Sequence[Point]) -> Curve:
        """The curve with more points. A point that goes back replaces what followed (a resumed run)."""
        return self.joined([x for x, _ in points], [y for _, y in points])

    def joined(self, xs: Sequence[float], ys: Sequence[float]) -> Curve:
        """The same, given as one sequence of x and one of y."""
        if not xs:
            return self
        kept, lost = len(self.xs), self.lost
        if not _plain(xs, ys):
            xs, ys, more = _sifted(xs, ys)
            lost += tuple(more)
        if xs and kept and xs[0] <= self.xs[kept - 1]:
            kept = bisect_left(self.xs, xs[0], 0, kept)
        return _blocked(self.xs[:kept] + tuple(xs), self.ys[:kept] + tuple(ys), lost,
                        self.extremes[: kept // BLOCK * 2])

    def until(self, x: float) -> Curve:
        """The curve as it was up to and with `x`."""
        kept = bisect_right(self.xs, x)
        lost = tuple(at for at in self.lost if at <= x)
        if kept == len(self.xs) and len(lost) == len(self.lost):
            return self
        return Curve(self.xs[:kept], self.ys[:kept], lost, self.extremes[: kept // BLOCK * 2])

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
                for at in sorted(set(self._extremes(edge, end))):
                    xs.append(self.xs[at])
                    ys.append(self.ys[at])
            edge = end
        return xs, ys

    def _extremes(self, start: int, stop: int) -> tuple[int, int]:
        """Indices of the smallest and the largest of the points in [start, stop)."""
        ys = self.ys
        first, last = -(-start // BLOCK), min(stop // BLOCK, len(self.extremes) // 2)
        if last <= first:
            part = ys[start:stop]
            return start + part.index(min(part)), start + part.index(max(part))
        candidates = (*range(start, first * BLOCK), *self.extremes[2 * first: 2 * last], *range(last * BLOCK, stop))
        return min(candidates, key=ys.__getitem__), max(candidates, key=ys.__getitem__)


def _plain(xs: Sequence[float], ys: Sequence[float]) -> bool:
    """Whether all are finite and x rises: the common case, told without a loop in Python."""
    try:
        finite = math.isfinite(sum(ys)) and math.isfinite(xs[0]) and math.isfinite(xs[-1])
    except OverflowError:  # a whole number that no float can hold
        return False
    return finite and all(starmap(operator.lt, pairwise(xs)))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _sifted(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float], list[float]]:
    """Rising and finite points of some, and the x of those that were not finite."""
    kept_xs: list[float] = []
    kept_ys: list[float] = []
    lost: list[float] = []
    for x, y in zip(xs, ys, strict=True):
        if not (_finite(x) and _finite(y)):
            lost.append(x)
            continue
        if kept_xs and x <= kept_xs[-1]:
            back = bisect_left(kept_xs, x)
            del kept_xs[back:], kept_ys[back:]
        kept_xs.append(x)
        kept_ys.append(y)
    return kept_xs, kept_ys, lost


def _blocked(
    xs: tuple[float, ...], ys: tuple[float, ...], lost: tuple[float, ...], known: tuple[int, ...]
) -> Curve:
    """A curve with the extremes of all its whole blocks; `known` are those of its first ones."""
    found: list[int] = []
    for start in range(len(known) // 2 * BLOCK, len(ys) // BLOCK * BLOCK, BLOCK):
        part = ys[start:start + BLOCK]
        found += (start + part.index(min(part)), start + part.index(max(part)))
    return Curve(xs, ys, lost, known + tuple(found))


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

    def add_all(self, values: Sequence[float], window: int) -> tuple[Smoother, list[float]]:
        """Take several finite values; gives the mean after each of them too."""
        share, total, weight = 2 / (window + 1), self.total, self.weight
        means: list[float] = []
        for value in values:
            total = total * (1 - share) + share * value
            weight = weight * (1 - share) + share
            means.append(total / weight)
        return Smoother(total, weight), means

    @property
    def value(self) -> float | None:
        """The mean so far."""
        return self.total / self.weight if self.weight else None
