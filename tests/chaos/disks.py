"""Disks that are full, read-only, broken or gone for a while: the run waits, says so, and goes on by itself."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from core.contract.events import Notice, RunFinished, RunPaused
from tests.chaos import mounts
from tests.chaos.engines import Engine
from tests.chaos.kills import RESUME, Job, begun, finish, played
from tests.chaos.operations import Operation
from tests.chaos.survival import Broken, Keepsake, Outcome, read_events, run_in

STOP_SECONDS = 10.0
"""A stop is obeyed within this time, whatever the disk does."""
SIZE = "8m"
"""More than a run asks for before it begins."""
FILLER = "filler"
AWAY = "away"


class Trouble:
    """What befalls a disk: `begin` in the engine's process at some operation, `end` from outside.

    Args:
        work: the folder that the engine runs in.
    """

    can_tell = False
    """Whether the run's own folder still has room to say so."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def prepare(self) -> None:
        """Before the engine begins."""

    def begin(self, operation: Operation) -> None:
        """The trouble begins just before this operation."""

    def each(self, operation: Operation) -> None:
        """Before each operation from then on."""

    def end(self) -> None:
        """The trouble is over."""


class Full(Trouble):
    """Another program fills the disk to the last byte."""

    can_tell = True

    def prepare(self) -> None:
        """See `Trouble`."""
        mounts.small_disk(self.work, SIZE)

    def begin(self, operation: Operation) -> None:
        """See `Trouble`."""
        fill(self.work / FILLER)

    def end(self) -> None:
        """See `Trouble`."""
        (self.work / FILLER).unlink(missing_ok=True)


class FullElsewhere(Full):
    """The disk is full on which prompts are published; the run's own is not."""

    @property
    def _place(self) -> Path:
        return self.work / "soft_prompts"

    def prepare(self) -> None:
        """See `Trouble`."""
        self._place.mkdir()
        mounts.small_disk(self._place, SIZE)

    def begin(self, operation: Operation) -> None:
        """See `Trouble`."""
        fill(self._place / FILLER)

    def end(self) -> None:
        """See `Trouble`."""
        (self._place / FILLER).unlink(missing_ok=True)


class ReadOnly(Trouble):
    """The folders that a run writes to become read-only; what is open for writing stays so."""

    @property
    def _places(self) -> list[Path]:
        """Not `work` itself: paths that begin in it would lead past what is mounted on it."""
        return [place for name in ("runs", "soft_prompts", "logs") if (place := self.work / name).exists()]

    def begin(self, operation: Operation) -> None:
        """See `Trouble`."""
        for place in self._places:
            mounts.read_only(place)

    def end(self) -> None:
        """See `Trouble`."""
        mounts.clear(*self._places)


class Gone(Trouble):
    """The run's folder is not there for a while, as on a network share that went away."""

    def begin(self, operation: Operation) -> None:
        """See `Trouble`."""
        root = run_in(self.work).root
        os.rename(root, self.work / AWAY)
        (self.work / "name").write_text(root.name)

    def end(self) -> None:
        """See `Trouble`."""
        root = self.work / "runs" / (self.work / "name").read_text()
        shutil.rmtree(root, ignore_errors=True)  # what was written into an empty folder in its place
        os.rename(self.work / AWAY, root)


class Unmounted(Gone):
    """The run's folder was a mount: an empty folder is in its place."""

    def begin(self, operation: Operation) -> None:
        """See `Trouble`."""
        super().begin(operation)
        (self.work / "runs" / (self.work / "name").read_text()).mkdir()


class Failing(Trouble):
    """Every operation that changes a file fails with an error that the kernel gives."""

    number = errno.EIO

    @property
    def _mark(self) -> Path:
        return self.work.with_name("failing")

    def begin(self, operation: Operation) -> None:
        """See `Trouble`."""
        self._mark.touch()

    def each(self, operation: Operation) -> None:
        """See `Trouble`."""
        if self._mark.exists():
            raise OSError(self.number, os.strerror(self.number), operation.path)

    def end(self) -> None:
        """See `Trouble`."""
        self._mark.unlink(missing_ok=True)


