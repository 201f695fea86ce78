"""Two engines on one run, and runs whose record names a process that is not their engine."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from core.contract.liveness import SILENT_SECONDS, boot_id, pid_namespace, process_start
from core.contract.runs import RunFolder
from tests.chaos.engines import Engine, command, forked
from tests.chaos.kills import RESUME, Job, finish, played
from tests.chaos.operations import Counted, Operation, die
from tests.chaos.survival import Broken, Keepsake, Outcome, read_events, run_in

SLOW_SECONDS = 0.02
"""For each file operation of an engine that others shall find at work for longer than they wait for its lock."""

Record = dict[str, Any]


def crash(job: Job, work: Path, at: int) -> RunFolder:
    """A run whose engine was killed at its n-th file operation."""
    with Engine(job.arguments, work, Counted(at, die)) as engine:
        if engine.wait() != -9:
            raise Broken(f"it was to be killed at operation {at}, and ended with {engine.status}")
    return run_in(work)


def race(job: Job, seed: int, engines: int = 3) -> Outcome:
    """Let several engines resume one crashed run at once: one does, the others are refused and write nothing."""
    chance = random.Random(seed)

    def play(work: Path, kept: list[Keepsake]) -> None:
        run = crash(job, work, chance.randrange(100, 250))
        kept.append(Keepsake(run))
        places = [work] + [work.with_name(f"other{number}") for number in range(1, engines)]
        for place in places[1:]:  # their streams are files beside the folder that they run in
            place.mkdir()
        with ExitStack() as stack:
            racers = []
            for number in range(engines):
                own = work.parent / f"streams{number}" / "work"
                own.parent.mkdir()
                own.symlink_to(work)
                touched = own.with_name("touched.txt")
                racers.append((stack.enter_context(Engine(RESUME, own, _slow(touched))), touched))
                time.sleep(chance.choice((0, 0, 0.01, 0.1)))
            statuses = sorted(engine.wait() for engine, _ in racers)
            if statuses != [0] + [2] * (engines - 1):
                raise Broken(f"they ended with {statuses}: {[engine.stderr[-200:] for engine, _ in racers]}")
            for engine, touched in racers:
                if engine.status == 2:
                    _check_refused(engine, touched)
        starts = sum(event.type == "RunStarted" for event in read_events(run))
        if starts != kept[0].starts + 1:
            raise Broken(f"{starts - kept[0].starts} engines have told that they begin")

    return played(f"{engines} engines on one run, seed {seed}", job, play)


def _slow(touched: Path) -> Callable[[Operation], None]:
    def watch(operation: Operation) -> None:
        with open(touched, "a") as file:
            file.write(f"{operation}\n")
        time.sleep(SLOW_SECONDS)

    return watch


def _check_refused(engine: Engine, touched: Path) -> None:
    """Raise Broken unless an engine said that another one is at work, and changed nothing but opened the lock."""
    if not any(words in engine.stderr for words in ("worked on by another process", "needs no resuming")):
        raise Broken(f"it was refused with {engine.stderr!r}")
    operations = touched.read_text().splitlines() if touched.exists() else []
    if any(not line.endswith("/engine.lock") for line in operations):
        raise Broken(f"although it was refused it did {operations}")


def records() -> Iterator[tuple[str, Callable[[RunFolder, Record, int], Record], str]]:
    """What run.json may say of a process that is not the run's engine: what it is, how, and the state that is due.

    The function gets the run, its record and the pid of a process that lives.
    """
    yield ("a pid that another process has now",
           lambda run, old, alive: {"pid": alive, "pid_started": (process_start(alive) or 0) - 100}, "crashed")
    yield "pid 1", lambda run, old, alive: {"pid": 1}, "crashed"
    yield ("the same pid and start, before the machine was restarted",
           lambda run, old, alive: _like(alive) | {"boot_id": "0" * len(boot_id())}, "crashed")
    yield ("the same pid and start in another container, long silent",
           lambda run, old, alive: _like(alive) | {"pid_namespace": "pid:[1]"} | _silent(run, 10 * SILENT_SECONDS),
           "crashed")
    yield ("another machine, long silent",
           lambda run, old, alive: _like(alive) | {"host": "elsewhere"} | _silent(run, 10 * SILENT_SECONDS), "crashed")
    yield ("another machine, without an engine.lock",
           lambda run, old, alive: _like(alive) | {"host": "elsewhere", "started": 1.0} | _unlocked(run), "crashed")
    yield "no pid, queued long ago", lambda run, old, alive: {"pid": None, "state": "queued", "started": 1.0}, "crashed"
    yield "a pid that cannot be one", lambda run, old, alive: {"pid": -1}, "crashed"
    yield "a pid larger than any", lambda run, old, alive: {"pid": 2**70}, "crashed"
    yield ("paused, by an engine that is gone", lambda run, old, alive: {"state": "paused"}, "crashed")
    yield ("another machine, at work a moment ago",
           lambda run, old, alive: _like(alive) | {"host": "elsewhere"} | _silent(run, 0), "running")
    yield "a process that lives", lambda run, old, alive: _like(alive), "running"


def stale(job: Job, number: int) -> Outcome:
    """Let the record of a crashed run name another process; `runs` must judge it, and a resume go on or be refused."""
    what, change, due = list(records())[number]

    def play(work: Path, kept: list[Keepsake]) -> None:
        run = crash(job, work, 160)
        kept.append(Keepsake(run))
        before = run.record_file.read_text()
        with forked(lambda: time.sleep(600)) as alive:
            record = json.loads(before)
            run.record_file.write_text(json.dumps(record | change(run, record, alive)))
            listed = command(["runs", "--json"], work)
            (found,) = json.loads(listed.stdout)
            if found["state"] != due:
                raise Broken(f"it counts as {found['state']} ({found['reason']}), not as {due}")
            if due == "running":
                refused = command(RESUME, work)
                if refused.status != 2 or "needs no resuming" not in refused.stderr:
                    raise Broken(f"resuming it gives status {refused.status}: {refused.stderr}")
                run.record_file.write_text(before)
            elif not found["reason"]:
                raise Broken("it counts as crashed, and nothing says how that is known")
        finish(work, RESUME)

    return played(f"run.json names {what}", job, play)


def _like(alive: int) -> Record:
    """As the engine's own, if the living process were it."""
    return {"pid": alive, "pid_started": process_start(alive), "host": socket.gethostname(), "boot_id": boot_id(),
            "pid_namespace": pid_namespace()}


def _silent(run: RunFolder, seconds: float) -> Record:
    then = time.time() - seconds
    os.utime(run.lock_file, (then, then))
    return {"started": then}


def _unlocked(run: RunFolder) -> Record:
    run.lock_file.unlink()
    return {}

