"""Program text as lines in colours, lexed no further than somebody has looked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from textual.content import Content, Span

from tui.visible import visible

LONGEST_HIGHLIGHTED = 12_000
"""Characters of a text that get colours: to jump to its end must stay quicker than a key repeats."""

LONGEST_LEXED_LINE = 1_000
"""Characters of one line that get colours; a model may write a single line of any length."""

_LINE_END = re.compile("\r\n?")


class Code:
    """A text as safe lines, coloured as Python one by one.

    Line ends are Python's own: a carriage return ends a line too, and is shown.
    """

    def __init__(self, text: str) -> None:
        self.lines = tuple(visible(_LINE_END.sub("␍\n", text)).split("\n"))
        self._spans = self._lexed()
        self._done: list[list[Span]] = []

    def styled(self, index: int) -> Content:
        """A line in colours of the theme."""
        while len(self._done) <= index:
            self._done.append(next(self._spans, []))
        return Content(self.lines[index], spans=self._done[index])

    def _lexed(self) -> Iterator[list[Span]]:
        """The spans of one line after another."""
        text = "\n".join(line[:LONGEST_LEXED_LINE] for line in self.lines)[:LONGEST_HIGHLIGHTED]
        spans: list[Span] = []
        column = 0
        for _, kind, value in _lexer().get_tokens_unprocessed(text):
            style = _style(kind)
            for number, piece in enumerate(value.split("\n")):
                if number:
                    yield spans
                    spans, column = [], 0
                if piece and style:
                    spans.append(Span(column, column + len(piece), style))
                column += len(piece)
        yield spans


class Plain(Code):
    """A text as safe lines without colours: what a program printed, a traceback."""

    def _lexed(self) -> Iterator[list[Span]]:
        return iter(())


@lru_cache(maxsize=128)
def code_of(text: str) -> Code:
    """The code of a text; one that was looked at lately is not lexed again."""
    return Code(text)


@lru_cache(maxsize=128)
def plain_of(text: str) -> Plain:
    """The plain lines of a text."""
    return Plain(text)


def warm_up() -> None:
    """Import and try the lexer, so that the first problem does not wait for it."""
    Code("x = 1").styled(0)


@lru_cache(maxsize=1)
def _lexer() -> Any:
    # Not before the first code is shown. `pygments.lexers` puts another module in its own place while it is imported:
    # of two threads that ask it for a name at that moment, one may be refused.
    from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]

    return PythonLexer(stripnl=False)


@lru_cache(maxsize=1)
def _styles() -> dict[Any, str]:
    """Few colours, all of the theme, none with a background."""
    from pygments.token import Token  # type: ignore[import-untyped]

    return {
        Token.Comment: "$text-muted italic",
        Token.Keyword: "bold $text-primary",
        Token.Name.Builtin: "$text-secondary",
        Token.Name.Function: "$text-warning",
        Token.Name.Class: "$text-warning",
        Token.Name.Decorator: "$text-warning",
        Token.Literal.String: "$text-success",
        Token.Literal.String.Doc: "$text-success italic",
        Token.Literal.Number: "$text-accent",
        Token.Operator.Word: "bold $text-primary",
    }


@lru_cache(maxsize=256)
def _style(kind: Any) -> str:
    """The style of a kind of token: its own, else that of the kind that it belongs to."""
    styles = _styles()
    while kind is not None and kind not in styles:
        kind = kind.parent
    return styles[kind] if kind is not None else ""
