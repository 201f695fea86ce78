"""One problem in full: verdict, program, traceback, output, canonical solution, tests.

Everything here that a model or a program wrote goes through `visible` and is shown as plain content: no escape sequence
and no markup in it is ever interpreted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from textual.content import Content

from tui.formatting import counted
from tui.problem_list import GLYPHS, Row, Status
from tui.visible import visible, visible_line

if TYPE_CHECKING:
    from textual.highlight import HighlightTheme

LONGEST_HIGHLIGHTED = 40_000
"""Characters of code beyond which colours would cost more than they say."""

LONGEST_SHOWN, MOST_LINES = 20_000, 1_000
"""Characters and lines of a program or an output that are shown; a model may write any number."""

DETAIL_LINES = 8

STATUS_STYLES = {
    Status.PASSED: "$text-success", Status.FAILED: "$text-error", Status.RUNNING: "$text-warning",
    Status.PENDING: "$text-muted",
}

_ENDINGS = {"stop": "ended at a stop sequence", "eos": "ended by itself", "length": "cut off at the token limit"}


def row_content(row: Row, wide: bool, here: bool) -> Content:
    """A line of the list: cursor, sign, word, task, side of the split. The cursor is a sign, not a colour alone."""
    task = visible_line(row.key[0] if wide else row.problem.number)
    if row.key[1]:
        task += f" #{row.key[1]}"
    style = STATUS_STYLES[row.status]
    return Content.assemble(
        ("▸" if here else " ", "bold $text-accent"), (f"{GLYPHS[row.status]} {row.word:<7}", style), " ",
        f"{task:<13}" if wide else f"{task:<5}", " ",
        (row.side, "bold $text-accent" if row.split == "heldout" else "$text-muted"),
    )


def detail_content(row: Row, width: int) -> Content:
    """The whole page for one problem, for a pane of `width` cells."""
    problem, state = row.problem, row.state
    parts = [_title(row), *_verdict(row), Content("")]
    heading = "prompt and completion" if state.completion is not None else "prompt"
    parts += [_heading(heading), program_content(problem.prompt, state.completion or "", width)]
    if state.completion is not None and not state.completion.strip():
        parts.append(Content.styled("the completion is empty", "$text-warning italic"))
    output = row.execution
    for name, text in (("traceback", output.traceback), ("printed", output.stdout), ("error output", output.stderr)):
        if text.strip():
            parts += [Content(""), _heading(name), _plain(text)]
    if problem.canonical_solution:
        parts += [Content(""), _heading("canonical solution"), code_content(problem.canonical_solution)]
    if problem.test:
        parts += [Content(""), _heading("tests"), code_content(problem.test.strip("\n"))]
    return Content("\n").join(parts)


def _title(row: Row) -> Content:
    facts = [visible_line(part) for part in (row.problem.entry_point, row.side) if part]
    name = visible_line(row.key[0]) + (f" sample {row.key[1]}" if row.key[1] else "")
    return Content.assemble((name, "bold"), *((f"  {fact}", "$text-muted") for fact in facts))


def _verdict(row: Row) -> list[Content]:
    state, style = row.state, STATUS_STYLES[row.status]
    words = {Status.RUNNING: "completed, not executed yet", Status.PENDING: "not completed yet"}
    word = words.get(row.status) or visible_line(state.verdict)
    lines = [Content.styled(f"{GLYPHS[row.status]} {word}", f"bold {style}")]
    if state.detail and not state.passed:
        shown, more = shortened(state.detail, DETAIL_LINES)
        lines += [Content.styled(f"  {line}", style) for line in visible(shown).split("\n")]
        lines += [Content("  ") + _more(more)] if more else []
    facts = []
    if state.seconds is not None:
        facts.append(f"{state.seconds:.2f} s")
    if state.tokens:
        facts.append(counted(state.tokens, "tokens"))
    if state.finish_reason:
        facts.append(_ENDINGS.get(state.finish_reason, visible_line(state.finish_reason)))
    if facts:
        lines.append(Content.styled("  " + ", ".join(facts), "$text-muted"))
    return lines


def _heading(name: str) -> Content:
    return Content.styled(f"── {name} ", "bold $text-accent")


def _plain(text: str) -> Content:
    shown, more = shortened(text.rstrip("\n"))
    return Content.assemble(visible(shown), "\n" if more else "", _more(more))


def shortened(text: str, most: int = MOST_LINES) -> tuple[str, int]:
    """The start of a text, and how many lines are left out (one that is cut in its middle counts)."""
    shown = "\n".join(text[:LONGEST_SHOWN].split("\n", most)[:most])
    rest = text[len(shown):].removeprefix("\n")
    return shown, rest.count("\n") + 1 if rest else 0


def _more(lines: int) -> Content:
    return Content.styled(f"… {counted(lines, 'more lines')}", "$text-muted") if lines else Content("")


def program_content(prompt: str, completion: str, width: int) -> Content:
    """Prompt and completion as one numbered program; a heavy bar marks the lines that the model wrote.

    Long lines are wrapped here, so that number and bar stay clear of the code.
    """
    shown, more = shortened((prompt + completion).rstrip("\n"))
    lines = code_content(shown).split("\n", allow_blank=True)
    if lines and not lines[-1].plain:
        lines = lines[:-1]
    own = prompt.count("\n")
    digits = len(str(len(lines)))
    room = max(16, width - digits - 3)
    numbered = []
    for number, line in enumerate(lines, 1):
        written = number > own and completion != ""
        bar = ("┃ ", "bold $accent") if written else ("│ ", "$text-muted")
        for part, folded in enumerate(line.wrap(room) if line.plain else [line]):
            margin = f"{number:>{digits}} " if part == 0 else " " * (digits + 1)
            numbered.append(Content.assemble((margin, "$text-muted"), bar, folded))
    numbered += [_more(more)] if more else []
    return Content("\n").join(numbered)


def code_content(code: str) -> Content:
    """Python in colours of the theme."""
    return _highlighted(visible(code))


@lru_cache(maxsize=64)
def _highlighted(code: str) -> Content:
    if len(code) > LONGEST_HIGHLIGHTED:
        return Content(code)
    from textual.highlight import highlight  # pygments: not before the first code is shown

    return highlight(code, language="python", theme=_code_theme())


@lru_cache(maxsize=1)
def _code_theme() -> type[HighlightTheme]:
    from pygments.token import Token  # type: ignore[import-untyped]
    from textual.highlight import HighlightTheme as Base

    class CodeTheme(Base):
        """Few colours, all of the theme, none with a background."""

        STYLES = {
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

    return CodeTheme
