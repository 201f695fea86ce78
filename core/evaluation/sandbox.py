"""Executing programs that nobody has read, each in a process of its own, several at a time.

Layers, from the outside in: servers of our own that hold nothing worth taking (no torch, an empty environment, no open
files); where the kernel grants them, namespaces around each server (`namespaces.py`: no network, a read-only file
system, no sight of other processes); around each program a session, resource limits, a working folder that vanishes,
and a clock that ends everything the program started.

Not covered at level "process": reading files and other processes of the same user, writing outside the working folder,
the network, and killing processes of the same user. Not covered at any level: the total memory of several processes of
one program, and a program that forges its tests' outcome from inside (`server/candidate.py`).
"""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Generator, Iterable, Iterator
from typing import Literal

from core.contract.errors import SandboxError
from core.evaluation.server_process import ServerProcess
from core.evaluation.verdicts import Isolation, Outcome, Program, judge, lost

__all__ = ["HEARTBEAT", "Isolation", "Outcome", "Program", "core_count", "execute", "isolation_level"]

HEARTBEAT = 0.1
"""Seconds after which `execute` yields None when nothing has ended."""
_FAREWELL = 8.0
"""Seconds that servers have, together, to end what they run and themselves."""


def execute(
    programs: Iterable[Program], *, timeout: float, memory_limit_mb: int, workers: int = 0,
    isolation: Isolation | Literal["auto"] = "auto",
) -> Generator[Outcome | None, None, None]:
    """Execute programs and yield their outcomes in order of completion; None is a heartbeat.

    Closing the generator ends every process and removes every folder that it made.

    Args:
        programs: taken one at a time, as workers fall free.
        timeout: seconds of wall clock for one program. One that computes all the time but has to share its core may
            take up to three times that, until it has had this much CPU time.
        memory_limit_mb: MB (2**20 bytes) of address space for one process beyond the interpreter's own.
        workers: programs at a time; 0 is one a core.
        isolation: "auto" takes the strongest level that the machine grants.

    Raises:
        SandboxError: the isolation asked for cannot be had, or no server starts.
    """
    pool = _Pool(timeout, memory_limit_mb << 20, workers or core_count(), isolation)
    try:
        yield from pool.outcomes(iter(programs))
    finally:
        pool.close()


def isolation_level() -> Isolation:
    """The strongest level that this machine grants; raises SandboxError when no server starts."""
    probe = Program("def check():\n    pass\n", "check()")
    outcomes = list(execute([probe], timeout=30, memory_limit_mb=64, workers=1))
    return next(outcome.isolation for outcome in outcomes if outcome is not None)


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """Servers, each idle, starting or at work on one program."""

    def __init__(self, timeout: float, memory_bytes: int, workers: int, isolation: str) -> None:
        self._timeout = timeout
        self._memory_bytes = memory_bytes
        self._workers = workers
        self._forced = isolation != "auto"
        self._level: Isolation = "process" if isolation == "process" else "namespaces"
        self._selector = selectors.DefaultSelector()
        self._servers: list[ServerProcess] = []
        self._again: list[Program] = []

    def outcomes(self, programs: Iterator[Program]) -> Iterator[Outcome | None]:
        """Keep every server at work until nothing is left."""
        fresh = next(programs, None)
        while True:
            idle = [server for server in self._servers if server.ready and server.program is None]
            while idle and (self._again or fresh is not None):
                if self._again:
                    self._submit(idle.pop(), self._again.pop(), last_try=True)
                elif fresh is not None:
                    self._submit(idle.pop(), fresh)
                    fresh = next(programs, None)
            left = bool(self._again) or fresh is not None
            if not left and not any(server.program for server in self._servers):
                return
            starting = any(not server.ready for server in self._servers)
            if left and not starting and len(self._servers) < self._workers:
                self._start()
            ended: list[Outcome | None] = list(self._listen())
            yield from ended or [None]

    def close(self) -> None:
        """End every server and wait for them."""
        for server in self._servers:
            server.hang_up()
        for server in self._servers:
            server.wait(_FAREWELL)
        self._servers.clear()
        self._selector.close()

    def _listen(self) -> Iterator[Outcome]:
        """Outcomes that arrive within a heartbeat."""
        for key, _ in self._selector.select(HEARTBEAT):
            server: ServerProcess = key.data
            message = server.receive()
            if not server.ready:
                self._greet(server, message)
                continue
            program, server.program = server.program, None
            if message is not None and "fault" not in message and program is not None:
                yield judge(program, message, server.level)
                continue
            self._drop(server)
            if program is not None and not server.last_try:
                self._again.append(program)
            elif message is not None:
                raise SandboxError(f"the sandbox failed twice on one program:\n{message.get('fault', message)}",
                                   "are disk, memory or process numbers used up on this machine?")
            elif program is not None:
                yield lost(program, "crashed", "it ended the process that watched it", server.seconds, server.level)
        for server in [server for server in self._servers if server.stuck]:
            program = server.program
            self._drop(server)
            if program is None:
                raise SandboxError("the sandbox did not start within a minute", "is the machine overloaded?")
            yield lost(program, "timed out", "it stalled the process that watched it", server.seconds, server.level)

    def _start(self) -> None:
        server = ServerProcess(self._level)
        self._servers.append(server)
        self._selector.register(server.connection, selectors.EVENT_READ, server)

    def _greet(self, server: ServerProcess, message: dict[str, object] | None) -> None:
        """Take a server's first message: it stands ready, or the machine does not grant its level."""
        if message is not None and "isolation" in message:
            server.ready = True
            return
        status = self._drop(server)
        reason = str(message["refused"]) if message is not None else f"its process ended with status {status}"
        if self._forced or server.level == "process":
            raise SandboxError(f"programs cannot be executed at isolation level {server.level!r}: {reason}",
                               "softtune doctor tells what this machine grants")
        self._level = "process"

    def _submit(self, server: ServerProcess, program: Program, last_try: bool = False) -> None:
        with contextlib.suppress(OSError):  # the server is gone: `_listen` finds the connection closed
            server.submit(program, self._timeout, self._memory_bytes, last_try)

    def _drop(self, server: ServerProcess) -> int:
        self._selector.unregister(server.connection)
        self._servers.remove(server)
        return server.wait(1.0)
