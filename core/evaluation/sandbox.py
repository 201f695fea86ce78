"""Executing programs that nobody has read, several at a time.

Layers, from the outside in: servers of our own that hold nothing worth taking (no torch, an empty environment, no open
files); around each server or program the strongest level of isolation that the machine grants; around each program a
session, resource limits, a working folder that vanishes, and a clock that ends everything the program started. A
candidate and its tests run in two processes (`server/checker.py`), so that no candidate can reach its verdict.

- "namespaces": no network, no sight of other processes, no file but system folders and Python's own, read-only; and
  seccomp, which refuses what Python programs do not need: sockets, signals to others, tracing, mounts, kernel keys.
- "landlock": where user namespaces are refused, in most containers. The same files by Landlock's rules, the same
  seccomp filter; programs see that other processes exist. How much they write to the working folder is bounded by the
  time limit and LARGEST_FILE alone.
- "process": limits, dropped rights, and seccomp where there is any. Programs read and write what their user can, and
  without seccomp one that kills its server can leave processes behind. Weak: it has to be allowed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, get_args

from core.contract.errors import SandboxError, WeakSandboxError
from core.evaluation.server.wire import LARGEST
from core.evaluation.server_process import ServerProcess, Task
from core.evaluation.verdicts import Isolation, Outcome, Program, judge, lost

__all__ = ["HEARTBEAT", "Isolation", "LevelReport", "Outcome", "Program", "core_count", "execute", "isolation_level",
           "levels"]

LEVELS: tuple[Isolation, ...] = get_args(Isolation)
"""Strongest first."""
HEARTBEAT = 0.1
"""Seconds after which `execute` yields None when nothing has ended."""
CANONICAL_MARGIN = 3.0
"""A candidate may take this many times as long as the solution that is known to be right."""
_SLOWEST_CANONICAL = 10.0
"""Time limits that a canonical solution may take while it is measured."""
_FAREWELL = 8.0
"""Seconds that servers have, together, to end what they run and themselves."""


@dataclass(frozen=True)
class LevelReport:
    """Whether this machine grants a level of isolation; `reason` is why not."""

    level: Isolation
    granted: bool
    reason: str = ""


def execute(
    programs: Iterable[Program], *, timeout: float, memory_limit_mb: int, workers: int = 0,
    isolation: Isolation | Literal["auto"] = "auto", allow_weak: bool = False,
) -> Generator[Outcome | None, None, None]:
    """Execute programs and yield their outcomes in order of completion; None is a heartbeat.

    Closing the generator ends every process and removes every folder that it made.

    Args:
        programs: taken one at a time, as workers fall free.
        timeout: seconds of wall clock for one program, without those for which it waits for a core (up to three times
            the limit in all; one that was starved even so is tried again, alone, after the others). Where the
            canonical solution needs more than a third of it, a candidate may take three times as long as that.
        memory_limit_mb: MB (2**20 bytes) of address space for one process beyond the interpreter's own, and of memory
            for all processes of a program.
        workers: programs at a time; 0 is one a core.
        isolation: "auto" takes the strongest level that the machine grants, "process" only if `allow_weak`.

    Raises:
        WeakSandboxError: "auto", and only the weak level is granted and not allowed.
        SandboxError: the isolation asked for cannot be had, or no server starts.
    """
    pool = _Pool(timeout, memory_limit_mb << 20, workers or core_count(), isolation, allow_weak)
    try:
        yield from pool.outcomes(iter(programs))
    finally:
        pool.close()


def levels() -> list[LevelReport]:
    """What this machine grants, strongest first; each level is tried."""
    return [_try(level) for level in LEVELS]


def isolation_level() -> Isolation:
    """The strongest level that this machine grants, be it the weak one; raises SandboxError when no server starts."""
    for level in LEVELS:
        report = _try(level)
        if report.granted:
            return level
    raise SandboxError(f"programs cannot be executed here: {report.reason}", "is disk, memory or a limit used up?")


def _try(level: Isolation) -> LevelReport:
    pool = _Pool(30.0, 64 << 20, 1, level, True)
    probe = Program("def check_me():\n    pass\n", "def check(candidate):\n    candidate()\n", "check_me")
    try:
        [outcome] = [outcome for outcome in pool.outcomes(iter([probe])) if outcome]
    except SandboxError as error:
        return LevelReport(level, False, error.what.partition(": ")[2] or error.what)
    finally:
        pool.close()
    return LevelReport(level, outcome.passed, outcome.detail)


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """Servers, each idle, starting or at work on one program."""

    def __init__(self, timeout: float, memory_bytes: int, workers: int, isolation: str, allow_weak: bool) -> None:
        self._timeout = timeout
        self._memory_bytes = memory_bytes
        self._workers = workers
        self._levels = [level for level in LEVELS if isolation in ("auto", level)]
        self._weak_is_refused = isolation == "auto" and not allow_weak
        self._selector = selectors.DefaultSelector()
        self._servers: list[ServerProcess] = []
        self._soon: list[Task] = []
        self._alone: list[Task] = []
        self._limits: dict[str, float] = {}
        """Seconds by canonical solution, for problems whose candidates timed out."""
        self._unsure: dict[str, list[Outcome]] = {}
        """Outcomes that timed out while their canonical solution is being measured."""
        self._too_large: list[tuple[Task, Outcome]] = []

    def outcomes(self, programs: Iterator[Program]) -> Iterator[Outcome | None]:
        """Keep every server at work until nothing is left."""
        fresh = (Task(program, self._timeout) for program in programs)
        ahead: deque[Task] = deque()
        while True:
            ahead.extend(islice(fresh, self._workers - len(ahead)))
            for server in [server for server in self._servers if server.ready and server.task is None]:
                if self._soon:
                    self._submit(server, self._soon.pop())
                elif ahead:
                    self._submit(server, ahead.popleft())
                elif self._alone and not self._at_work:
                    self._submit(server, self._alone.pop())
            left = len(self._soon) + len(ahead) + bool(self._alone) + len(self._too_large)
            if not left and not self._at_work:
                return
            without_work = sum(server.task is None for server in self._servers)
            for _ in range(min(left - without_work, self._workers - len(self._servers))):
                self._start()
            ended: list[Outcome | None] = list(self._listen())
            yield from ended or [None]

    def close(self) -> None:
        """End every server and wait for them."""
        for server in self._servers:
            server.hang_up()
        until = time.monotonic() + _FAREWELL
        for server in self._servers:
            server.wait(max(0.0, until - time.monotonic()))
        self._servers.clear()
        self._selector.close()

    @property
    def _at_work(self) -> bool:
        return any(server.task for server in self._servers)

    def _listen(self) -> Iterator[Outcome]:
        """Outcomes that arrive within a heartbeat."""
        while self._too_large:
            yield from self._weigh(*self._too_large.pop())
        for key, _ in self._selector.select(HEARTBEAT):
            server: ServerProcess = key.data
            message = server.receive()
            if not server.ready:
                self._greet(server, message)
                continue
            task, server.task = server.task, None
            if message is not None and "fault" not in message and task is not None:
                yield from self._weigh(task, judge(task.program, message, server.level))
                continue
            self._drop(server)
            if task is not None and not task.last_try:
                self._alone.append(replace(task, last_try=True, alone=True))  # it may have been a neighbour's doing
            elif message is not None:
                raise SandboxError(f"the sandbox failed twice on one program:\n{message.get('fault', message)}",
                                   "are disk, memory or process numbers used up on this machine?")
            elif task is not None:
                yield from self._weigh(task, lost(task.program, "crashed", "it ended the process that watched it",
                                                  server.seconds, server.level))
        for server in [server for server in self._servers if server.stuck]:
            task = server.task
            self._drop(server)
            if task is None:
                raise SandboxError("the sandbox did not start within a minute", "is the machine overloaded?")
            yield from self._weigh(task, lost(task.program, "timed out", "it stalled the process that watched it",
                                              server.seconds, server.level))

    def _weigh(self, task: Task, outcome: Outcome) -> Iterator[Outcome]:
        """The outcomes that are final now: a time-out may be the machine's fault, or lie in the problem."""
        if task.measures:
            yield from self._judge_unsure(task.measures, outcome)
            return
        canonical = outcome.program.canonical
        if outcome.starved and not task.alone:
            self._alone.append(replace(task, alone=True))
        elif outcome.verdict != "timed out" or not canonical or task.timeout > self._timeout:
            yield outcome
        elif canonical in self._limits:
            yield from self._once_more(outcome)
        else:
            self._unsure.setdefault(canonical, []).append(outcome)
            if len(self._unsure[canonical]) == 1:
                solution = replace(outcome.program, source=canonical, canonical="")
                self._soon.append(Task(solution, _SLOWEST_CANONICAL * self._timeout, measures=canonical))

    def _judge_unsure(self, canonical: str, measured: Outcome) -> Iterator[Outcome]:
        needed = measured.seconds * CANONICAL_MARGIN if measured.passed else 0.0
        self._limits[canonical] = max(self._timeout, needed)
        for outcome in self._unsure.pop(canonical):
            yield from self._once_more(outcome)

    def _once_more(self, outcome: Outcome) -> Iterator[Outcome]:
        """Give a candidate the time that its problem needs; where that is the usual time it has had it."""
        limit = self._limits[outcome.program.canonical]
        if limit > self._timeout:
            self._soon.append(Task(outcome.program, limit))
        else:
            yield outcome

    def _start(self) -> None:
        server = ServerProcess(self._levels[0])
        self._servers.append(server)
        self._selector.register(server.connection, selectors.EVENT_READ, server)

    def _greet(self, server: ServerProcess, message: dict[str, object] | None) -> None:
        """Take a server's first message: it stands ready, or the machine does not grant its level."""
        if message is not None and "isolation" in message:
            server.ready = True
            return
        status = self._drop(server)
        reason = str(message["refused"]) if message is not None else f"its process ended with status {status}"
        if server.level != self._levels[0]:
            return  # another server has found that out
        refused = self._levels.pop(0)
        if not self._levels:
            raise SandboxError(f"programs cannot be executed at isolation level {refused!r}: {reason}",
                               "softtune doctor tells what this machine grants")
        if self._levels == ["process"] and self._weak_is_refused:
            raise WeakSandboxError

    def _submit(self, server: ServerProcess, task: Task) -> None:
        try:
            with contextlib.suppress(OSError):  # the server is gone: `_listen` finds the connection closed
                server.submit(task, self._memory_bytes)
        except ValueError:
            detail = f"the program, or its tests, are larger than {LARGEST >> 20} MB"
            self._too_large.append((task, lost(task.program, "error", detail, 0.0, server.level)))

    def _drop(self, server: ServerProcess) -> int:
        self._selector.unregister(server.connection)
        self._servers.remove(server)
        return server.wait(1.0)
