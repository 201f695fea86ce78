"""Numbers in words: durations, bytes, counts and shares as the screens print them."""

from __future__ import annotations

import math
import time


def duration(seconds: float | None) -> str:
    """"04:12", "1:04:12", "2 d 03:10"; "–" where nothing is known."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes:02}:{secs:02}"


def clock_time(seconds: float, seconds_too: bool = False) -> str:
    """"22:10", "22:10:04": the local time of day; "–" for what is no time."""
    try:
        return time.strftime("%H:%M:%S" if seconds_too else "%H:%M", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "–"


def data_size(count: float) -> str:
    """Bytes with a unit of a thousand: "3.1 GB", "640 MB"."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= limit:
            scaled = count / limit
            return f"{scaled:.1f} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"
    return f"{count:.0f} B"


def figure(value: float | None, digits: int = 3) -> str:
    """A loss or a norm: fixed decimals where they say something, else an exponent; NaN in words."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite"
    if value != 0 and not 10.0 ** -digits <= abs(value) < 1e5:
        return exponent(value)
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:,.1f}"


def exponent(value: float) -> str:
    """"8.1e-3": an exponent without padding zeros."""
    if value == 0 or not math.isfinite(value):
        return figure(value) if value != 0 else "0"
    mantissa, _, power = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"


def rate(value: float) -> str:
    """A learning rate: plain down to 0.001, else an exponent."""
    return f"{value:.4f}".rstrip("0") if 0.001 <= value < 10 else exponent(value)


def small_percent(share: float) -> str:
    """A tiny share with two significant digits: "0.0036 %"."""
    if share <= 0:
        return "0 %"
    digits = max(1, 1 - math.floor(math.log10(100 * share)))
    return f"{100 * share:.{digits}f} %"


def counted(number: int, unit: str) -> str:
    """"1 step", "1,204 steps": a number with its unit in the right form."""
    return f"{number:,} {unit.removesuffix('s') if number == 1 else unit}"
