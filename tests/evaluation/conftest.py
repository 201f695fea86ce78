"""Small problems, and a way to run completions of them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from core.data.humaneval import Problem
from core.evaluation.sandbox import Isolation, LevelReport, Outcome, execute, levels
from core.evaluation.scoring import build_program

FORTY_TWO = Problem(
    task_id="Test/42", prompt='def answer():\n    """Forty-two."""\n', entry_point="answer",
    canonical_solution="    return 42\n", test="def check(candidate):\n    assert candidate() == 42\n",
)

Run = Callable[..., list[Outcome]]


@pytest.fixture(scope="session")
def reports() -> dict[Isolation, LevelReport]:
    """What this machine grants, level by level."""
    return {report.level: report for report in levels()}


@pytest.fixture(scope="session")
def granted(reports: dict[Isolation, LevelReport]) -> Isolation:
    """The strongest level of isolation of this machine."""
    return next(level for level, report in reports.items() if report.granted)


@pytest.fixture(scope="session", params=["namespaces", "landlock", "process"])
def isolation(request: pytest.FixtureRequest, reports: dict[Isolation, LevelReport]) -> Isolation:
    """Each level of isolation in turn."""
    report = reports[request.param]
    if not report.granted:
        pytest.skip(f"this machine does not grant {report.level}: {report.reason}")
    return report.level


@pytest.fixture
def namespaces(granted: Isolation) -> None:
    """Skips the test on a machine that grants no namespaces."""
    if granted != "namespaces":
        pytest.skip("this machine grants no namespaces")


@pytest.fixture(scope="session")
def forty_two() -> Problem:
    """Its tests start on the second line after the completion."""
    return FORTY_TWO


@pytest.fixture(scope="session")
def run() -> Run:
    """Execute completions, of the problem whose answer is 42 or of one each; outcomes in their order."""

    def run(completions: Sequence[str], timeout: float = 1.0, workers: int = 2, isolation: str = "auto",
            memory_limit_mb: int = 256, problems: Sequence[Problem] = ()) -> list[Outcome]:
        programs = [build_program(problem, completion, key) for key, (problem, completion)
                    in enumerate(zip(problems or [FORTY_TWO] * len(completions), completions, strict=True))]
        outcomes = execute(programs, timeout=timeout, memory_limit_mb=memory_limit_mb, workers=workers,
                           isolation=isolation, allow_weak=True)  # type: ignore[arg-type]
        return sorted((outcome for outcome in outcomes if outcome), key=lambda outcome: outcome.program.key)

    return run


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After each test of this folder: no process and no temporary folder more than before."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = set(psutil.pids())
    yield
    assert list(folder.iterdir()) == []
    deadline = time.monotonic() + 5
    while servers := [pid for pid in set(psutil.pids()) - before if _is_ours(pid)]:
        assert time.monotonic() < deadline, servers
        time.sleep(0.02)


def _is_ours(pid: int) -> bool:
    """Whether it is a server that this process started, or one that was left by whoever started it."""
    try:
        process = psutil.Process(pid)
        if "core/evaluation/server" not in " ".join(process.cmdline()):
            return False
        return process.ppid() == 1 or psutil.Process() in process.parents()
    except psutil.NoSuchProcess:
        return False
