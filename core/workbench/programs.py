"""Running one completion again. No torch here: the answer comes as soon as the program has ended."""

from __future__ import annotations

import contextlib

from core.contract.workbench import ProgramRan, RunProgram
from core.data.humaneval import Problem
from core.evaluation.sandbox import execute
from core.evaluation.scoring import build_program
from core.evaluation.verdicts import printable
from core.workbench import Replies


def run_program(request: RunProgram) -> Replies:
    """Execute a completion against its problem's tests, in the sandbox; closing this ends the program."""
    problem = Problem(**request.problem.model_dump())
    settings = request.evaluation
    running = execute(
        [build_program(problem, request.completion)], timeout=settings.timeout_seconds,
        memory_limit_mb=settings.memory_limit_mb, workers=1,
    )
    with contextlib.closing(running):
        for outcome in running:
            if outcome is None:
                yield None
                continue
            yield ProgramRan(
                request=request.id, passed=outcome.passed, verdict=outcome.verdict, detail=outcome.detail,
                traceback=outcome.traceback, stdout=printable(outcome.stdout), stderr=printable(outcome.stderr),
                seconds=outcome.seconds, isolation=outcome.isolation,
            )
    return ""
