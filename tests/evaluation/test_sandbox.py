"""The pool: order, heartbeats, and an end that leaves nothing behind, however it comes."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.contract.errors import SandboxError, WeakSandboxError
from core.evaluation.sandbox import Isolation, Outcome, Program, execute, isolation_level, levels
from core.evaluation.verdicts import judge
from tests.evaluation.machines import refuse

CHECK = "def check(candidate):\n    candidate()\n"
QUICK = Program("def work():\n    pass\n", CHECK, "work")


@pytest.fixture
def every_level(granted: Isolation) -> None:
    """Skips the test on a machine that lacks a level: it could not tell which refusal it sees."""
    if not all(report.granted for report in levels()):
        pytest.skip("this machine does not grant every level")


SLEEPER = "54.326"


def sleeping(seconds: str, key: int = 0) -> Program:
    source = f"import subprocess\ndef work():\n    subprocess.run(['sleep', '{seconds}'])\n"
    return Program(source, CHECK, "work", key=key)


def sleepers() -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if SLEEPER in (p.info["cmdline"] or [])]


def wait_until(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_slow_program_blocks_nobody() -> None:
    programs = [sleeping("1", 99), *(replace(QUICK, key=key) for key in range(20))]
    outcomes = [o for o in execute(programs, timeout=5, memory_limit_mb=256, workers=2) if o]
    assert [outcome.program.key for outcome in outcomes][-1] == 99
    assert all(outcome.passed for outcome in outcomes)


def test_heartbeats_while_nothing_ends() -> None:
    times = [time.monotonic()]
    for _ in execute([sleeping("1")], timeout=5, memory_limit_mb=256, workers=1):
        times.append(time.monotonic())
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) < 0.6
    assert len(times) > 6


def test_programs_are_taken_as_workers_fall_free() -> None:
    taken = []

    def programs():
        for key in range(6):
            taken.append(key)
            yield replace(QUICK, key=key)

    for outcome in execute(programs(), timeout=5, memory_limit_mb=256, workers=1):
        if outcome:
            assert len(taken) <= outcome.program.key + 3


def test_no_programs() -> None:
    assert list(execute([], timeout=1, memory_limit_mb=256)) == []


def test_closing_ends_everything(isolation: Isolation) -> None:
    outcomes = execute([sleeping(SLEEPER)] * 4, timeout=60, memory_limit_mb=256, workers=2, isolation=isolation)
    wait_until(lambda: (next(outcomes), len(sleepers()) == 2)[1])
    outcomes.close()
    assert sleepers() == []


def test_a_killed_engine_leaves_no_program(isolation: Isolation, tmp_path: Path) -> None:
    script = (
        "from core.evaluation.sandbox import Program, execute\n"
        f"program = Program({sleeping(SLEEPER).source!r}, {CHECK!r}, 'work')\n"
        f"list(execute([program], timeout=60, memory_limit_mb=256, workers=1, isolation={isolation!r}))"
    )
    engine = subprocess.Popen([sys.executable, "-c", script], env={"TMPDIR": str(tmp_path)})
    try:
        wait_until(sleepers)
    finally:
        engine.send_signal(signal.SIGKILL)
        engine.wait()
    wait_until(lambda: sleepers() == [])
    wait_until(lambda: list(tmp_path.glob("softtune-*")) == [])


def test_a_folder_named_core_here_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("core", "candidate", "typing"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [outcome] = [o for o in execute([QUICK], timeout=5, memory_limit_mb=256) if o]
    assert outcome.passed


@pytest.mark.parametrize("refused, level", [
    ((), "namespaces"), (("namespaces",), "landlock"), (("namespaces", "landlock"), "process"),
    (("seccomp",), "process"), (("namespaces", "landlock", "seccomp"), "process"),
])
def test_the_strongest_level_that_a_machine_grants(
    every_level: None, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...], level: str
) -> None:
    refuse(monkeypatch, *refused)
    reports = {report.level: report for report in levels()}
    assert [report.level for report in levels()] == ["namespaces", "landlock", "process"]
    assert next(name for name, report in reports.items() if report.granted) == level == isolation_level()
    assert all(report.granted or report.reason for report in reports.values())
    outcomes = list(execute([QUICK] * 3, timeout=5, memory_limit_mb=256, workers=2, allow_weak=True))
    assert [(o.verdict, o.isolation) for o in outcomes if o] == [("passed", level)] * 3


def test_the_weak_level_has_to_be_allowed(every_level: None, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "namespaces", "landlock")
    with pytest.raises(WeakSandboxError, match=r"(?s)weak sandbox.*evaluation\.allow_weak_sandbox: true"):
        list(execute([QUICK], timeout=5, memory_limit_mb=256))


def test_a_level_that_was_asked_for_is_not_lowered(every_level: None, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "namespaces")
    with pytest.raises(SandboxError, match="'namespaces': unshare: Operation not permitted"):
        list(execute([QUICK], timeout=5, memory_limit_mb=256, isolation="namespaces"))


def test_a_server_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("core.evaluation.server_process._SERVER", tmp_path / "missing")
    with pytest.raises(SandboxError, match="ended with status 2"):
        list(execute([QUICK], timeout=5, memory_limit_mb=256, allow_weak=True))


def test_a_fault_of_the_sandbox_is_not_blamed_on_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that stands where the server makes its own."""
    real = tempfile.mkdtemp

    def occupied(**options: str) -> str:
        folder = real(**options)
        (Path(folder) / "work").mkdir()
        return folder

    monkeypatch.setattr("core.evaluation.server_process.tempfile.mkdtemp", occupied)
    with pytest.raises(SandboxError, match="(?s)failed twice.*FileExistsError"):
        list(execute([QUICK], timeout=5, memory_limit_mb=256, isolation="process"))


