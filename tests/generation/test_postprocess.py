"""Post-processing, step by step, on real model output and on texts made to break it.

`answers.jsonl` has completions by SmolLM2-135M-Instruct, greedy and without stop sequences: `plain` of the bare prompt,
`text` behind a text prompt, `soft` behind a trained soft prompt, `chat` as a chat's answer, `short` behind another soft
prompt and of 29 tokens at most.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from core.data.humaneval import Problem, load_problems
from core.generation.postprocess import (
    LEVELS,
    LONGEST_PARSED,
    Level,
    Place,
    cut,
    lines_of,
    longest_sound_prefix,
    post_process,
    text_of,
    with_imports,
    without_fences,
    without_prose,
    without_repetition,
)

PROBLEMS = load_problems().by_id()
ANSWERS = [json.loads(line) for line in Path(__file__).with_name("answers.jsonl").read_text("utf-8").splitlines()]
DOCUMENTED = Problem("P", 'def f(xs, n):\n    """Doc."""\n', "f", "", "")
BARE = Problem("B", "def f(xs, n):\n", "f", "", "")


def answer(asked: str, number: int) -> tuple[str, Problem]:
    (found,) = [row for row in ANSWERS if (row["asked"], row["task_id"]) == (asked, f"HumanEval/{number}")]
    return found["completion"], PROBLEMS[found["task_id"]]


def levels(asked: str, number: int) -> dict[Level, str]:
    completion, problem = answer(asked, number)
    return {level: post_process(completion, problem, level) for level in LEVELS}


def does(text: str, problem: Problem = DOCUMENTED) -> list[str]:
    """What each level makes of a text."""
    return [post_process(text, problem, level) for level in LEVELS[1:]]


# Real answers


def test_an_import_that_an_answer_needs_is_added() -> None:
    found = levels("short", 48)
    assert "import" not in found["post_v4"] and found["post_v5"] == f"    import re\n{found['post_v4']}"


def test_none_leaves_every_answer_as_it_is() -> None:
    for row in ANSWERS:
        assert post_process(row["completion"], PROBLEMS[row["task_id"]], "none") == row["completion"]


@pytest.mark.parametrize("level", LEVELS)
def test_every_answer_stays_as_it_is_the_second_time(level: Level) -> None:
    for row in ANSWERS:
        problem = PROBLEMS[row["task_id"]]
        once = post_process(row["completion"], problem, level)
        assert post_process(once, problem, level) == once, row["task_id"]


def test_from_v4_on_every_answer_is_a_program() -> None:
    for row in ANSWERS:
        problem = PROBLEMS[row["task_id"]]
        for level in LEVELS[4:]:
            compile(problem.prompt + post_process(row["completion"], problem, level), row["task_id"], "exec")


def test_a_body_that_ends_by_itself_is_what_it_was() -> None:
    for number in (9, 11, 23, 24, 101, 142):
        completion, problem = answer("soft", number)
        assert does(completion, problem) == [completion] * 5


def test_v1_cuts_what_is_no_body() -> None:
    for asked, number in (("plain", 12), ("plain", 26), ("plain", 28), ("plain", 143), ("text", 28), ("chat", 149)):
        assert levels(asked, number)["post_v1"] == "", number


def test_v1_keeps_a_function_that_is_written_anew_and_cuts_after_it() -> None:
    assert levels("chat", 54)["post_v1"] == "def same_chars(s0: str, s1: str):\n    return s0 == s1\n"
    kept = levels("chat", 107)["post_v1"]
    assert kept.startswith("def even_odd_palindrome(n):\n") and kept.endswith("\n    return (n - 1, n - 1)\n")
    assert kept.count("def ") == 1


def test_v2_takes_code_out_of_its_fence() -> None:
    found = levels("chat", 23)
    assert found["post_v1"] == "```python\ndef strlen(string: str) -> int:\n    return len(string)\n"
    assert found["post_v2"] == "def strlen(string: str) -> int:\n    return len(string)\n"
    assert levels("chat", 101)["post_v2"] == (
        'def words_string(s):\n    words = []\n    words.extend(s.split(","))\n'
        "    return [word.split() for word in words if word]\n")


def test_v2_takes_no_prose_for_code_whichever_fence_it_follows() -> None:
    for number in (7, 23, 35, 40, 107, 163):
        assert answer("plain", number)[0].startswith("```\n")
        assert levels("plain", number)["post_v2"] == "", number


def test_v3_removes_a_repeated_signature_with_its_docstring() -> None:
    assert levels("chat", 23)["post_v3"] == "    return len(string)\n"
    assert levels("chat", 18)["post_v3"] == "    return len(string) - len(substring) - 1\n"
    assert levels("chat", 54)["post_v3"] == "    return s0 == s1\n"
    assert levels("chat", 107)["post_v3"] == "    if n < 1:\n        return (1, 2)\n    return (n - 1, n - 1)\n"
    assert levels("chat", 82)["post_v3"] == "    if len(string) <= 1:\n        return False\n    return True\n"
    assert levels("text", 163)["post_v3"] == "    return [i * 10 for i in range(10, a + 1, 2)]\n"


def test_v3_mends_an_indentation_by_tabs() -> None:
    found = levels("soft", 31)
    assert found["post_v2"] == "\treturn n == 1 and n == 2\n" and found["post_v3"] == "    return n == 1 and n == 2\n"
    completion, problem = answer("soft", 48)  # right but for the tab
    program = problem.prompt + post_process(completion, problem, "post_v3")
    assert program.endswith('"""\n    return \'\'.join(c for c in text if c.isalnum()) == text[::-1]\n')


