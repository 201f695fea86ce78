"""From what the server saw to a verdict. Whatever a program managed to say about itself is only ever shown."""

from __future__ import annotations

import hmac
import json
import re
import signal
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from core.evaluation.server.processes import MOST_TASKS
from core.evaluation.server.raised import FILE

Isolation = Literal["namespaces", "landlock", "process"]
"""How well a program was shut in: `sandbox.py` says what each level covers."""

Verdict = Literal["passed", "failed", "error", "timed out", "out of memory", "crashed", "cheated", "exited early"]

_LONGEST_DETAIL = 300
_LONGEST_SOURCE_LINE = 200


@dataclass(frozen=True)
class Program:
    """A candidate and its tests, which run in two processes."""

    source: str
    """Prompt and completion, executed in the candidate's process; line 1 is its line 1."""
    tests: str
    """Trusted code that defines `check(candidate)`; its lines are numbered on from the source's."""
    entry_point: str
    prompt: str = ""
    """Executed in the tests' process, for the functions and imports that tests use beside the entry point."""
    canonical: str = ""
    """Prompt and solution that are known to be right: where they need long, every candidate gets longer."""
    key: int = 0
    """The caller's own number for it."""

    @property
    def call(self) -> str:
        """The call that must return, on the line after the tests."""
        return f"check({self.entry_point})"

    @property
    def lines(self) -> list[str]:
        """All lines as verdicts number them, from 1: source, tests, call."""
        return _newlines(f"{self.source}{self.tests}{self.call}\n").split("\n")

    @property
    def line(self) -> int:
        """The number of lines before the tests."""
        return _newlines(self.source).count("\n")


@dataclass(frozen=True)
class Outcome:
    """What became of one program.

    `passed` is proven: the call returned in the tests' process, the nonce came back, and it ended with status 0.
    """

    program: Program
    verdict: Verdict
    detail: str
    """One line: the failing assertion with its line number, the exception, the signal."""
    traceback: str
    """In the program's own line numbers; "" where no exception was seen."""
    stdout: str
    stderr: str
    """Captured output, the first 16 KiB of each, control characters made visible."""
    seconds: float
    """Wall clock, from the start of the process to its end."""
    cpu_seconds: float
    """Of the candidate and of its tests, without processes that either started."""
    peak_memory_mb: float
    """Largest memory of the candidate's processes, in MB (2**20 bytes), the interpreter's own included."""
    isolation: Isolation
    starved: bool = False
    """Whether the clock ended it though it was never given the CPU time that the limit allows."""

    @property
    def passed(self) -> bool:
        """Whether the tests were passed."""
        return self.verdict == "passed"


def judge(program: Program, facts: dict[str, Any], isolation: Isolation) -> Outcome:
    """The outcome of a program from the server's facts about it."""
    report = _parse_report(facts["report"])
    verdict, detail = _verdict(program, facts, report)
    traceback = _traceback(program, report) if report["kind"] == "raised" else ""
    return Outcome(
        program, verdict, one_line(detail, _LONGEST_DETAIL), visible(traceback), visible(facts["stdout"]),
        visible(facts["stderr"]), round(facts["seconds"], 4), round(facts["cpu_seconds"], 4),
        round(facts["peak_bytes"] / 2**20, 1), isolation, facts["starved"],
    )


def lost(program: Program, verdict: Verdict, detail: str, seconds: float, isolation: Isolation) -> Outcome:
    """The outcome of a program whose server is gone or silent."""
    return Outcome(program, verdict, detail, "", "", "", round(seconds, 4), 0.0, 0.0, isolation)