def test_a_program_that_cannot_be_shut_in_is_not_run(every_level: None, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "rules")
    with pytest.raises(SandboxError, match="(?s)failed twice.*did not start"):
        list(execute([QUICK], timeout=5, memory_limit_mb=256, isolation="landlock"))


def test_many_quick_programs_all_get_their_verdict(isolation: Isolation) -> None:
    """Programs that end before the server has turned round."""
    failing = Program("def work():\n    assert False\n", CHECK, "work")
    outcomes = execute([failing] * 300, timeout=5, memory_limit_mb=256, workers=4, isolation=isolation)
    assert [o.verdict for o in outcomes if o] == ["failed"] * 300


def test_a_starved_program_is_tried_once_more_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first outcome of program 0 says that it was never given its share of a core."""
    told: list[int] = []

    def starved_once(program: Program, facts: dict[str, Any], level: Isolation) -> Outcome:
        told.append(program.key)
        return replace(judge(program, facts, level), starved=program.key == 0 and told.count(0) == 1)

    monkeypatch.setattr("core.evaluation.sandbox.judge", starved_once)
    programs = [replace(QUICK, key=key) for key in range(12)]
    outcomes = [o for o in execute(programs, timeout=5, memory_limit_mb=256, workers=2) if o]
    assert sorted(outcome.program.key for outcome in outcomes) == list(range(12))
    assert told[-1] == outcomes[-1].program.key == 0 and told.count(0) == 2 and outcomes[-1].passed


def test_the_memory_of_all_processes_counts(isolation: Isolation) -> None:
    source = (
        "import os, time\ndef work():\n    for child in range(8):\n        if os.fork() == 0:\n"
        "            held = bytearray(os.urandom(1)) * (60 << 20)\n            time.sleep(30)\n    time.sleep(30)\n"
    )
    program = Program(source, CHECK, "work")
    [outcome] = [o for o in execute([program], timeout=20, memory_limit_mb=256, isolation=isolation) if o]
    assert (outcome.verdict, outcome.detail) == ("out of memory", "its processes together reached the memory limit")
    assert outcome.peak_memory_mb > 256


def test_a_program_that_starves_itself_is_not_tried_again() -> None:
    hog = "import os\ndef f():\n    any(os.fork() == 0 for _ in range(12))\n    while True: pass\n"
    program = Program(hog, "def check(candidate):\n    candidate()\n", "f")
    [outcome] = [o for o in execute([program], timeout=0.5, memory_limit_mb=256, workers=1) if o]
    assert outcome.verdict == "timed out" and not outcome.starved


def test_a_program_too_large_to_be_sent_stops_nobody() -> None:
    check = "def check(candidate):\n    candidate()\n"
    fine, huge = "def f():\n    pass\n", f"def f():\n    pass\n#{' ' * (64 << 20)}\n"
    programs = [Program(source, check, "f", key=key) for key, source in enumerate((fine, huge, fine))]
    outcomes = {o.program.key: o for o in execute(programs, timeout=5.0, memory_limit_mb=256, workers=1) if o}
    assert [outcomes[key].verdict for key in range(3)] == ["passed", "error", "passed"]
    assert "64 MB" in outcomes[1].detail
