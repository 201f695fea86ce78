"""The files of this folder, read: what each tries, and what must become of it.

A file begins with `# key: value` lines:

- `tries`: what for; a program that tries nothing says what it needs.
- `verdict`: the right one. Several, `a | b`, where the machine's speed decides, or where each of them is true. "passed"
  is right where the answer was, and what else it tried was kept from it.
- `verdict at LEVEL`: the right one at a level of isolation that keeps the program from less, or from more.
- `detail`: a part of the outcome's.
- `only`: the levels that keep a program from this, where not all do; it is not executed at the others.
- `problem`: one of PROBLEMS, where it is not the one whose answer is 42.

What follows is the completion. `@guarded@`, `@home@`, `@tcp@`, `@udp@` and `@abstract@` stand for what
`surroundings.py` makes for it to reach for. Every program is bounded in itself: 300 processes, 6 GB of memory, 1 GB of
output or files, and nothing is addressed but 127.0.0.1. Where doing the thing would hurt the machine, a program only
asks whether it could.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from core.data.humaneval import Problem
from core.evaluation.sandbox import LEVELS

EXPECTED = f"expected-{secrets.token_hex(8)}"
"""What the tests of "hidden" ask for, and no program can know."""


def _problem(name: str, arguments: str, check: str, solution: str) -> Problem:
    body = "".join(f"    {line}\n" for line in check.split("; "))
    return Problem(f"Test/{name}", f'def answer({arguments}):\n    """An answer."""\n', "answer",
                   f"    return {solution}\n", f"def check(candidate):\n{body}")


PROBLEMS = {problem.task_id.removeprefix("Test/"): problem for problem in (
    _problem("forty_two", "", "assert candidate() == 42", "42"),
    _problem("close", "", "assert abs(candidate() - 42) < 1e-6", "42"),
    _problem("hidden", "", f"assert candidate() == {EXPECTED!r}", repr(EXPECTED)),
    _problem("in_order", "numbers", "assert candidate([3, 1, 2]) == [1, 2, 3]; assert candidate([]) == []",
             "sorted(numbers)"),
    _problem("lazy", "n", "assert list(candidate(3)) == [0, 1, 2]", "iter(range(n))"),
    _problem("mapped", "x", "for got, wanted in zip(map(candidate, [1, 2]), [2, 4]): assert got == wanted", "2 * x"),
    _problem("echo", "text", "for text in ('\\ud800', '\\0', '\\r\\n', ''): assert candidate(text) == text", "text"),
)}


@dataclass(frozen=True)
class Case:
    """A completion, and what must become of it."""

    completion: str
    verdict: str
    tries: str = ""
    at_level: dict[str, str] = field(default_factory=dict)
    """Verdicts that differ from `verdict`, by level."""
    detail: str = ""
    levels: tuple[str, ...] = LEVELS
    problem: Problem = PROBLEMS["forty_two"]

    def verdicts(self, level: str) -> list[str]:
        """The right ones at a level."""
        return self.at_level.get(level, self.verdict).split(" | ")


def read_case(path: Path) -> Case:
    """Read one file of the corpus; raises KeyError or ValueError, naming what is wrong with its head."""
    head: dict[str, str] = {}
    lines = path.read_text().splitlines(keepends=True)
    while lines and lines[0].startswith("# "):
        key, _, value = lines.pop(0)[2:].strip().partition(": ")
        head[key] = value
    case = Case(
        completion="".join(lines), verdict=head.pop("verdict"), tries=head.pop("tries"), detail=head.pop("detail", ""),
        at_level={level: head.pop(f"verdict at {level}") for level in LEVELS if f"verdict at {level}" in head},
        levels=tuple(head.pop("only", ", ".join(LEVELS)).split(", ")),
        problem=PROBLEMS[head.pop("problem", "forty_two")],
    )
    if head or not set(case.levels) <= set(LEVELS):
        raise ValueError(f"{path}: {head or case.levels}")
    return case


FILES = sorted(Path(__file__).parent.glob("*.completion"))
CASES = {path.stem: read_case(path) for path in FILES} | {
    "null_byte": Case("    return 42\x00", "error", detail="null bytes"),
    "surrogate_in_the_source": Case("    return '\ud800'", "error", detail="Unicode"),
    "large_source": Case("    return 42\n#" + "x" * 5_000_000, "passed"),
    "deep_source": Case("    return " + "(" * 100_000 + ")" * 100_000, "error | out of memory"),
    "deep_source_for_the_compiler": Case("    return " + "-" * 1_000_000 + "1", "error | out of memory | crashed"),
}