def test_v4_drops_what_the_token_limit_or_a_slip_has_left_broken() -> None:
    found = levels("chat", 137)
    assert found["post_v3"].endswith("\n    elif isinstance(a, (int, float)) and isinstance(b,\n")
    assert found["post_v4"] == found["post_v3"].removesuffix("    elif isinstance(a, (int, float)) and isinstance(b,\n")
    assert levels("soft", 93)["post_v3"] == "    return ''.join([c[i] for c in message if c[i] in 'AEIOU']])\n"
    assert levels("soft", 93)["post_v4"] == levels("soft", 17)["post_v4"] == levels("chat", 141)["post_v4"] == ""


# Each step


@pytest.mark.parametrize(("text", "kept"), [
    ("    return 1\n\nprint(f(1))\n", "    return 1\n"),
    ("    return 1\n\n\n# Test\nprint(f(1))", "    return 1\n"),
    ("    x = '''\ndef g():\n'''\n    return x\nf()\n", "    x = '''\ndef g():\n'''\n    return x\n"),
    ("    return [\n1,\n2]\nclass A: pass", "    return [\n1,\n2]\n"),
    ("    x = (1\ndef g(): pass", "    x = (1\n"),  # never closed; a definition ends it all the same
    ("    s = a \\\n+ b\n    return s\nf(1)", "    s = a \\\n+ b\n    return s\n"),
    ("    # nothing\nprint(1)", ""), ("", ""), ("\n\n", ""), ("print(1)\n", ""),
    ("import math\ndef f(xs, n):\n    return 1\nprint(2)\n", "import math\ndef f(xs, n):\n    return 1\n"),
    ("    return 1\ndef f(xs, n):\n    return 2\n", "    return 1\n"),
    ("    return 1", "    return 1\n"), ("    return 'é…'\nÄ", "    return 'é…'\n"),
])
def test_cut(text: str, kept: str) -> None:
    assert cut(text, "f") == kept


@pytest.mark.parametrize(("text", "code"), [
    ("Here it is:\n\n```python\ndef f(xs, n):\n    return 1\n```\nDone.", "def f(xs, n):\n    return 1\n"),
    ("```py\nx = 1\n```\n```py\ndef f(xs, n):\n    return x\n```", "def f(xs, n):\n    return x\n"),
    ("```python\n    return 1\n", "    return 1\n"),  # never closed
    ("    return 1\n```\n\nThis returns 1.\n```python\nf(1)\n```", "    return 1\n"),
    ("~~~\n    return 1\n~~~", "    return 1\n"), ("  ```python\n  return 1\n  ```", "  return 1\n"),
    ("no fence", "no fence"), ("```\n```", ""), ("```", ""), ("", ""),
])
def test_fences(text: str, code: str) -> None:
    assert without_fences(text, "f") == code


@pytest.mark.parametrize(("text", "code"), [
    ("Sure! Here is the function:\n\ndef f(xs, n):\n    return 1\n", "def f(xs, n):\n    return 1\n"),
    ("Output: [1, 2]\nExplanation\nx = [\n  1,\n]\n", "x = [\n  1,\n]\n"),
    ("Note\n- an item\n@cache\ndef f(): pass\n", "@cache\ndef f(): pass\n"),
    ("    this is indented\nand this is not\n", "    this is indented\nand this is not\n"),
    ("# a comment\nprint(1)\n", "# a comment\nprint(1)\n"), ("It doesn't (really) work.\n", ""), ("", ""),
])
def test_prose(text: str, code: str) -> None:
    assert without_prose(text) == code


