"""Axis limits and tick labels for a plot, linear and logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """Limits in drawing units and ticks as (position, label); a logarithmic axis draws log10 of the value."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


def nice_step(span: float, at_most: int) -> float:
    """The smallest of 1, 2, 2.5, 5 × 10^k that cuts `span` into at most `at_most` parts."""
    rough = span / max(1, at_most)
    power = 10.0 ** math.floor(math.log10(rough))
    return next((power * factor for factor in (1, 2, 2.5, 5) if power * factor >= rough * (1 - 1e-9)), power * 10)


def linear_axis(low: float, high: float, at_most: int, whole: bool = False) -> Axis:
    """An axis with round ticks. A span of zero is opened around its value.

    Args:
        low: smallest value.
        high: largest value.
        at_most: number of ticks that have room.
        whole: tick at whole numbers only (steps).
    """
    if high <= low:
        room = 1.0 if whole else (abs(low) * 0.1 or 1.0)
        low, high = max(0.0, low - room) if whole and low >= 0 else low - room, high + room
    step = nice_step(high - low, at_most)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    if low + step == low:  # the span is below what a float of this size can resolve
        return Axis(low, high, ((low, label(low, step)),))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return Axis(low, high, tuple((k * step, label(k * step, step)) for k in range(first, last + 1)))


def log_axis(low: float, high: float, at_most: int) -> Axis:
    """An axis over log10 of positive values; ticks at 1, 2, 5 × 10^k, or at powers alone when those are many."""
    low, high = math.log10(low), math.log10(high)
    if high - low < 0.02:
        low, high = low - 0.05, high + 0.05
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1,)):
        values = [factor * 10.0**power for power in powers for factor in factors]
        inside = [value for value in values if value > 0 and low - 1e-9 <= math.log10(value) <= high + 1e-9]
        if len(inside) <= at_most:
            break
    if len(inside) < 3:  # less than a factor of two or so: round values in equal steps say more
        plain = linear_axis(10**low, 10**high, at_most)
        return Axis(low, high, tuple((math.log10(value), words) for value, words in plain.ticks if value > 0))
    every = math.ceil(len(inside) / max(1, at_most))
    return Axis(low, high, tuple((math.log10(value), label(value, value)) for value in inside[::every]))


def label(value: float, step: float) -> str:
    """A tick's label with just the decimals that tell it from the next: "0.25", "1,200", "3M", "2e-5"."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-4:
        for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
            if limit <= size < limit * 1000:
                return f"{value / limit:.3g}{unit}"
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    digits = max(0, min(6, -math.floor(math.log10(step) + 1e-9)))
    if round(step, digits) != step and digits < 6:
        digits += 1  # a step of 2.5 × 10^k needs one more
    return f"{value:,.{digits}f}"


def limits(values: Iterable[tuple[float, float]]) -> tuple[float, float] | None:
    """The smallest pair of limits that holds all of some (low, high) pairs; None of none."""
    pairs = list(values)
    return (min(low for low, _ in pairs), max(high for _, high in pairs)) if pairs else None
