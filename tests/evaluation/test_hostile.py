"""Completions that try to pass without solving, to hurt, or to stay: one property each, one file each in hostile/.

All of a level run as one batch, as they would in earnest; `hostile/corpus.py` says how their files are written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from core.evaluation.sandbox import Isolation, Outcome, Program, execute
from core.evaluation.verdicts import Verdict
from tests.evaluation.hostile.corpus import CASES, EXPECTED, FILES, PROBLEMS
from tests.evaluation.hostile.surroundings import Surroundings, own_state
from tests.evaluation.machines import refuse


@dataclass
class Aftermath:
    """What the corpus left at one level of isolation."""

    level: Isolation
    outcomes: dict[str, Outcome]
    surroundings: Surroundings
    before: dict[str, Any]
    after: dict[str, Any]


@pytest.fixture(scope="module")
def aftermath(isolation: Isolation, run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """The corpus, executed."""
    cases = {name: case for name, case in CASES.items() if isolation in case.levels}
    with closing(Surroundings(tmp_path_factory.mktemp("hostile"))) as surroundings:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(surroundings.home))
            patch.setenv("SOFTTUNE_TEST_SECRET", surroundings.secret)
            patch.setattr(tempfile, "tempdir", str(surroundings.folder))
            before = own_state() | {"below": surroundings.files()}
            done = run([surroundings.filled_in(case.completion) for case in cases.values()], isolation=isolation,
                       problems=[case.problem for case in cases.values()])
            after = own_state() | {"below": surroundings.files()}
        yield Aftermath(isolation, dict(zip(cases, done, strict=True)), surroundings, before, after)


@pytest.fixture(scope="module")
def outcomes(aftermath: Aftermath) -> dict[str, Outcome]:
    """Outcomes by case name."""
    return aftermath.outcomes


@pytest.mark.parametrize("name", CASES)
def test_verdict(aftermath: Aftermath, name: str) -> None:
    case = CASES[name]
    if name not in aftermath.outcomes:
        pytest.skip(f"only {' and '.join(case.levels)} keep a program from this")
    outcome = aftermath.outcomes[name]
    assert outcome.verdict in case.verdicts(aftermath.level), (outcome.verdict, outcome.detail, outcome.stderr)
    assert case.detail in outcome.detail
    assert outcome.detail.isprintable()


def test_no_process_is_left(aftermath: Aftermath) -> None:
    assert aftermath.surroundings.processes_left() == []
    assert aftermath.surroundings.kernel_objects_left() == []


def test_no_file_is_changed_outside(aftermath: Aftermath) -> None:
    assert aftermath.after["below"] == aftermath.before["below"]


def test_nobody_was_heard(aftermath: Aftermath) -> None:
    assert aftermath.surroundings.heard() == []


def test_no_secret_got_out(aftermath: Aftermath) -> None:
    """At level "process" programs read what their user can: it is refused unless it was allowed."""
    secrets = {aftermath.surroundings.secret, EXPECTED} if aftermath.level != "process" else {EXPECTED}
    for name, outcome in aftermath.outcomes.items():
        told = outcome.stdout + outcome.stderr
        if CASES[name].problem is not PROBLEMS["hidden"]:  # whose tests' own line names what was expected
            told += outcome.detail + outcome.traceback
        assert not [secret for secret in secrets if secret in told], name


def test_this_process_is_as_it_was(aftermath: Aftermath, run) -> None:
    assert {**aftermath.after, "below": None} == {**aftermath.before, "below": None}
    [outcome] = run(["    return 42"], isolation=aftermath.level)
    assert outcome.passed


def test_corpus() -> None:
    assert len(FILES) >= 40
    expected = {verdict for case in CASES.values() for level in case.levels for verdict in case.verdicts(level)}
    assert expected == set(get_args(Verdict))
    assert all(case.tries for name, case in CASES.items() if name in {path.stem for path in FILES})
    assert len({case.completion for case in CASES.values()}) == len(CASES)


def test_time_is_kept(outcomes: dict[str, Outcome]) -> None:
    assert 1.0 <= outcomes["sleep"].seconds < 2.0
    assert outcomes["sleep"].cpu_seconds < 0.5
    assert 1.0 <= outcomes["endless"].seconds < 4.0  # three times the limit where the core is shared
    assert outcomes["thread_goes_on"].seconds < 1.0


def test_output_is_kept_and_capped(outcomes: dict[str, Outcome]) -> None:
    assert len(outcomes["flood"].stdout) == 16 << 10
    assert outcomes["surrogates"].stdout == "\\ud800\n"
    assert outcomes["huge_message"].traceback.count("x") < 3000


def test_memory_is_told(outcomes: dict[str, Outcome]) -> None:
    """Twenty children of 150 MB, ended when 256 MB and an interpreter were used; they fill it between two looks."""
    assert 256 < outcomes["memory_in_children"].peak_memory_mb < 2000
    assert outcomes["honest"].peak_memory_mb < 64


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


def test_a_program_finds_nothing_of_the_one_before(run, isolation: Isolation) -> None:
    """One worker: they run in the same place, one after the other."""
    if isolation == "process":
        pytest.skip("programs of level process write where their user can")
    first, second = run([CASES[name].completion for name in ("leaves_a_mark", "looks_for_the_mark")], workers=1,
                        isolation=isolation)
    assert (first.verdict, second.verdict) == ("passed", "passed"), second.detail


def test_a_program_has_nothing_of_the_one_before_in_memory(isolation: Isolation) -> None:
    """Neither its source, which may be the solution, nor what its tests, or it, said: both quote what is expected."""
    secret = "expected-0123456789abcdef"
    check = f"def check(candidate):\n    print('{secret}')\n    assert candidate() == '{secret}', '{secret}'\n"
    look = f"def answer():\n{CASES['looks_for_secrets_in_memory'].completion}"
    solution = f"def answer():\n    print('{secret}')\n    return '{secret}'\n"
    programs = [Program(source, check, "answer") for source in ("def answer():\n    return 1\n", look, solution, look)]
    outcomes = [outcome for outcome in execute(programs, timeout=5.0, memory_limit_mb=256, workers=1,
                                               isolation=isolation, allow_weak=True) if outcome]
    assert [outcome.verdict for outcome in outcomes] == ["failed", "failed", "passed", "failed"]


def test_environment_is_empty(run, monkeypatch: pytest.MonkeyPatch, isolation: Isolation) -> None:
    monkeypatch.setenv("SOFTTUNE_TEST_SECRET", "planted")
    look = "    import os\n    print(sorted(os.environ))\n    return 42"
    [outcome] = run([look], isolation=isolation)
    assert outcome.passed and "planted" not in outcome.stdout
    assert "['HOME', 'LANG', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PATH', 'TMPDIR']" in outcome.stdout


def test_no_open_file_of_ours(run, tmp_path: Path, isolation: Isolation) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        look = (
            "    import os\n    held = []\n    for number in range(256):\n        try: os.fstat(number)\n"
            "        except OSError: continue\n        held.append(number)\n    return 42 if len(held) <= 4 else held"
        )
        [outcome] = run([look], isolation=isolation)
    assert outcome.passed, outcome.detail


def test_a_program_that_kills_its_server_costs_only_itself(run, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "seccomp")  # which keeps it from that on most machines
    kill = "    import os\n    os.kill(os.getppid(), 9)\n    import time\n    time.sleep(5)"
    honest = "    return 42"
    outcomes = run([honest, kill, honest, kill, honest], isolation="process", workers=1)
    assert [outcome.verdict for outcome in outcomes] == ["passed", "crashed", "passed", "crashed", "passed"]
    assert "watched" in outcomes[1].detail


def test_a_program_that_kills_other_servers_costs_their_programs_nothing(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are tried again when nobody is beside them."""
    refuse(monkeypatch, "seccomp")
    kill = """
    import os, time
    def children(pid): return open(f'/proc/{pid}/task/{pid}/children').read().split()
    ours = os.getppid()
    engine = open(f'/proc/{ours}/stat').read().rpartition(')')[2].split()[1]
    end = time.monotonic() + 1
    while time.monotonic() < end:
        for pid in children(engine):
            try:
                server = 'core/evaluation/server' in open(f'/proc/{pid}/cmdline').read()
                if server and int(pid) != ours and children(pid): os.kill(int(pid), 9)
            except OSError: pass
        time.sleep(0.01)
    return 42"""
    honest = "    import time\n    time.sleep(0.4)\n    return 42"
    outcomes = run([honest, kill], isolation="process", timeout=5.0)
    assert [outcome.verdict for outcome in outcomes] == ["passed", "passed"]


def test_a_program_that_takes_its_servers_folder_costs_only_itself(run) -> None:
    """At level "process", where nothing keeps it from that; what it moved away is its own to leave."""
    take = CASES["takes_its_servers_folder"].completion
    outcomes = run([take, "    return 42"], isolation="process", workers=1)
    for moved in Path(tempfile.gettempdir()).iterdir():
        shutil.rmtree(moved) if moved.is_dir() else moved.unlink()
    assert outcomes[1].passed


def test_a_program_that_stalls_its_server_is_ended(run, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "seccomp")
    monkeypatch.setattr("core.evaluation.server_process._GRACE", 0.5)
    started = time.monotonic()
    stall = "    import os, signal\n    os.kill(os.getppid(), signal.SIGSTOP)\n    while True: pass"
    outcomes = run([stall, "    return 42"], isolation="process", workers=1, timeout=0.3)
    assert [outcome.verdict for outcome in outcomes] == ["timed out", "passed"]
    assert time.monotonic() - started < 10