@pytest.mark.parametrize(("text", "body"), [
    ("def f(xs, n):\n  if n:\n    return 1\n  return 2\n", "    if n:\n      return 1\n    return 2\n"),
    ("    def f(xs, n):\n        return 1\n", "    return 1\n"),  # the whole of it indented
    ('"""Doc."""\n    return 1\n', "    return 1\n"), ("def f(\n    xs: list,\n    n: int = 1,\n):\n    return n\n",
                                                       "    return n\n"),
    ("import math\nK = 2\ndef g(x):\n    '''\nof g'''\n    return x\ndef f(xs, n):\n    return g(K)\n",
     "    import math\n    K = 2\n    def g(x):\n        '''\nof g'''\n        return x\n    return g(K)\n"),
    ('def f(xs, n):\n    """Doc."""\ndef f(xs, n):\n    return 1\n',
     '    def f(xs, n):\n        """Doc."""\n    return 1\n'),
])
def test_a_repetition_goes(text: str, body: str) -> None:
    assert without_repetition(text, Place.of(DOCUMENTED)) == body


@pytest.mark.parametrize("text", [
    "def f(other, n):\n    return other\n", "def f(xs):\n    return xs\n", "@cache\ndef f(xs, n):\n    return 1\n",
    "from math import *\ndef f(xs, n):\n    return pi\n", 'def f(xs, n):\n    """Doc."""\n', "def f(xs, n): return 1\n",
    "    def f(xs, n):\n        return 1\n    return f(xs, 2)\n", "    return 1\n",
])
def test_what_repeats_nothing_or_cannot_move_stays(text: str) -> None:
    assert without_repetition(text, Place.of(DOCUMENTED)) == text


@pytest.mark.parametrize(("text", "mended"), [
    ("x = 1\nif x:\n    return 2\nreturn 3\n", "    x = 1\n    if x:\n        return 2\n    return 3\n"),
    ("     return 1\n", "    return 1\n"), ("  x = 1\n  return x\n", "    x = 1\n    return x\n"),
    ("for x in xs:\n        n += x\n    return n\n", "    for x in xs:\n        n += x\n    return n\n"),
    ("\tif n:\n\t\treturn 1\n\treturn 2\n", "    if n:\n        return 1\n    return 2\n"),
    ("    if n:\n      return 1\n    return 2\n", "    if n:\n      return 1\n    return 2\n"),  # odd, and right
    ("   x = '''\n  a'''\n   return x\n", "    x = '''\n  a'''\n    return x\n"),  # strings keep their content
])
def test_indentation_is_mended(text: str, mended: str) -> None:
    assert post_process(text, DOCUMENTED, "post_v3") == mended


def test_a_body_below_a_bare_head_may_stand_at_any_column() -> None:
    assert post_process("  return 1\n", BARE, "post_v5") == "  return 1\n"
    assert post_process("return 1\n", BARE, "post_v5") == "    return 1\n"


@pytest.mark.parametrize("text", ["print(f(1, 2))\n", "def g():\n    return 1\n\nprint(g())\n", "x = f(1, 2)\n"])
def test_calls_at_the_top_level_are_not_taken_for_a_body(text: str) -> None:
    assert does(text) == [""] * 5


@pytest.mark.parametrize(("text", "prefix"), [
    ("    x = 1\n    return x\n    y = (\n", "    x = 1\n    return x\n"), ("    return 1\n", "    return 1\n"),
    ("    if n:\n        return 1\n    else:\n", "    if n:\n        return 1\n"), ("    x = 'a\n    return x\n", ""),
    ("    x = 1\n    for x in\n    return x\n", "    x = 1\n"), ("    x = 1\n  y = 2\n", "    x = 1\n"),
    ("    x = 1\n    break\n    return 2\n", "    x = 1\n"), ("    return 1\nreturn 2\n", "    return 1\n"),
    ("    return '\ud800'\n", "    return '\ud800'\n"), ("    \x00\n", "    \x00\n"),  # it blames no line
])
def test_the_longest_sound_prefix(text: str, prefix: str) -> None:
    assert longest_sound_prefix(text, Place.of(DOCUMENTED)) == prefix


def test_a_prefix_needs_the_entry_point() -> None:
    nowhere = Problem("N", "import math\n", "f", "", "")
    assert longest_sound_prefix("x = 1\ny = (\n", Place.of(nowhere)) == "x = 1\ny = (\n"
    assert longest_sound_prefix("\n)", Place.of(BARE)) == "\n)"  # nothing makes a program of it


