"""The YAML as it will be written: against the file, or whole. Pure functions."""

from __future__ import annotations

import difflib
import re

from textual.content import Content

from tui.visible import visible_line

CONTEXT = 1
"""Unchanged lines around a change."""

_STYLES = {"-": "$text-error", "+": "$text-success", "@": "$text-muted"}
_HUNK = re.compile(r"@@ -(\d+)")


def diff_lines(before: str, after: str) -> list[str]:
    """Lines that begin with "- ", "+ " or "  ", and "@@ line 12 @@" before each group; none where nothing changes."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=CONTEXT)
    found = []
    for number, line in enumerate(lines):
        if number < 2:
            continue  # the names of the files, which the title says
        hunk = _HUNK.match(line)
        found.append(f"@@ line {hunk.group(1)} @@" if hunk else f"{line[0]} {line[1:]}")
    return found


def diff_content(before: str, after: str) -> Content:
    """The difference, each line with its sign and its colour."""
    return Content("\n").join(Content.styled(visible_line(line), _STYLES.get(line[0], ""))
                              for line in diff_lines(before, after))


def yaml_content(text: str) -> Content:
    """The whole text, comments less bright than settings."""
    return Content("\n").join(
        Content.styled(visible_line(line), "$text-muted" if line.lstrip().startswith("#") else "")
        for line in text.splitlines()
    )


def change_words(before: str, after: str) -> str:
    """How many lines go and come: "−1 +3 lines"."""
    lines = diff_lines(before, after)
    gone, come = (sum(line[0] == sign for line in lines) for sign in "-+")
    return f"−{gone} +{come} lines" if lines else "nothing to write"
