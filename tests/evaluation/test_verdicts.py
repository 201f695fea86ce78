"""From a server's facts to a verdict: what a program writes on the verdict channel cannot make it pass."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.evaluation.verdicts import Program, judge, one_line

PROGRAM = Program("", "def check():\n    assert (1 ==\n            2)\n", "")
NONCE = "ab" * 16
RETURNED = json.dumps({"kind": "returned", "proof": NONCE})
RAISED = {"kind": "raised", "assertion": True, "name": "AssertionError", "message": "",
          "frames": [["<completion>", 4, 4, "<module>"], ["<completion>", 2, 3, "check"]], "cut": 0, "first": 8}


def facts(report: str, status: int = 0, ended_by: str = "", candidate_status: int | None = None) -> dict[str, Any]:
    return {"status": status, "ended_by": ended_by, "seconds": 1.0, "cpu_seconds": 0.5, "nonce": NONCE,
            "report": report, "candidate_status": candidate_status, "starved": False, "peak_bytes": 3 << 20,
            "stdout": "", "stderr": ""}


def test_passed_needs_the_nonce_and_status_0() -> None:
    assert judge(PROGRAM, facts(RETURNED), "process").passed
    assert judge(PROGRAM, facts(RETURNED, status=1), "process").verdict == "crashed"
    assert judge(PROGRAM, facts(RETURNED, status=-9), "process").verdict == "crashed"
    assert judge(PROGRAM, facts(RETURNED, ended_by="clock"), "process").verdict == "timed out"


@pytest.mark.parametrize("report", [
    "", "x", "[]", "3", "null", "{}", '{"kind": []}', '{"kind": "returned"}', '{"kind": "returned", "proof": null}',
    '{"kind": "returned", "proof": "é\\ud800"}', '{"kind": "returned", "proof": ""}', '{"kind": "raised"}',
    RETURNED + RETURNED, "x" + RETURNED, '{"kind": "raised", "name": "", "message": "", "frames": [1]}',
    '{"kind": "raised", "name": "", "message": "", "frames": [["f", "one", 1, "g"]]}',
])
def test_nonsense_is_never_passed(report: str) -> None:
    assert judge(PROGRAM, facts(report), "process").verdict == "crashed"


def test_a_failing_assertion_is_quoted_whole() -> None:
    outcome = judge(PROGRAM, facts(json.dumps(RAISED)), "process")
    assert (outcome.verdict, outcome.detail) == ("failed", "line 2: assert (1 == 2)")
    said = judge(PROGRAM, facts(json.dumps({**RAISED, "message": "why"})), "process")
    assert said.detail == "line 2: assert (1 == 2) (why)"


def test_lines_that_do_not_exist_are_harmless() -> None:
    report = {**RAISED, "frames": [["<completion>", 10**9, 10**12, "f"], ["<completion>", -5, 1, "g"]]}
    outcome = judge(PROGRAM, facts(json.dumps(report)), "process")
    assert outcome.verdict == "failed" and "line 1000000000" in outcome.traceback


@pytest.mark.parametrize("status, verdict, detail", [
    (0, "exited early", "status 0"), (3, "exited early", "status 3"), (-11, "crashed", "SIGSEGV"),
    (-24, "timed out", "0.5 s of CPU time"), (None, "cheated", "closed the connection"),
])
def test_a_candidate_that_left_its_tests(status: int | None, verdict: str, detail: str) -> None:
    outcome = judge(PROGRAM, facts('{"kind": "gone"}', candidate_status=status), "process")
    assert outcome.verdict == verdict and detail in outcome.detail


def test_the_watch_over_memory_and_false_answers() -> None:
    assert judge(PROGRAM, facts("", status=-9, ended_by="memory"), "process").verdict == "out of memory"
    assert judge(PROGRAM, facts('{"kind": "tampered", "message": "x"}'), "process").verdict == "cheated"
    assert judge(PROGRAM, facts(RETURNED), "process").peak_memory_mb == 3.0


def test_captured_output_is_visible() -> None:
    said = judge(PROGRAM, {**facts(RETURNED), "stdout": "a\tb\n\x1b[2J\x00\u202e\ud800"}, "process").stdout
    assert said == "a\tb\n\\x1b[2J\\x00\\u202e\\ud800"


def test_one_line() -> None:
    assert one_line("a\n\tb\x1b \ud800" + "c" * 99, 20) == "a b\\x1b \\ud800ccccc…"
