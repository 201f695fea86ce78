"""`make chaos`: strike runs with every fault there is, and print how many survived it and what they lost.

Each row is one kind of fault: how often it was injected, how many runs came out of it bit by bit as if nothing had
happened (or were refused with words, where that is the right end), and the bytes lost as `survival` defines them. The
exit status is 0 only if all survived and nothing was lost.
"""

from __future__ import annotations

import argparse
import errno
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: threads do not come along into a fork
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

from tests.bench.table import Row, print_table  # noqa: E402 - the environment comes first
from tests.chaos import damage, disks, kills, locks, mounts, outputs  # noqa: E402
from tests.chaos.engines import in_a_fork, preload  # noqa: E402
from tests.chaos.kills import Job  # noqa: E402
from tests.chaos.survival import Outcome  # noqa: E402

Case = Callable[[], Outcome]
ERRORS = (errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ESTALE)


@dataclass(frozen=True)
class Fault:
    """A row of the table: a kind of fault and its cases, the quick ones first."""

    name: str
    cases: list[Case]
    quick: int
    """How many of them the short form takes."""


def faults(job: Job, scored: Job, seed: int, real_disks: bool) -> Iterator[Fault]:
    """Every fault; what is random comes from the seed."""
    chance = random.Random(seed)
    count = len(job.operations)
    everywhere = list(range(1, count + 1))
    chance.shuffle(everywhere)
    begun = next(at for at, operation in enumerate(job.operations, 1) if operation.endswith("/.reserve"))
    later = range(begun + 1, count + 1)

    def of(kind: type[disks.Trouble], name: str, number: int, *, stop: bool = False, quick: int = 0) -> Fault:
        places = chance.sample(later, number)
        return Fault(name, [partial(disks.strike, job, kind, at, stop=stop) for at in places], quick)

    yield Fault("SIGKILL at each file operation, torn writes",
                [partial(kills.kill_at_operation, job, at) for at in everywhere], 6)
    yield Fault("SIGKILL twice: the run, and what resumes it",
                [partial(kills.kill_at_operation, job, chance.choice(later), chance.randrange(20, 200))
                 for _ in range(30)], 1)
    yield Fault("SIGKILL at random moments, again and again",
                [partial(kills.kill_at_random, job, seed + number, 1.5) for number in range(30)], 1)
    scoring = [at for at, operation in enumerate(scored.operations, 1) if "/evaluations/" in operation
               or " results/" in operation] if scored.is_prepared else []
    yield Fault("SIGKILL at file operations of completing and scoring",
                [partial(kills.kill_at_operation, scored, at) for at in chance.sample(scoring, len(scoring) // 2)], 0)
    yield Fault("SIGKILL at random moments, with scoring",
                [partial(kills.kill_at_random, scored, seed + number, 5.0) for number in range(6)], 0)
    if real_disks:
        yield of(disks.Full, "full disk (tmpfs)", 20, quick=1)
        yield of(disks.Full, "full disk (tmpfs), and SIGTERM", 10, stop=True)
        yield of(disks.FullElsewhere, "full disk under soft_prompts/ (tmpfs)", 8)
        yield of(disks.ReadOnly, "read-only folders (mount)", 12)
    yield of(disks.NoByteLeft, "not a byte left (ENOSPC from writes)", 20, quick=0 if real_disks else 1)
    yield of(disks.NoByteLeft, "not a byte left, and SIGTERM", 20, stop=True)
    for code in ERRORS:
        yield of(disks.failing(code), f"{errno.errorcode[code]} from every file operation", 5)
    yield of(disks.failing(errno.EIO), "EIO from every file operation, and SIGTERM", 5, stop=True)
    yield of(disks.Gone, "run folder renamed away and back", 10)
    yield of(disks.Unmounted, "run folder away, an empty one in its place", 10)
    yield Fault("output that nobody takes", [partial(outputs.blocked, job, 60)], 0)
    yield Fault("three engines on one run", [partial(locks.race, job, seed + number) for number in range(8)], 0)
    yield Fault("stale pids, reboots, other machines",
                [partial(locks.stale, job, number) for number in range(len(list(locks.records())))], 1)
    for name, is_last, quick in (("damaged last.pt", True, 1), ("other damaged files", False, 0)):
        numbers = [number for number, one in enumerate(damage.DAMAGES) if (one.file == damage.LAST) is is_last]
        yield Fault(name, [partial(damage.resumed, job, number, seed + again)
                           for again in range(2) for number in numbers], quick)
    yield Fault("noise in control.jsonl while it is read",
                [partial(damage.control_noise, job, chance.choice(range(begun, count // 2))) for _ in range(3)], 0)
    yield Fault("hostile checkpoints to infer, export, compare",
                [partial(damage.given, job, what, seed) for what in damage.HOSTILE], 0)
    yield Fault("folders, pipes and links in place of files",
                [partial(damage.misplaced, job, what, place)
                 for what in damage.PLACES for place in damage.MISPLACED], 0)


def strike_all(cases: list[tuple[str, Case]], processes: int) -> Iterator[tuple[str, Outcome]]:
    """What came of each case, by the name of its fault, in the order in which they end."""
    with multiprocessing.get_context("fork").Pool(processes, _begin, (cases,)) as pool:
        yield from pool.imap_unordered(_strike, range(len(cases)))


_cases: list[tuple[str, Case]] = []


def _begin(cases: list[tuple[str, Case]]) -> None:
    """In a process of the pool: it has the cases by being a fork, since not all of them can be sent to it."""
    _cases[:] = cases
    mounts.own_mounts()


def _strike(number: int) -> tuple[str, Outcome]:
    name, play = _cases[number]
    try:
        return name, play()
    except Exception:  # the suite itself has failed, and a row must say so
        return name, Outcome(repr(play), False, 0, traceback.format_exc())


def _row(fault: Fault, outcomes: list[Outcome]) -> Row:
    survived, lost = sum(outcome.survived for outcome in outcomes), sum(outcome.lost for outcome in outcomes)
    met = survived == len(outcomes) and not lost
    return Row(fault.name, f"{len(outcomes)} injected", f"{survived} survived", met, f"{lost:,} bytes lost")


def main() -> int:
    """Run the suite."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few cases of the main faults, half a minute")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has this in it")
    options = parser.parse_args()
    begun = time.monotonic()
    preload()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        job, scored = Job(Path(name)), Job(Path(name), scored=True)
        job.prepare()
        if not options.quick:
            scored.prepare()
        real = _real_disks()
        chosen = [fault for fault in faults(job, scored, options.seed, real) if options.only in fault.name]
        cases = [(fault.name, case) for fault in chosen
                 for case in fault.cases[: fault.quick if options.quick else None]]
        found: dict[str, list[Outcome]] = {fault_name: [] for fault_name, _ in cases}
        for fault_name, outcome in strike_all(cases, min(2, os.cpu_count() or 1)):
            found[fault_name].append(outcome)
            if not outcome.survived or outcome.lost:
                print(f"✗ {fault_name}: {outcome.what}: {outcome.why or f'{outcome.lost} bytes lost'}", file=sys.stderr)
    disk = "a tmpfs in a mount namespace" if real else "no mounts here: refused writes stand for full disks"
    print(f"seed {options.seed}; {disk}; {time.monotonic() - begun:.0f} s")
    good = print_table([_row(fault, found[fault.name]) for fault in chosen if fault.name in found])
    return 0 if good else 1


def _real_disks() -> bool:
    """Whether this machine grants mounts: tried in another process, since they would be this one's from then on."""

    def attempt() -> None:
        if not mounts.own_mounts():
            raise OSError

    try:
        in_a_fork(attempt, quiet=True)
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
