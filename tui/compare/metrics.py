"""Metrics of two checkpoints side by side: A, B, the difference, and which is better. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from textual.content import Content

from core.contract.events import Score
from core.contract.statistics import wilson_interval
from core.contract.wording import measured_ks
from tui.checkpoints.columns import UNKNOWN, when
from tui.compare.comparison import Comparison, Side
from tui.compare.settings import fitted
from tui.formatting import data_size, figure, rate

Wanted = Literal["low", "high", ""]
"""Which values are better; "" where neither is."""

_SIGNS = {True: ("▲ better", "$text-success"), False: ("▼ worse", "$text-error"), None: ("", "")}
LABEL = 16
"""Cells of the names, unless one is longer."""
DIFFERENCE = 16
RANGED = 18
"""Cells that a pass@1 takes with its range beside it."""


@dataclass(frozen=True)
class Metric:
    """One line: what it is, its value for A and for B, the difference B − A, and whether that is better."""

    name: str
    a: str
    b: str
    difference: str = ""
    better: bool | None = None
    """None where they are alike, or where neither is better."""
    ranges: tuple[str, str] = ("", "")
    """95 % confidence intervals of a share."""


def metrics(comparison: Comparison) -> list[Metric]:
    """Every metric, those that tell of quality first."""
    a, b = comparison.a, comparison.b
    first, second = a.row, b.row
    kinds = (("held-out", a.heldout, b.heldout), ("training", a.train, b.train), ("all", a.overall, b.overall))
    ks = measured_ks(score for _, *scores in kinds for score in scores if score)
    return [
        _number("held-out loss", first.heldout_loss, second.heldout_loss, "low"),
        _number("perplexity", first.perplexity, second.perplexity, "low"),
        _number("training loss", first.train_loss, second.train_loss, "low"),
        *(_passes(k, kind, one, other) for k in ks for kind, one, other in kinds),
        Metric("problems passed", _passed(a), _passed(b)),
        Metric("epoch", _count(first.epoch), _count(second.epoch)),
        Metric("step", _count(first.step), _count(second.step)),
        Metric("virtual tokens", _count(first.virtual_tokens), _count(second.virtual_tokens)),
        Metric("learning rate", _rate(first.learning_rate), _rate(second.learning_rate)),
        Metric("size", data_size(first.size), data_size(second.size)),
        Metric("written", when(first.written), when(second.written)),
    ]


def _number(name: str, a: float | None, b: float | None, wanted: Wanted) -> Metric:
    return Metric(name, figure(a), figure(b), *_difference(a, b, wanted))


def _passes(k: int, kind: str, a: Score | None, b: Score | None) -> Metric:
    first, second = a.pass_at(k) if a else None, b.pass_at(k) if b else None
    ranges = (_range(a), _range(b)) if k == 1 else ("", "")
    return Metric(f"pass@{k} {kind}", figure(first), figure(second), *_difference(first, second, "high"), ranges)


def _difference(a: float | None, b: float | None, wanted: Wanted) -> tuple[str, bool | None]:
    """The difference as it is printed, and whether B is better; what would print as zero is the same."""
    if a is None or b is None or not (math.isfinite(a) and math.isfinite(b)):
        return "", None
    if f"{a:.6g}" == f"{b:.6g}":
        return "= the same", None
    return f"{'+' if b > a else '−'}{figure(abs(b - a))}", (b < a) == (wanted == "low")


def _range(score: Score | None) -> str:
    """Wilson's interval; "" where several samples a problem make pass@1 another thing than passed / total."""
    if score is None or score.pass_at_1 is None or score.several:
        return ""
    if abs(score.pass_at_1 - score.passed / score.total) > 1e-9:  # of a version that did not tell of samples
        return ""
    low, high = wilson_interval(score.passed, score.total)
    return f"{low:.2f}–{high:.2f}"


def _passed(side: Side) -> str:
    return f"{side.overall.passed} of {side.overall.total}" if side.overall else "not scored"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else rate(value)


def metrics_content(lines: Sequence[Metric], width: int) -> Content:
    """The table; ranges beside their figures where there is room, else below them."""
    label = max([LABEL, *(len(line.name) + 1 for line in lines)])
    room = max(8, (width - label - DIFFERENCE) // 2)
    beside = room >= RANGED
    ranges = " (95 % range)" if beside else ""
    head = _line(" " * label, f"A{ranges}", f"B{ranges}", Content("B − A"), min(room, 24)).stylize("bold")
    shown = [head]
    for line in lines:
        sign, style = _SIGNS[line.better]
        mark = Content.assemble(line.difference, "  " if sign else "", (sign, f"bold {style}"))
        a, b = ((f"{value} {f'({around})' if around else ''}".rstrip() if beside else value)
                for value, around in zip((line.a, line.b), line.ranges, strict=True))
        shown.append(_line(f"{line.name:<{label}}", a, b, mark, min(room, 24)))
        if not beside and any(line.ranges):
            below = _line(f"{'   95 % range':<{label}}", *line.ranges, Content(""), min(room, 24))
            shown.append(below.stylize("$text-muted"))
    return Content("\n").join(shown)


def _line(name: str, a: str, b: str, difference: Content, room: int) -> Content:
    return Content.assemble((name, "$text-muted"), fitted(Content(a), room), fitted(Content(b), room),
                            difference)


def metrics_text(lines: Sequence[Metric]) -> str:
    """The table as tab-separated text."""
    rows = [("metric", "A", "B", "B − A", "")]
    for line in lines:
        a, b = (f"{value} ({around})" if around else value
                for value, around in zip((line.a, line.b), line.ranges, strict=True))
        rows.append((line.name, a, b, line.difference, _SIGNS[line.better][0]))
    return "\n".join("\t".join(row).rstrip() for row in rows)
