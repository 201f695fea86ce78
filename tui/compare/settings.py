"""In which settings two runs differ. Pure functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from textual.content import Content

from core.contract.config import Config
from tui.visible import visible_line

SHORTEST_VALUE = 12
_GAP = "  "


@dataclass(frozen=True)
class Difference:
    """A setting that the runs of A and B have different values for, as `section.key`."""

    setting: str
    a: str
    b: str


def differences(a: Config, b: Config) -> tuple[Difference, ...]:
    """The settings that differ, in the order of the file."""
    first, second = a.model_dump(), b.model_dump()
    return tuple(
        Difference(f"{section}.{key}", _written(value), _written(second[section][key]))
        for section, values in first.items() for key, value in values.items() if value != second[section][key]
    )


def _written(value: Any) -> str:
    """A value as YAML would have it, on one line."""
    if isinstance(value, str):
        return visible_line(value) if value and value == value.strip() else visible_line(json.dumps(value))
    return visible_line(json.dumps(value, ensure_ascii=False))


def settings_content(found: tuple[Difference, ...], width: int) -> Content:
    """A table of what differs: setting, A, B; one below the other where there is no room for columns."""
    longest = max((len(one.setting) for one in found), default=0)
    free = width - longest - 2 * len(_GAP)
    room = max([SHORTEST_VALUE // 2, *(Content(one.a).cell_length for one in found)])
    if room + max((Content(one.b).cell_length for one in found), default=0) > free:
        room = free // 2
        if room < SHORTEST_VALUE:
            return Content("\n").join(line for one in found for line in _stacked(one, width))
    lines = [_columns("", "A", "B", longest, room, free).stylize("bold")]
    return Content("\n").join([*lines, *(_columns(one.setting, one.a, one.b, longest, room, free) for one in found)])


def _columns(setting: str, a: str, b: str, longest: int, room: int, free: int) -> Content:
    return Content.assemble((f"{setting:<{longest}}", "$text-muted"), _GAP, fitted(Content(a), room), _GAP,
                            Content(b).truncate(max(1, free - room), ellipsis=True))


def _stacked(one: Difference, width: int) -> list[Content]:
    values = [Content.assemble("  ", (letter, "bold"), " ", value).truncate(width, ellipsis=True)
              for letter, value in (("A", one.a), ("B", one.b))]
    return [Content.styled(one.setting, "$text-muted"), *values]


def fitted(content: Content, width: int, right: bool = False) -> Content:
    """Content of exactly so many cells: cut with an ellipsis, or padded."""
    cut = content.truncate(width, ellipsis=True)
    gap = max(0, width - cut.cell_length)
    return cut.pad_left(gap) if right else cut.pad_right(gap)
