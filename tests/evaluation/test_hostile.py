"""Completions that try to pass without solving, to hurt, or to stay. Each is bounded in itself.

One property each, one file each in hostile/; all of a level run as one batch, as they would in earnest.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from core.evaluation.sandbox import Isolation, Outcome

SLEEPER = "54.325"
"""Seconds for `sleep`, by which children that were meant to stay are found."""


@dataclass(frozen=True)
class Case:
    """A completion and what must become of it; `detail` is part of the outcome's."""

    completion: str
    verdicts: tuple[str, ...]
    detail: str = ""
    only: str = ""
    """The one level of isolation that keeps a program from this; "" for every level."""


def read_case(path: Path) -> Case:
    """A file of the corpus: `# key: value` lines, which are not part of the completion, then the completion."""
    head: dict[str, str] = {}
    lines = path.read_text().splitlines(keepends=True)
    while lines[0].startswith("# "):
        key, _, value = lines.pop(0)[2:].strip().partition(": ")
        head[key] = value
    return Case("".join(lines), tuple(head["verdict"].split(" | ")), head.get("detail", ""), head.get("only", ""))


CASES = {path.stem: read_case(path) for path in sorted(Path(__file__).with_name("hostile").glob("*.completion"))} | {
    "null_byte": Case("    return 42\x00", ("error",), "null bytes"),
    "surrogate_in_the_source": Case("    return '\ud800'", ("error",), "Unicode"),
    "large_source": Case("    return 42\n#" + "x" * 5_000_000, ("passed",)),
}


@pytest.fixture(scope="module")
def outcomes(isolation: Isolation, run) -> dict[str, Outcome]:
    """Outcomes by case name, of all cases run at one level of isolation."""
    cases = {name: case for name, case in CASES.items() if case.only in ("", isolation)}
    done = run([case.completion for case in cases.values()], isolation=isolation)
    return dict(zip(cases, done, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_verdict(outcomes: dict[str, Outcome], name: str) -> None:
    case = CASES[name]
    if name not in outcomes:
        pytest.skip(f"only {case.only} keep a program from this")
    outcome = outcomes[name]
    assert outcome.verdict in case.verdicts, (outcome.verdict, outcome.detail, outcome.stderr)
    assert case.detail in outcome.detail
    assert outcome.detail.isprintable()


def test_time_is_kept(outcomes: dict[str, Outcome]) -> None:
    assert 1.0 <= outcomes["sleep"].seconds < 2.0
    assert outcomes["sleep"].cpu_seconds < 0.5
    assert 1.0 <= outcomes["endless"].seconds < 4.0  # three times the limit where the core is shared
    assert outcomes["thread_goes_on"].seconds < 1.0


def test_output_is_kept_and_capped(outcomes: dict[str, Outcome]) -> None:
    assert len(outcomes["flood"].stdout) == 16 << 10
    assert outcomes["surrogates"].stdout == "\\ud800\n"
    assert outcomes["huge_message"].traceback.count("x") < 3000


def test_traceback_has_the_programs_own_lines(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["undefined"].traceback.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<completion>", line 8, in <module>', "    check(answer)",
        '  File "<completion>", line 6, in check', "    assert candidate() == 42",
        '  File "<completion>", line 3, in answer', "    return x",
        "NameError: name 'x' is not defined",
    ]
    assert "more frames]" in outcomes["recursion"].traceback
    assert len(outcomes["recursion"].traceback) < 4000


def test_no_child_is_left(outcomes: dict[str, Outcome]) -> None:
    sleepers = [p for p in psutil.process_iter(["cmdline"]) if SLEEPER in " ".join(p.info["cmdline"] or [])]
    assert sleepers == []


def test_environment_is_empty(run, monkeypatch: pytest.MonkeyPatch, isolation: Isolation) -> None:
    monkeypatch.setenv("SOFTTUNE_TEST_SECRET", "planted")
    look = "    import os\n    print(sorted(os.environ))\n    print(open('/proc/self/environ').read())\n    return 42"
    [outcome] = run([look], isolation=isolation)
    assert outcome.passed and "planted" not in outcome.stdout
    assert "['HOME', 'LANG', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PATH', 'TMPDIR']" in outcome.stdout


def test_no_open_file_of_ours(run, tmp_path: Path, isolation: Isolation) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        look = "    import os\n    return 42 if len(os.listdir('/proc/self/fd')) <= 6 else os.listdir('/proc/self/fd')"
        [outcome] = run([look], isolation=isolation)
    assert outcome.passed, outcome.detail


def test_nothing_outside_is_written(run, namespaces: None, tmp_path: Path) -> None:
    target = tmp_path / "written"
    outcomes = run([f"    open({str(path)!r}, 'w')" for path in (target, "/tmp/x", "/dev/x")], isolation="namespaces")
    assert [outcome.detail.partition(":")[0] for outcome in outcomes] == ["OSError"] * 3
    assert not target.exists()


def test_no_network(run, namespaces: None) -> None:
    """The listener is ours; a program that reached it would be heard."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1.5)

        def listen() -> None:
            try:
                heard.append(listener.accept())
            except TimeoutError:
                return

        thread = threading.Thread(target=listen)
        thread.start()
        call = f"    import socket\n    socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}), 1)"
        [outcome] = run([call], isolation="namespaces")
        thread.join()
    assert (outcome.verdict, heard) == ("error", [])


def test_a_program_that_kills_its_server_costs_only_itself(run) -> None:
    kill = "    import os\n    os.kill(os.getppid(), 9)\n    import time\n    time.sleep(5)"
    honest = "    return 42"
    outcomes = run([honest, kill, honest, kill, honest], isolation="process", workers=1)
    assert [outcome.verdict for outcome in outcomes] == ["passed", "crashed", "passed", "crashed", "passed"]
    assert "watched" in outcomes[1].detail


def test_a_program_that_stalls_its_server_is_ended(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.evaluation.server_process._GRACE", 0.5)
    started = time.monotonic()
    stall = "    import os, signal\n    os.kill(os.getppid(), signal.SIGSTOP)\n    while True: pass"
    outcomes = run([stall, "    return 42"], isolation="process", workers=1, timeout=0.3)
    assert [outcome.verdict for outcome in outcomes] == ["timed out", "passed"]
    assert time.monotonic() - started < 10
