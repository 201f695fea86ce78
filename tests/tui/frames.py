"""What the app shows, as text that a person can read and a diff can show: characters, then styles run by run."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.geometry import Region
from textual.strip import Strip

LETTERS = string.ascii_letters + string.digits
LOWEST_CONTRAST = 3.0
"""WCAG 2.1, success criterion 1.4.11: what has to be told apart; all text is above it."""


@dataclass(frozen=True)
class Frame:
    """One screen as it is painted: `rows[y]` are segments from left to right."""

    rows: tuple[tuple[Segment, ...], ...]

    @property
    def text(self) -> str:
        """The characters, without blanks at line ends."""
        return "\n".join("".join(segment.text for segment in row).rstrip() for row in self.rows)

    def cropped(self, region: Region) -> Frame:
        """A part of the screen."""
        rows = self.rows[region.y:region.bottom]
        return Frame(tuple(tuple(Strip(row).crop(region.x, region.right)) for row in rows))

    def styles(self) -> list[str]:
        """The styles: a legend of letters, then a line a row such as "12a 3b" (12 cells of style a, 3 of b)."""
        letters: dict[str, str] = {}
        lines = []
        for row in self.rows:
            runs: list[list[object]] = []
            for segment in row:
                name = describe(segment.style)
                letter = letters.setdefault(name, LETTERS[len(letters)] if len(letters) < len(LETTERS) else "?")
                if runs and runs[-1][1] == letter:
                    runs[-1][0] = int(str(runs[-1][0])) + cell_len(segment.text)
                else:
                    runs.append([cell_len(segment.text), letter])
            lines.append(" ".join(f"{count}{letter}" for count, letter in runs))
        return [*(f"{letter} {name}" for name, letter in letters.items()), "--", *lines]

    def faint(self) -> Iterator[str]:
        """Texts whose colour is too near to that of their background to be read."""
        for number, row in enumerate(self.rows):
            for segment in row:
                words = segment.text.strip(" ─│╭╮╰╯┌┐└┘├┤┬┴┼━┃▁▂▃▄▅▆▇█▏▎▍▌▋▊▉░▒▓▔▕╸╺·")
                style = segment.style
                if words and style and style.color and style.bgcolor and style.color.triplet and style.bgcolor.triplet:
                    ratio = contrast(Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor))
                    if ratio < LOWEST_CONTRAST:
                        yield f"row {number}: {words!r} {describe(style)} has contrast {ratio:.1f}"


def frame_of(app: App[object]) -> Frame:
    """What the app's screen shows now."""
    strips = app.screen._compositor.render_strips()
    return Frame(tuple(tuple(strip) for strip in strips))


def describe(style: Style | None) -> str:
    """A style as text: "#c8d3f5 on #16161e bold"."""
    if style is None:
        return "plain"
    words = [style.color.name if style.color else "default", "on", style.bgcolor.name if style.bgcolor else "default"]
    words += [name for name in ("bold", "dim", "italic", "underline", "reverse", "strike") if getattr(style, name)]
    return " ".join(words)


def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of two colours (WCAG 2.1), from 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: Color) -> float:
    """Relative luminance (WCAG 2.1)."""
    parts = [value / 255 for value in colour.rgb]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
