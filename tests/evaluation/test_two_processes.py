"""A candidate and its tests in two processes: what tests see of a candidate is what they would see in one."""

from __future__ import annotations

import pytest

from core.evaluation.sandbox import Outcome, Program, execute


def run(source: str, tests: str, prompt: str = "", timeout: float = 5.0) -> Outcome:
    """The outcome of a candidate `f`; `tests` is the body of check(candidate)."""
    body = "".join(f"    {line}\n" for line in tests.splitlines())
    program = Program(f"{prompt}{source}\n", f"def check(candidate):\n{body}", "f", prompt)
    [outcome] = [o for o in execute([program], timeout=timeout, memory_limit_mb=256, workers=1) if o]
    return outcome


@pytest.mark.parametrize("source, tests", [
    ("def f(x, *more, y=1):\n    return [x, more, y]", "assert candidate(1, 2, 3, y=(4,)) == [1, (2, 3), (4,)]"),
    ("def f(x):\n    x.sort()", "x = [3, 1, 2]\nassert candidate(x) is None\nassert x == [1, 2, 3]"),
    ("def f(x):\n    x['a'] = [1]", "x = {}\ncandidate(x)\nassert x == {'a': [1]}"),
    ("def f(x):\n    yield from x", "assert list(candidate([1, 2])) == [1, 2]"),
    ("def f(x):\n    return map(str, x)", "assert candidate([1]) != ['1']\nassert ''.join(candidate([1, 2])) == '12'"),
    ("def f():\n    while True:\n        yield 1", "assert next(candidate()) == 1"),
    ("def f(x):\n    return (n for n in x)", "assert sum(candidate(candidate([1, 2]))) == 3"),
    ("class Box:\n    pass\ndef f(x=None):\n    return Box() if x is None else type(x).__name__",
     "assert candidate(candidate()) == 'Box'"),
    ("def f(x):\n    raise KeyError(x)", "try:\n    candidate(1)\nexcept LookupError:\n    pass"),
    ("class Mine(ValueError):\n    pass\ndef f():\n    raise Mine('no')",
     "try:\n    candidate()\nexcept ValueError as error:\n    assert str(error) == 'no'"),
    ("calls = []\ndef f():\n    calls.append(1)\n    return len(calls)", "assert [candidate(), candidate()] == [1, 2]"),
    ("def f():\n    return f.__name__", "assert candidate.__name__ == f.__name__ == f() == 'f'"),
    ("def f(n):\n    return 1 if n == 0 else n * f(n - 1)", "assert len(str(candidate(300))) == 615"),
    ("import sys\nsys.setrecursionlimit(9000)\ndef f(n):\n    return n and 1 + f(n - 1)",
     "assert candidate(3000) == 3000"),
    ("import sys\ndef g(n):\n    return n and 1 + g(n - 1)\ndef f(n):\n    if n == 1: sys.setrecursionlimit(9000)\n"
     "    yield g(n)", "assert list(candidate(1)) == [1]\nassert list(candidate(3000)) == [3000]"),
    ("def f(n):\n    global f\n    f = None\n    return n", "assert [candidate(1), candidate(2)] == [1, 2]"),
    ("def f(*, x):\n    x.append(1)", "x = []\ncandidate(x=x)\nassert x == [1]"),
    ("def f(x):\n    x['a'] += 1", "import collections\nx = collections.defaultdict(int, a=1)\ncandidate(x)\n"
     "assert x == {'a': 2} and x['b'] == 0"),
    ("import numpy\ndef f():\n    return numpy.arange(3)", "assert list(candidate()) == [0, 1, 2]"),
], ids=lambda text: text.split("\n")[-1].strip()[:40])
def test_as_in_one_process(source: str, tests: str) -> None:
    outcome = run(source, tests)
    assert outcome.passed, (outcome.detail, outcome.traceback)


def test_helpers_are_the_prompts_and_not_the_candidates() -> None:
    prompt = "import math\ndef double(x):\n    return 2 * x\n\ndef f(x):\n    '''Twice.'''\n"
    honest = run("    return x + x", "assert candidate(math.floor(2.5)) == double(2)", prompt)
    assert honest.passed, honest.detail
    cheat = run("    return 7\ndef double(x):\n    return 7", "assert candidate(2) == double(2)", prompt)
    assert cheat.verdict == "failed"


def test_a_prompt_without_a_body_gives_its_helpers() -> None:
    assert run("    return 2", "assert candidate() == two()", "def two():\n    return 2\ndef f():\n").passed


def test_the_entry_point_must_be_the_candidates() -> None:
    outcome = run("del f", "assert candidate() is None", "def f():\n    pass\n")
    assert (outcome.verdict, outcome.detail) == ("error", "NameError: name 'f' is not defined (line 6)")


def test_a_traceback_goes_through_both() -> None:
    outcome = run("def g(x):\n    return 1 / x\ndef f(x):\n    return g(x)", "assert candidate(0) == 1")
    assert outcome.traceback.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<completion>", line 7, in <module>', "    check(f)",
        '  File "<completion>", line 6, in check', "    assert candidate(0) == 1",
        '  File "<completion>", line 4, in f', "    return g(x)",
        '  File "<completion>", line 2, in g', "    return 1 / x",
        "ZeroDivisionError: division by zero",
    ]
    assert (outcome.verdict, outcome.detail) == ("error", "ZeroDivisionError: division by zero (line 2)")


def test_tests_cannot_hand_over_what_would_act() -> None:
    outcome = run("def f(x):\n    return x()", "assert candidate(lambda: 1) == 1")
    assert outcome.verdict == "error" and "tests cannot pass a function to a candidate" in outcome.detail


def test_tests_cannot_catch_the_end_of_a_candidate() -> None:
    tests = "try:\n    candidate()\nexcept Exception:\n    pass"
    assert run("import sys\ndef f():\n    sys.exit(0)", tests).verdict == "exited early"
    assert run("import os\ndef f():\n    os._exit(0)", tests).verdict == "exited early"


def test_what_a_candidate_prints_is_kept_whatever_its_end() -> None:
    outcome = run("import os\ndef f():\n    print('before', flush=True)\n    os._exit(3)", "candidate()")
    assert outcome.stdout == "before\n" and "status 3" in outcome.detail


def test_peak_memory_is_told() -> None:
    little, much = run("def f():\n    pass", "candidate()"), run("def f():\n    b'x' * (100 << 20)", "candidate()")
    assert much.passed and 5 < little.peak_memory_mb < 60 and 100 < much.peak_memory_mb < 200


def test_where_the_solution_is_slow_a_candidate_has_longer() -> None:
    def slow(seconds: float) -> str:
        return f"import time\ndef f():\n    time.sleep({seconds})\n"

    check = "def check(candidate):\n    candidate()\n"
    programs = [Program(slow(0.9), check, "f", canonical=slow(0.6), key=0), Program(slow(30), check, "f", key=1),
                Program(slow(0.9), check, "f", canonical="def f():\n    pass\n", key=2),
                Program(slow(30), check, "f", canonical=slow(0.6), key=3)]
    outcomes = {o.program.key: o for o in execute(programs, timeout=0.5, memory_limit_mb=256, workers=2) if o}
    assert {key: outcome.verdict for key, outcome in outcomes.items()} == {
        0: "passed", 1: "timed out", 2: "timed out", 3: "timed out"}
    assert outcomes[3].seconds > 1.5 and outcomes[1].seconds < 1.5
