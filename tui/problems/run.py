"""Running one completion again, through the workbench; nothing that is stored changes by it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from core.contract.config import EvaluationSettings
from core.contract.errors import SofttuneError
from core.contract.runs import RunFolder
from core.contract.workbench import Cancelled, ProblemText, ProgramRan, Refused, RunProgram, Working
from tui.consent import Consent
from tui.problems.files import Execution, Problem
from tui.problems.listing import Attempt
from tui.run_view import ProblemState


@dataclass(frozen=True)
class Rerun:
    """How a run by hand stands: at work, done, or impossible."""

    working: str = ""
    """What is being done; "" once it is over."""
    ran: ProgramRan | None = None
    fault: str = ""
    remedy: str = ""

    def attempt(self, completion: str) -> Attempt:
        """What came of it, in the form that stored results have; pending without a result."""
        if self.ran is None:
            return Attempt()
        ran = self.ran
        state = ProblemState(completion=completion, passed=ran.passed, verdict=ran.verdict, detail=ran.detail,
                             seconds=ran.seconds)
        return Attempt(state, Execution(ran.traceback, ran.stdout, ran.stderr, ran.cpu_seconds,
                                        ran.peak_memory_mb, ran.isolation))


def obstacle(problem: Problem, completion: str | None) -> str:
    """Why a completion cannot be run; "" where it can."""
    if completion is None:
        return "there is no completion yet"
    if not problem.test or not problem.entry_point:
        return "the tests of this problem are not known: the run has no problems.jsonl that names them"
    try:
        (problem.prompt + completion + problem.test).encode()
    except UnicodeEncodeError as error:
        code = ord(str(error.object)[error.start])
        return f"the completion has half of a surrogate pair (U+{code:04X}), which no program file can hold"
    return ""


def settings_of(run: RunFolder) -> EvaluationSettings:
    """Time and memory limits that the run was scored with; the defaults where its configuration cannot be read."""
    try:
        return run.read_config().evaluation
    except SofttuneError:
        return EvaluationSettings()


async def run_program(consent: Consent, run: RunFolder, problem: Problem, completion: str) -> AsyncIterator[Rerun]:
    """Run it as the scoring does, and give how it stands; the last one is done or says why it is not.

    Leaving the iteration early gives the run up.
    """
    hindrance = obstacle(problem, completion)
    if hindrance:
        yield Rerun(fault=hindrance)
        return
    yield Rerun(working="running the program in the sandbox")
    settings = await asyncio.to_thread(settings_of, run)
    text = ProblemText(task_id=problem.task_id, prompt=problem.prompt, entry_point=problem.entry_point,
                       canonical_solution=problem.canonical_solution, test=problem.test)

    def request(number: int, *, allow_weak: bool) -> RunProgram:
        evaluation = settings.model_copy(update={"allow_weak_sandbox": allow_weak})
        return RunProgram(id=number, problem=text, completion=completion, evaluation=evaluation)

    answered = False
    async with contextlib.aclosing(consent.ask(request)) as replies:
        async for reply in replies:
            if isinstance(reply, Working):
                yield Rerun(working=reply.what)
            elif isinstance(reply, ProgramRan):
                answered = True
                yield Rerun(ran=reply)
            elif isinstance(reply, Refused):
                answered = True
                yield Rerun(fault=reply.what, remedy=reply.remedy)
            elif isinstance(reply, Cancelled):
                answered = True
                yield Rerun(fault="it was given up")
    if not answered:
        yield Rerun(fault="the workbench ended without a verdict", remedy="r tries again")
