"""From what the server saw to a verdict. Whatever a program managed to say about itself is only ever shown."""

from __future__ import annotations

import hmac
import json
import re
import signal
from dataclasses import dataclass
from typing import Any, Literal

from core.evaluation.server.candidate import FILE

Isolation = Literal["namespaces", "process"]
"""How well a program was shut in: `sandbox.py` says what each level covers."""

Verdict = Literal["passed", "failed", "error", "timed out", "out of memory", "crashed", "exited early"]

_LONGEST_DETAIL = 300
_LONGEST_SOURCE_LINE = 200


@dataclass(frozen=True)
class Program:
    """Source that defines everything, and the call that must return: line 1 is the source's line 1."""

    source: str
    call: str
    key: int = 0
    """The caller's own number for it."""


@dataclass(frozen=True)
class Outcome:
    """What became of one program.

    `passed` is proven: the call returned, the nonce came back, and the process ended with status 0.
    """

    program: Program
    verdict: Verdict
    detail: str
    """One line: the failing assertion with its line number, the exception, the signal."""
    traceback: str
    """In the program's own line numbers; "" where no exception was seen."""
    stdout: str
    stderr: str
    """Captured output, the first 16 KiB of each, control characters as they came."""
    seconds: float
    """Wall clock, from the start of the process to its end."""
    cpu_seconds: float
    isolation: Isolation

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
        program, verdict, one_line(detail, _LONGEST_DETAIL), printable(traceback), facts["stdout"], facts["stderr"],
        round(facts["seconds"], 4), round(facts["cpu_seconds"], 4), isolation,
    )


def lost(program: Program, verdict: Verdict, detail: str, seconds: float, isolation: Isolation) -> Outcome:
    """The outcome of a program whose server is gone or silent."""
    return Outcome(program, verdict, detail, "", "", "", round(seconds, 4), 0.0, isolation)


def _verdict(program: Program, facts: dict[str, Any], report: dict[str, Any]) -> tuple[Verdict, str]:
    status, kind = facts["status"], report["kind"]
    if facts["timed_out"]:
        return "timed out", f"after {facts['seconds']:.1f} s"
    if status == -signal.SIGXCPU:
        return "timed out", f"after {facts['cpu_seconds']:.1f} s of CPU time"
    if status < 0:
        return "crashed", f"killed by {_signal_name(-status)}"
    if kind == "returned" and status == 0 and hmac.compare_digest(report["proof"], facts["nonce"]):
        return "passed", ""
    if kind == "memory" or (kind == "raised" and report["name"] == "MemoryError"):
        return "out of memory", "the program reached its memory limit"
    if kind == "raised":
        return _raised(program, report)
    if kind == "exit":
        return "exited early", "SystemExit was raised before check() returned"
    return "exited early", f"the process ended with status {status} before check() returned"


def _raised(program: Program, report: dict[str, Any]) -> tuple[Verdict, str]:
    message = f"{report['name']}: {report['message']}" if report["message"] else report["name"]
    here = [frame for frame in report["frames"] if frame[0] == FILE]
    if not here:
        return "error", message
    _, first, last, _ = here[-1]
    if not report["assertion"]:
        return "error", f"{message} (line {first})"
    statement = " ".join(line.strip() for line in _lines(program)[first - 1 : last])
    said = f" ({report['message']})" if report["message"] else ""
    return "failed", f"line {first}: {one_line(statement, _LONGEST_SOURCE_LINE)}{said}"


def _traceback(program: Program, report: dict[str, Any]) -> str:
    """The traceback in Python's own form."""
    source = _lines(program)
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
        return {"kind": kind if kind in ("memory", "exit") else ""}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {"kind": ""}


def _lines(program: Program) -> list[str]:
    whole = f"{program.source}{program.call}\n"
    return whole.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def printable(text: str) -> str:
    """Text that every encoder takes: lone surrogates become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str, longest: int) -> str:
    """Text on one line of at most `longest` characters, control characters made visible."""
    flat = re.sub(r"\s+", " ", printable(text)).strip()
    flat = "".join(char if char.isprintable() else repr(char)[1:-1] for char in flat)
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"
