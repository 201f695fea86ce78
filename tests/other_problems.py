"""Small problems in HumanEval's schema: some to train on, the same with stricter tests, and some of another kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from core.data.humaneval import Problem


def _problem(task_id: str, head: str, words: str, solution: str, test: str) -> Problem:
    name = head.partition("(")[0]
    prompt = f'def {head}:\n    """{words}"""\n'
    return Problem(task_id, prompt, name, f"    return {solution}\n", f"def check(candidate):\n{test}")


def _asserts(*lines: str) -> str:
    return "".join(f"    assert candidate{line}\n" for line in lines)


def _table(inputs: str, results: str) -> str:
    """Tests as HumanEval+ writes them: inputs and results side by side."""
    return (f"    inputs = {inputs}\n    results = {results}\n"
            "    for given, expected in zip(inputs, results):\n        assert candidate(*given) == expected\n")


BASE = [
    _problem("HumanEval/0", "double(n)", "Twice n.", "n * 2", _asserts("(2) == 4")),
    _problem("HumanEval/1", "is_even(n)", "Whether 2 divides n.", "n % 2 == 0", _asserts("(2)")),
    _problem("HumanEval/2", "last(items)", "The last item.", "items[-1]", _asserts("([1, 2]) == 2")),
    _problem("HumanEval/3", "shout(text)", "In capitals.", "text.upper()", _asserts("('a') == 'A'")),
    _problem("HumanEval/4", "total(items)", "The sum.", "sum(items)", _asserts("([1, 2]) == 3")),
    _problem("HumanEval/5", "largest(items)", "The largest.", "max(items)", _asserts("([1, 2]) == 2")),
]
"""Six problems with a test or two."""

_STRICTER = [
    _table("[[2], [0], [-3], ['ab']]", "[4, 0, -6, 'abab']"), _table("[[2], [3], [0]]", "[True, False, True]"),
    _table("[[[1, 2]], ['xyz']]", "[2, 'z']"), _table("[['a'], ['Bc']]", "['A', 'BC']"),
    _table("[[[1, 2]], [[]]]", "[3, 0]"), _table("[[[1, 2]], [[3, 1]]]", "[2, 3]"),
]
PLUS = [
    Problem(one.task_id, one.prompt, one.entry_point, one.canonical_solution, f"def check(candidate):\n{test}")
    for one, test in zip(BASE, _STRICTER, strict=True)
]
"""The same six, as HumanEval+ has HumanEval's: same ids and prompts, more tests."""

MBPP = [
    _problem(f"Mbpp/{number}", head, f"{words}\n    assert {example}\n    ", solution, _asserts(*tests))
    for number, head, words, example, solution, tests in [
        (2, "shared(a, b)", "Write a function to find the values that two lists share.", "shared([1, 2], [2]) == {2}",
         "set(a) & set(b)", ["([1, 2], [2]) == {2}", "([], [1]) == set()"]),
        (3, "square_area(side)", "Write a function for the area of a square.", "square_area(3) == 9", "side * side",
         ["(3) == 9", "(1) == 1"]),
        (4, "backwards(text)", "Write a function that turns a text around.", "backwards('ab') == 'ba'", "text[::-1]",
         ["('ab') == 'ba'", "('') == ''"]),
        (6, "count_vowels(text)", "Write a function to count vowels.", "count_vowels('tea') == 2",
         "sum(letter in 'aeiou' for letter in text)", ["('tea') == 2", "('xyz') == 0"]),
    ]
]
"""Four problems as MBPP states them, a sentence and an example, in HumanEval's schema."""


def write_problems(path: Path, problems: Sequence[Problem]) -> str:
    """Write them as JSONL; the path."""
    path.write_text("".join(json.dumps(vars(problem)) + "\n" for problem in problems))
    return str(path)