def failing(code: int) -> type[Failing]:
    """A disk that fails with this error."""
    words = f"Every operation that changes a file fails with {errno.errorcode[code]}."
    return type(f"Failing{errno.errorcode[code]}", (Failing,), {"number": code, "__doc__": words})


class NoByteLeft(Failing):
    """The disk has no room but the run's own reserve."""

    can_tell = True
    number = errno.ENOSPC

    def each(self, operation: Operation) -> None:
        """See `Trouble`. It is as if what the reserve took were just enough for all that the run writes meanwhile."""
        reserve = run_in(self.work).reserve_file
        if operation.name == "write" and (reserve.exists() or f"/.{reserve.name}." in operation.path):
            super().each(operation)


def fill(file: Path) -> None:
    """Write to a file until the disk has no room for another byte."""
    with open(file, "wb", buffering=0) as filler:
        for size in (65_536, 4096, 1):
            with contextlib.suppress(OSError):
                while filler.write(bytes(size)):
                    pass


def strike(job: Job, kind: Callable[[Path], Trouble], at: int, *, stop: bool = False) -> Outcome:
    """Let a trouble begin at a run's n-th file operation and end once the run says that it waits.

    With `stop` the run is asked to stop meanwhile, and has to end in time; then it is resumed.
    """

    def play(work: Path, kept: list[Keepsake]) -> None:
        trouble = kind(work)
        trouble.prepare()
        count = 0

        def watch(operation: Operation) -> None:
            nonlocal count
            count += 1
            if count == at:
                count += 1_000_000  # what it does by itself is no operation of the engine
                trouble.begin(operation)
            if count > 1_000_000:
                trouble.each(operation)

        with Engine(job.arguments, work, watch) as engine:
            waits = engine.until(lambda: '"RunPaused"' in engine.stdout)
            told = engine.stdout
            if waits:
                if trouble.can_tell and any(line.endswith("/.reserve") for line in job.operations[: at - 1]):
                    _check_told(work)
                if stop:
                    engine.signal(signal.SIGTERM)
                    if engine.wait(STOP_SECONDS) not in (0, 130):  # 0 where only its last words were left to write
                        raise Broken(f"told to stop while it waited, it ended with {engine.status}: {engine.stderr}")
            trouble.end()
            if stop and waits:
                kept.append(Keepsake(run_in(work), told))
                if engine.status:
                    finish(work, RESUME)
                return
            if not engine.wait():
                kept.append(Keepsake(run_in(work), engine.stdout))
                return
            _check_refused(engine, work)
        finish(work, RESUME if begun(work) else job.arguments)

    operation = job.operations[at - 1]
    words = " ".join(kind(Path()).__doc__.split()).split(".")[0]  # type: ignore[union-attr]
    return played(f"{words}, from operation {at}: {operation}{'; stopped meanwhile' if stop else ''}", job, play)


def _check_told(work: Path) -> None:
    """Raise Broken unless the run's own events say that it waits, or have come to their end."""
    events = read_events(run_in(work))
    if any(isinstance(event, RunFinished) for event in events):
        return
    if not any(isinstance(event, RunPaused) and event.reason for event in events):
        raise Broken(f"it waits, and its events do not say so: they are {len(events)}")
    if not any(isinstance(event, Notice) and "waits" in event.what for event in events):
        raise Broken("it waits, and no notice says why")


def _check_refused(engine: Engine, work: Path) -> None:
    """Raise Broken unless a command that ended did so before its run had begun, and said why."""
    if begun(work) and run_in(work).events_file.stat().st_size:
        raise Broken(f"it did not wait, and ended with {engine.status}: {(engine.stderr or engine.stdout)[-300:]}")
    if engine.status not in (1, 2) or "Traceback" in engine.stderr or "softtune:" not in engine.stderr:
        raise Broken(f"it ended with {engine.status}: {engine.stderr[-300:]}")