@pytest.mark.parametrize(("text", "imports"), [
    ("    return math.sqrt(n)\n", ["    import math"]), ("    return sqrt(n)\n", ["    from math import sqrt"]),
    ("    return Counter(re.findall('a', xs))\n", ["    from collections import Counter", "    import re"]),
    ("    return bisect.bisect_left(xs, n)\n", ["    import bisect"]),
    ("    return bisect(xs, n)\n", ["    from bisect import bisect"]),
    ("    return datetime.strptime(xs, '%Y')\n", ["    from datetime import datetime"]),
    ("    return datetime.datetime.now()\n", ["    import datetime"]),
    ("def f(xs: List[int], n):\n    return xs\n", ["from typing import List"]),
    ("    import math\n    return math.pi\n", []), ("    math = n\n    return math.pi\n", []),
    ("    return antigravity.fly() + np.pi\n", []), ("    return len(xs)\n", []),
    ("    return [count for count in xs]\n", []),
    ("from mine import *\ndef f(xs, n):\n    return sqrt(n)\n", []), ("    return (\n", []),
])
def test_imports(text: str, imports: list[str]) -> None:
    assert with_imports(text, Place.of(DOCUMENTED)) == "".join(f"{line}\n" for line in imports) + text


# What anything may meet


@pytest.mark.parametrize("prompt", ['def f(xs, n):\n    """Doc."""\n', 'def f(xs, n):\n    """Doc."""\n    '])
def test_a_begun_line_is_taken_into_account(prompt: str) -> None:
    problem = Problem("P", prompt, "f", "", "")
    spaces = prompt[prompt.rfind("\n") + 1 :]
    for text in ("return n\nprint(1)", "```python\ndef f(xs, n):\n    return n\n```", "x = 1\n    return x"):
        begun = text if spaces or text[0] == "`" else f"    {text}"
        program = prompt + post_process(begun, problem, "post_v4")
        compile(program, "x", "exec")
        assert "return" in program, program


def test_a_prompt_may_end_inside_a_line() -> None:
    problem = Problem("P", "def f(xs, n):\n    return", "f", "", "")
    assert does(" n + 1\n\nprint(f(1, 2))\n", problem) == [" n + 1\n"] * 5


def test_line_ends_are_made_one_kind() -> None:
    assert does("    x = 1\r\n    return x\r\n\r\nprint(1)\r\n") == ["    x = 1\n    return x\n"] * 5


def test_lines_come_back_as_they_were() -> None:
    for text in ("a\n\n  b\n", "'''\n\n", "(\n[\n}\n", "\\\n"):
        assert text_of(lines_of(text)) == text


@pytest.mark.parametrize("unit", [
    "def f(xs, n):\n", '""""""\nhello there\n', "    x = (\n", "```\n", "'''", "    x = 1\n", "return 1\n", "{xs}", "-",
    "\\\n", "\t", "    if n:\n", "lambda:", "x",
])
def test_long_and_strange_texts_come_to_an_end(unit: str) -> None:
    text = ("    return f\"" if unit == "{xs}" else "") + unit * (LONGEST_PARSED // 10 // len(unit))
    assert len(post_process(text, DOCUMENTED, "post_v5")) < 2 * len(text)


def test_what_is_too_long_to_be_parsed_is_cut_all_the_same() -> None:
    body = "    x = 1\n" * (LONGEST_PARSED // 10 + 1)
    assert post_process(f"```python\n{body}  y = 2\n```\nprint(1)\n", DOCUMENTED, "post_v5") == f"{body}  y = 2\n"


def test_nothing_raises_and_a_second_time_changes_nothing() -> None:
    chance = random.Random(7)
    pieces = ['"""', "'''", "(", "]", "\t", "```", "```python\n", "\n", "\r\n", "\\", "#", "é", "\u2028", "\x00",
              "\x0c", "def f(xs, n):\n", "return ", "math.pi", "    ", "from x import *\n", "\ud800", "if x:\n"]
    for _ in range(60):
        row = chance.choice(ANSWERS)
        text, problem = row["completion"], PROBLEMS[row["task_id"]]
        for _ in range(chance.randrange(4)):
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice(pieces) + text[place + chance.randrange(20) :]
        for level in LEVELS[1:]:
            once = post_process(text, problem, level)
            assert post_process(once, problem, level) == once, (level, text)
