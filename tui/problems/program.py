"""The program of a problem, numbered as Python numbers it: prompt and completion, the tests, the call of check."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tui.formatting import counted
from tui.problems.code import Code, code_of
from tui.problems.files import Problem
from tui.problems.page import Block, Blocks, CodeLine, Listing, heading, note

LONGEST_SHOWN, MOST_LINES = 40_000, 2_000
"""Characters and lines of a program or an output that are shown; a model may write any number."""

FAILING, ON_THE_WAY = "✗", "›"
"""Signs in the margin: the line that failed, and the lines that called it."""

_LINE_END = re.compile("\r\n?|\n")
_FRAME = re.compile(r'^  File "<completion>", line (\d+)', re.MULTILINE)
_ASSERTION = re.compile(r"line (\d+): ")
_ERROR = re.compile(r"\(line (\d+)\)$")


@dataclass(frozen=True)
class Marks:
    """Line numbers that a verdict names; 0 where it names none."""

    failing: int = 0
    on_the_way: frozenset[int] = frozenset()

    def sign(self, number: int) -> str:
        """What stands in the margin of a line."""
        return FAILING if number == self.failing else ON_THE_WAY if number in self.on_the_way else " "


def marks_of(detail: str, traceback: str) -> Marks:
    """The lines that a verdict's detail and traceback name."""
    frames = [int(number) for number in _FRAME.findall(traceback)]
    named = _ASSERTION.match(detail) or _ERROR.search(detail)
    failing = int(named[1]) if named else frames[-1] if frames else 0
    return Marks(failing, frozenset(frames) - {failing})


def line_ends(text: str) -> int:
    """How many lines Python sees end in a text."""
    return len(_LINE_END.findall(text))


@dataclass(frozen=True)
class Program:
    """What runs for a completion: prompt, completion, a line end, the tests, a line end, the call."""

    problem: Problem
    completion: str

    @property
    def head(self) -> str:
        """Prompt and completion."""
        return self.problem.prompt + self.completion

    @property
    def first_written(self) -> int:
        """The line on which the completion begins."""
        return line_ends(self.problem.prompt) + 1

    @property
    def first_test(self) -> int:
        """The line on which the tests begin."""
        return line_ends(self.head + "\n") + 1

    @property
    def call(self) -> int:
        """The line of the call."""
        return self.first_test + line_ends(self.problem.test + "\n")


def head_blocks(program: Program, marks: Marks, name: str, since: int = 1) -> Blocks:
    """Prompt and completion, from a line on; a heavy bar marks the lines that the model wrote."""
    shown, more = shortened(program.head)
    code = code_of(shown)
    last = len(code.lines) - shown.endswith(("\n", "\r"))
    lines = numbered(code, range(since, last + 1), marks, program.first_written if program.completion else 0)
    return (heading(name), Listing(lines), *more_lines(more))


def check_blocks(program: Program, marks: Marks, name: str = "tests") -> Blocks:
    """The tests and the call, under the numbers that tracebacks give them."""
    if not program.problem.test:
        return ()
    call = f"check({program.problem.entry_point})"
    shown, more = shortened(f"{program.problem.test}\n{call}")
    code, first = code_of(shown), program.first_test
    lines = list(numbered(code, range(first, first + len(code.lines)), marks, 0, first))
    while len(lines) > 1 and not code.lines[lines[0].index]:
        del lines[0]  # the tests of HumanEval begin with blank lines
    return (heading(name), Listing(tuple(lines)), *more_lines(more))


def numbered(code: Code, numbers: range, marks: Marks, written: int, first: int = 1) -> tuple[CodeLine, ...]:
    """Lines of a code whose first line has number `first`; from number `written` on (0: none) a model wrote them."""
    return tuple(_line(code, number, number - first, marks.sign(number), 0 < written <= number) for number in numbers)


def _line(code: Code, number: int, index: int, sign: str, heavy: bool) -> CodeLine:
    style = {FAILING: "bold $text-error", ON_THE_WAY: "bold $text-warning"}.get(sign, "$text-muted")
    return CodeLine(code, index, str(number), sign, style, heavy, "bold $text-error" if sign == FAILING else "")


def shortened(text: str, most: int = MOST_LINES) -> tuple[str, int]:
    """The start of a text, and how many lines are left out (one that is cut in its middle counts)."""
    shown = "\n".join(text[:LONGEST_SHOWN].split("\n", most)[:most])
    rest = text[len(shown):].removeprefix("\n")
    return shown, rest.count("\n") + (rest[-1:] not in ("", "\n"))


def more_lines(count: int) -> tuple[Block, ...]:
    """That some lines are left out."""
    return (note(f"… {counted(count, 'more lines')}", "$text-muted"),) if count else ()
