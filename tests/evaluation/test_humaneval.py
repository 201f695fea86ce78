"""Honest code: HumanEval's own solutions pass, and none passes without one."""

from __future__ import annotations

from typing import Literal

import pytest

from core.data.humaneval import Problem, load_problems
from core.evaluation.sandbox import Isolation, Outcome, execute
from core.evaluation.scoring import build_program


@pytest.fixture(scope="module")
def problems() -> tuple[Problem, ...]:
    return load_problems().problems


def run(samples: list[tuple[Problem, str]], isolation: Isolation | Literal["auto"]) -> list[Outcome]:
    programs = [build_program(problem, completion, key) for key, (problem, completion) in enumerate(samples)]
    outcomes = execute(programs, timeout=3.0, memory_limit_mb=1024, workers=2, isolation=isolation)
    return sorted((outcome for outcome in outcomes if outcome), key=lambda outcome: outcome.program.key)


def test_all_canonical_solutions_pass(problems: tuple[Problem, ...], isolation: Isolation) -> None:
    outcomes = run([(problem, problem.canonical_solution) for problem in problems], isolation)
    assert len(outcomes) == 164
    assert [(outcome.program.key, outcome.detail) for outcome in outcomes if not outcome.passed] == []


def test_all_pass_bodied_ones_fail(problems: tuple[Problem, ...], isolation: Isolation) -> None:
    outcomes = run([(problem, "    pass\n") for problem in problems], isolation)
    assert len(outcomes) == 164
    assert {outcome.verdict for outcome in outcomes} == {"failed", "error"}
    assert all(outcome.detail and outcome.traceback for outcome in outcomes)