def _verdict(program: Program, facts: dict[str, Any], report: dict[str, Any]) -> tuple[Verdict, str]:
    status, kind = facts["status"], report["kind"]
    if facts["ended_by"] == "clock":
        return "timed out", f"after {facts['seconds']:.1f} s"
    if facts["ended_by"] == "memory":
        return "out of memory", "its processes together reached the memory limit"
    if facts["ended_by"] == "processes":
        return "crashed", f"it was ended for having more than {MOST_TASKS} processes and threads at once"
    if status == -signal.SIGXCPU:
        return "timed out", f"after {facts['cpu_seconds']:.1f} s of CPU time in its tests"
    if status < 0:
        return "crashed", f"the process of its tests was killed by {_signal_name(-status)}"
    if kind == "returned" and status == 0 and hmac.compare_digest(report["proof"], facts["nonce"]):
        return "passed", ""
    if kind == "memory" or (kind == "raised" and report["name"] == "MemoryError"):
        return "out of memory", "the program reached its memory limit"
    if kind == "raised":
        return _raised(program, report)
    if kind == "exit":
        return "exited early", "SystemExit was raised before check() returned"
    if kind == "tampered":
        return "cheated", f"it sent its tests what is no answer: {report['message']}"
    if kind == "gone":
        return _gone(facts)
    return "crashed", f"the process of its tests ended with status {status} and told nothing"


def _gone(facts: dict[str, Any]) -> tuple[Verdict, str]:
    """The candidate broke the connection to its tests before check() had returned."""
    status = facts["candidate_status"]
    if status is None:
        return "cheated", "it closed the connection to its tests"
    if status == -signal.SIGXCPU:
        return "timed out", f"after {facts['cpu_seconds']:.1f} s of CPU time"
    if status < 0:
        return "crashed", f"killed by {_signal_name(-status)}"
    return "exited early", f"the process ended with status {status} before check() returned"


def _raised(program: Program, report: dict[str, Any]) -> tuple[Verdict, str]:
    message = f"{report['name']}: {report['message']}" if report["message"] else report["name"]
    here = [frame for frame in report["frames"] if frame[0] == FILE]
    if not here:
        return "error", message
    _, first, last, _ = here[-1]
    if not report["assertion"]:
        return "error", f"{message} (line {first})"
    statement = " ".join(line.strip() for line in program.lines[first - 1 : last])
    said = f" ({report['message']})" if report["message"] else ""
    return "failed", f"line {first}: {one_line(statement, _LONGEST_SOURCE_LINE)}{said}"


def _traceback(program: Program, report: dict[str, Any]) -> str:
    """The traceback in Python's own form."""
    source = program.lines
    text = ["Traceback (most recent call last):"]
    for number, (file, first, last, function) in enumerate(report["frames"]):
        if report["cut"] and number == report["first"]:
            text.append(f"  [{report['cut']} more frames]")
        text.append(f'  File "{file}", line {first}, in {function}')
        if file == FILE:
            text += [f"    {line.strip()[:_LONGEST_SOURCE_LINE]}" for line in source[first - 1 : min(last, first + 9)]]
    text.append(f"{report['name']}: {report['message']}" if report["message"] else report["name"])
    return "\n".join(text)


def _parse_report(text: str) -> dict[str, Any]:
    """A report of the right shape, or {"kind": ""}: a program can write anything there."""
    try:
        report = json.loads(text)
        kind = report["kind"]
        if kind == "returned":
            return {"kind": kind, "proof": str(report["proof"]).encode("ascii", "replace").decode()}
        if kind == "raised":
            frames = [(str(file), int(first), int(last), str(name)) for file, first, last, name in report["frames"]]
            return {
                "kind": kind, "assertion": report.get("assertion") is True, "name": str(report["name"]),
                "message": str(report["message"]), "frames": [frame for frame in frames if 0 < frame[1] <= frame[2]],
                "cut": int(report.get("cut", 0)), "first": int(report.get("first", 0)),
            }
        return {"kind": kind if kind in ("memory", "exit", "gone", "tampered") else "",
                "message": str(report.get("message", ""))}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {"kind": ""}


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def printable(text: str) -> str:
    """Text that every encoder takes: lone surrogates become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def visible(text: str) -> str:
    """Text with its control characters as escapes, new lines and tabs apart: a terminal obeys none of it."""
    return "".join(char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs") else repr(char)[1:-1]
                   for char in printable(text))


def one_line(text: str, longest: int) -> str:
    """Text on one line of at most `longest` characters, control characters made visible."""
    flat = re.sub(r"\s+", " ", printable(text)).strip()
    flat = "".join(char if char.isprintable() else repr(char)[1:-1] for char in flat)
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"
