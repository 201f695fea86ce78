"""SIGKILL: at every file operation of a run, in the middle of every write, and at random moments."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from core.contract.record import ACTIVE
from core.contract.runs import RunFolder, summarize
from tests.chaos import mounts
from tests.chaos.engines import Engine, command, in_a_fork
from tests.chaos.operations import Counted, die, noted
from tests.chaos.survival import Broken, Keepsake, Outcome, Reference, check, run_in
from tests.headless import settings
from tests.tiny import make_tiny_model

MOST_KILLS = 5
"""Of one run; after them it may finish."""
RESUME = ["train", "--json", "--resume", "last"]


@dataclass(frozen=True)
class Job:
    """A run of a second: the same settings each time, in a new folder."""

    place: Path
    """Where the model and the reference are."""
    scored: bool = False

    @property
    def arguments(self) -> list[str]:
        """Of its command line."""
        changes = {
            "training__num_epochs": 2, "training__batch_size": 2, "training__gradient_accumulation_steps": 1,
            "training__save_every_n_steps": 2, "training__learning_rate": 0.05,
            "evaluation__score_after_training": str(self.scored).lower(), "evaluation__timeout_seconds": 10,
        }
        return ["train", "--json", "--name", "run", *settings(self.place / "model", **changes)]

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new folder to run it in."""
        with tempfile.TemporaryDirectory(dir=self.place, prefix="case-") as name:
            work = Path(name, "work")
            work.mkdir()
            try:
                yield work
            finally:
                mounts.clear(work, *work.glob("*"))

    def prepare(self) -> None:
        """Make the model, and run the reference with nothing in its way."""
        if not (self.place / "model").exists():
            in_a_fork(self._make_model)
        work = self._reference_folder
        work.mkdir(parents=True)
        with Engine(self.arguments, work, noted(work.with_name("operations.txt"))) as engine:
            if engine.wait():
                raise SystemExit(f"chaos: the run that nothing disturbs fails:\n{engine.stderr}{engine.stdout}")

    @property
    def is_prepared(self) -> bool:
        """Whether there is the reference."""
        return self._reference_folder.exists()

    def _make_model(self) -> None:
        disable_progress_bar()  # type: ignore[no-untyped-call]
        make_tiny_model(self.place / "model")

    @property
    def _reference_folder(self) -> Path:
        return self.place / ("scored" if self.scored else "plain") / "work"

    @cached_property
    def reference(self) -> Reference:
        """What it comes to."""
        return Reference.of(run_in(self._reference_folder))

    @property
    def operations(self) -> list[str]:
        """Every file operation of it, in their order."""
        return self._reference_folder.with_name("operations.txt").read_text().splitlines()


def kill_at_operation(job: Job, number: int, again: int = 0) -> Outcome:
    """Kill a run at its n-th file operation; with `again`, also what resumes it, at that one of its own."""
    watches = [Counted(at, die) for at in (number, again) if at]

    def play(work: Path, kept: list[Keepsake]) -> None:
        arguments = job.arguments
        for watch in watches:
            with Engine(arguments, work, watch) as engine:
                engine.wait()
                arguments = after(engine, work, arguments, kept)
            if not arguments:
                return
        finish(work, arguments)

    name = f"killed at operation {number}{f' and {again}' if again else ''}: {job.operations[number - 1]}"
    return played(name, job, play)


def kill_at_random(job: Job, seed: int, seconds: float) -> Outcome:
    """Kill a run, and what resumes it, at random moments of the first so many seconds, until it finishes."""
    chance = random.Random(seed)

    def play(work: Path, kept: list[Keepsake]) -> None:
        arguments = job.arguments
        for _ in range(MOST_KILLS):
            with Engine(arguments, work) as engine:
                engine.live(chance.uniform(0, seconds))
                arguments = after(engine, work, arguments, kept)
            if not arguments:
                return
        finish(work, arguments)

    return played(f"killed at random moments, seed {seed}", job, play)


def after(engine: Engine, work: Path, arguments: list[str], kept: list[Keepsake]) -> list[str]:
    """Look at what an engine left that was killed; the command that goes on with it, [] where it came to its end."""
    if engine.status is not None and engine.status >= 0:
        if engine.status and not _was_finished(engine, work):
            raise Broken(f"it ended with status {engine.status}: {engine.stderr.strip()[-300:]}")
        return []
    if not begun(work):
        return arguments
    run = run_in(work)
    state = summarize(run).state
    if state in ACTIVE:
        raise Broken(f"a dead engine's run counts as {state}")
    kept.append(Keepsake(run, engine.stdout))
    return RESUME


def finish(work: Path, arguments: list[str]) -> None:
    """Let a run go on to its end."""
    done = command(arguments, work)
    if done.status and not _was_finished(done, work):
        raise Broken(f"it ended with status {done.status}: {(done.stderr or done.stdout).strip()[-300:]}")


def played(
    name: str, job: Job, play: Callable[[Path, list[Keepsake]], None], *, log_damaged: bool = False
) -> Outcome:
    """Play a fault in a new folder and see whether the run in it comes to what the reference is."""
    kept: list[Keepsake] = []
    with job.folder() as work:
        why = ""
        try:
            play(work, kept)
            check(run_in(work), job.reference, log_damaged=log_damaged)
        except AssertionError as error:
            why = str(error)
        try:
            lost = sum(keepsake.lost(run_in(work)) for keepsake in kept)
        except AssertionError as error:
            lost, why = 0, why or str(error)
    return Outcome(name, not why, lost, why)


def _was_finished(engine: Engine, work: Path) -> bool:
    """Whether a resume was refused because the engine before it had been killed after its last word."""
    return "--resume" in engine.arguments and engine.status == 2 and summarize(run_in(work)).state == "finished"


def begun(work: Path) -> bool:
    """Whether an engine has taken the run up; the folder of one that died before that is taken away."""
    for root in (work / "runs").glob("*"):
        run = RunFolder(root)
        record = summarize(run).record
        if record is not None and record.pid is not None:
            return True
        if run.events_file.exists() and run.events_file.stat().st_size:
            raise Broken("it has events, and run.json does not say that an engine ever took it up")
        shutil.rmtree(root)
    return False
