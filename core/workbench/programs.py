"""Running one completion again. No torch here: the answer comes as soon as the program has ended."""

from __future__ import annotations

import contextlib

from core.contract.workbench import ProgramRan, RunProgram
from core.data.humaneval import Problem
from core.evaluation.sandbox import execute
from core.evaluation.scoring import build_program
from core.workbench import Replies


def run_program(request: RunProgram) -> Replies:
    """Execute a completion against its problem's tests, in the sandbox; closing this ends the program.

    Raises:
        SandboxError: it is not executed here; a WeakSandboxError where the user's leave is all that is missing.
    """
    problem = Problem(**request.problem.model_dump())
    settings = request.evaluation
    running = execute(
        [build_program(problem, request.completion)], timeout=settings.timeout_seconds,
        memory_limit_mb=settings.memory_limit_mb, workers=1, allow_weak=settings.allow_weak_sandbox,
    )
    with contextlib.closing(running):
        for outcome in running:
            yield None if outcome is None else ProgramRan(
                request=request.id, passed=outcome.passed, verdict=outcome.verdict, detail=outcome.detail,
                traceback=outcome.traceback, stdout=outcome.stdout, stderr=outcome.stderr,
                seconds=outcome.seconds, cpu_seconds=outcome.cpu_seconds, peak_memory_mb=outcome.peak_memory_mb,
                isolation=outcome.isolation,
            )
    return ""
