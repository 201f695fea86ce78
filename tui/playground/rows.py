"""A prompt's end and its completion as rows of a pane: coloured, folded to the width, with a bar for what was written.

Text grows token by token, so rows that are settled are never made again: only the unsettled end is.
"""

from __future__ import annotations

import re
from itertools import islice

from textual.content import Content

from tui.problems.code import Code
from tui.visible import visible

PROMPT_LINES, FEW_PROMPT_LINES = 3, 1
"""Lines of the prompt above its completion, in a pane of some height and in a low one."""

SETTLE_FROM, SETTLE_ALL = 1_500, 4_000
"""Characters of unsettled text from which its lines are settled, and from which all of it is, come what may."""

NARROWEST = 8
BAR = ("┃ ", "bold $accent")
PROMPT_BAR = ("│ ", "$text-muted")

_LINE_END = re.compile("\r\n?|\n")
_STRING = "$text-success"


class GrowingRows:
    """The rows of one pane; `show` brings them up to date."""

    def __init__(self) -> None:
        self._lines = 0
        self._prompt = ""
        self._text = ""
        self._width = 0
        self._before: list[Content] = []
        self._start = ""
        self._settled = 0
        self._settled_rows: list[Content] = []
        self._open_rows: list[Content] = []

    @property
    def rows(self) -> list[Content]:
        """All of them, each at most as wide as was asked."""
        return [*self._before, *self._settled_rows, *self._open_rows]

    def show(self, prompt: str, completion: str, width: int, lines: int = PROMPT_LINES) -> None:
        """Show a completion of a prompt in `width` cells, below that many whole lines of the prompt."""
        if (prompt, width, lines) != (self._prompt, self._width, self._lines) or not completion.startswith(self._text):
            self._begin(prompt, width, lines)
        elif completion == self._text:
            return
        self._text = completion
        if completion:
            self._continue(self._start + completion)

    def _continue(self, text: str) -> None:
        """Make rows of what is not settled, and settle what can be."""
        while True:
            piece = text[self._settled:self._settled + SETTLE_ALL]
            code = Code(piece)
            lines = [code.styled(index) for index in range(len(code.lines))]
            ended = settled_lines(piece, lines, self._settled + len(piece) < len(text))
            if not ended:
                self._open_rows = self._made(lines if lines[-1].plain else lines[:-1])
                return
            self._settled_rows += self._made(lines[:ended])
            self._settled += length_of_lines(piece, ended)

    def _begin(self, prompt: str, width: int, lines: int) -> None:
        self._prompt, self._width, self._lines = prompt, width, lines
        *whole, self._start = prompt.split("\n")
        shown = [Content.styled(visible(line), "$text-muted") for line in whole[-lines:]]
        self._before = [row for line in shown for row in self._folded(line, PROMPT_BAR)]
        self._settled, self._settled_rows, self._text = 0, [], ""
        self._open_rows = self._folded(Content.styled(visible(self._start), "$text-muted"), PROMPT_BAR) \
            if self._start else []

    def _made(self, lines: list[Content]) -> list[Content]:
        if self._settled == 0 and self._start:
            lines = [lines[0].stylize("$text-muted italic", 0, len(visible(self._start))), *lines[1:]]
        return [row for line in lines for row in self._folded(line, BAR)]

    def _folded(self, line: Content, bar: tuple[str, str]) -> list[Content]:
        room = max(NARROWEST, self._width - len(bar[0]))
        return [Content.assemble(bar, row) for row in (line.wrap(room) if line.plain else [line])]


def settled_lines(piece: str, lines: list[Content], more: bool) -> int:
    """How many lines at the start of unsettled text can be settled; 0 for none yet.

    Args:
        piece: the text, SETTLE_ALL characters at most.
        lines: the same as lines in colours.
        more: whether text follows the piece.

    A line inside a string waits for the string's end, because colours are found anew from where settling stopped.
    """
    if len(piece) < SETTLE_FROM:
        return 0
    written = [index for index, line in enumerate(lines) if line.plain]
    for before, index in reversed(list(zip(written, written[1:], strict=False))):
        if not (_ends_in_string(lines[before]) and _begins_in_string(lines[index])):
            return index
    return (len(lines) - 1 or 1) if more else 0


def length_of_lines(piece: str, lines: int) -> int:
    """Characters that so many lines have, line ends and all."""
    ends = [match.end() for match in islice(_LINE_END.finditer(piece), lines)]
    return ends[-1] if len(ends) == lines else len(piece)


def _ends_in_string(line: Content) -> bool:
    return any(span.end == len(line) and str(span.style).startswith(_STRING) for span in line.spans)


def _begins_in_string(line: Content) -> bool:
    return any(span.start == 0 and str(span.style).startswith(_STRING) for span in line.spans)
