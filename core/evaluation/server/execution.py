"""One program, from the fork of its two processes to the end of all that they started."""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import socket
import time
from collections.abc import Callable
from os import _exit  # taken now: a program may replace that of the module
from typing import Any, NoReturn

import candidate
import checker
import namespaces
import privileges
import processes
import wire
from capture import Capture, wipe
from confinement import Confinement

OUTPUT_BYTES = 16 << 10
"""What is kept of each of a program's output streams; the rest is read and dropped."""
REPORT_BYTES = 128 << 10
"""The same for its report: more than `checker` can make one."""
CHECKER_BYTES = 512 << 20
"""Memory that tests may take beyond what their candidate may: they hold its results once more, unpacked."""
_WATCH_SECONDS = 0.1
"""How often the memory of a program's processes is added up."""
_MOMENT = 0.5
"""Seconds between a connection's end and that of the process behind it."""
_TOP = processes.OPEN_FILES - 3


class EngineGone(Exception):
    """The engine closed the connection while a program ran."""


class Folder:
    """The working folder of one program after the other: made before, gone after."""

    def __init__(self, level: str, folder: str) -> None:
        self.level = level
        self.alone = level == "namespaces"
        self.path = namespaces.WORK if self.alone else os.path.join(folder, "work")
        self.spoilt = False
        """Whether a program did something to it for which no other program should suffer."""
        self._made = (0, 0)
        os.environ["HOME"] = os.environ["TMPDIR"] = self.path

    def make(self) -> None:
        """Have it there, and empty."""
        if self.alone:
            namespaces.mount_work()
            return
        os.mkdir(self.path, 0o700)
        made = os.lstat(self.path)
        self._made = made.st_dev, made.st_ino

    def remove(self) -> None:
        """Have it gone, if it still is what was made: at level "process" a program can put a link in its place."""
        if self.alone:
            namespaces.unmount_work()
            return
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) != self._made:
                raise FileNotFoundError(self.path)
            processes.remove_tree(self.path)
        except OSError:
            self.spoilt = True


class Execution:
    """A candidate's process and its tests' process, watched.

    Args:
        job: what the engine sent: `entry_point`, `timeout` and `memory_bytes`.
        source: the candidate's, in UTF-8. Wiped when its process has it: the next one must not find it.
        folder: where the program works.
        confinement: how the two processes are shut in.
        tests: the connection over which the engine sends the tests. Only their process reads it, so that they are in
            no memory that the candidate's process was forked from.
    """

    def __init__(
        self, job: dict[str, Any], source: bytearray, folder: Folder, tests: socket.socket, confinement: Confinement
    ) -> None:
        self._job = job
        self._source = source
        self._confinement = confinement
        self._folder = folder
        self._tests = tests
        self._timeout = float(job["timeout"])
        self._memory = int(job["memory_bytes"])
        self._limits = processes.Limits(int(self._timeout) + 2)
        self._kept: dict[str, Capture] = {}
        self._running: dict[int, tuple[int, float, int] | None] = {}
        """Wait status, CPU seconds and peak bytes by process; None while it runs."""
        self._checker = self._candidate = 0
        self._ended_by = ""
        self._busy = 0.0
        """CPU seconds of all its processes when they were ended: one that starves itself is not starved."""
        self._by_itself = False
        self._peak = 0

    def run(self, control: socket.socket) -> None:
        """Execute, watch, and send the engine the facts that it judges. Raises EngineGone."""
        self._folder.make()
        (stdout, stdout_end), (stderr, stderr_end), (report, report_end), (proof_end, proof) = (
            os.pipe() for _ in range(4)
        )
        near, far = socket.socketpair()
        self._kept = {"report": Capture(report, REPORT_BYTES), "stdout": Capture(stdout, OUTPUT_BYTES),
                      "stderr": Capture(stderr, OUTPUT_BYTES)}
        started = time.monotonic()
        try:
            self._checker = self._fork(
                lambda: self._be_checker(stdout_end, stderr_end, near.fileno(), report_end, proof_end)
            )
            _close(near.detach(), report_end, proof_end)
            if os.read(report, 1) != checker.READY:
                raise RuntimeError("the process of the tests did not start")
            started = time.monotonic()
            self._candidate = self._fork(lambda: self._be_candidate(stdout_end, stderr_end, far.fileno()))
            wipe(self._source)
            nonce = secrets.token_bytes(checker.PROOF_BYTES)  # made after both forks: in neither's memory
            os.write(proof, nonce)
            _close(far.detach(), stdout_end, stderr_end, proof)
            self._watch(started, control)
            self._finish_candidate()
        finally:
            seconds = time.monotonic() - started
            processes.kill_everything(self._folder.alone)
            for kept in self._kept.values():
                os.set_blocking(kept.pipe, False)
                kept.read()
                os.close(kept.pipe)
            self._folder.remove()
        wire.send(control, self._facts(seconds, nonce))
        for kept in self._kept.values():
            control.sendall(kept.content)
            kept.wipe()

    def _facts(self, seconds: float, nonce: bytes) -> dict[str, Any]:
        checked, ran = self._running[self._checker], self._running[self._candidate]
        assert checked is not None and ran is not None
        cpu_seconds = checked[1] + ran[1]
        late = self._ended_by == "clock" and seconds > 0.9 * processes.LOADED_MACHINE * self._timeout
        return {
            "status": os.waitstatus_to_exitcode(checked[0]), "seconds": seconds, "cpu_seconds": cpu_seconds,
            "candidate_status": os.waitstatus_to_exitcode(ran[0]) if self._by_itself else None,
            "ended_by": self._ended_by, "starved": late and max(cpu_seconds, self._busy) < 0.9 * self._timeout,
            "peak_bytes": max(self._peak, ran[2]), "nonce": nonce.hex(),
            "kept": {name: len(kept.content) for name, kept in self._kept.items()},
        }

    def _fork(self, become: Callable[[], NoReturn]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                become()
            finally:
                _exit(70)  # an error of ours: no report, and never a return into the server's loop
        self._running[pid] = None
        return pid

    def _be_checker(self, stdout: int, stderr: int, connection: int, report: int, proof: int) -> NoReturn:
        job = wire.receive(self._tests)
        if job is None:
            raise EngineGone
        self._arrange(stdout, stderr, connection, report, proof)
        self._confine(self._memory + CHECKER_BYTES)
        os.write(_TOP + 1, checker.READY)
        checker.run(job, socket.socket(fileno=_TOP), _TOP + 1, _TOP + 2)

    def _be_candidate(self, stdout: int, stderr: int, connection: int) -> NoReturn:
        self._arrange(stdout, stderr, connection)
        channel = socket.socket(fileno=_TOP)
        self._confine(self._memory)
        privileges.open_to_others(True)  # to the server, which reads how much memory it takes
        source, entry_point = self._source.decode("utf-8", "surrogatepass"), self._job["entry_point"]
        candidate.run(source, entry_point, channel)

    @staticmethod
    def _arrange(stdout: int, stderr: int, *channels: int) -> None:
        """In a child: standard files, the channels at the top, nothing else open, and signals as a program has them."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        privileges.die_with_parent()
        os.setsid()
        for old, new in ((stdout, 1), (stderr, 2)):
            os.dup2(old, new)
        for place, channel in enumerate(channels):
            os.dup2(channel, _TOP + place, inheritable=False)
        os.closerange(3, _TOP)
        os.closerange(_TOP + len(channels), processes.OPEN_FILES)

    def _confine(self, memory_bytes: int) -> None:
        os.chdir(self._folder.path)
        self._limits.set(memory_bytes)
        self._confinement.shut_in(self._folder.path)

    def _watch(self, started: float, control: socket.socket) -> None:
        """Read the pipes until the tests' process has ended, or time, memory or processes are used up."""
        wake, wake_end = os.pipe()
        captures = {kept.pipe: kept for kept in self._kept.values()}
        for end in (wake, wake_end, *captures):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        deadline, look = started + self._timeout, started + _WATCH_SECONDS
        with selectors.DefaultSelector() as selector:
            for pipe in (*captures, wake, control.fileno()):
                selector.register(pipe, selectors.EVENT_READ)
            while not self._ended(self._checker):
                self._ended(self._candidate)
                now = time.monotonic()
                if now >= look:
                    look = now + _WATCH_SECONDS
                    self._ended_by = self._used_up()
                    if self._ended_by:
                        break
                if now >= deadline:
                    deadline = self._deadline(started)
                    if deadline <= now:
                        self._ended_by = "clock"
                        break
                for key, _ in selector.select(min(deadline, look) - now):
                    if key.fd == control.fileno():
                        raise EngineGone
                    if key.fd == wake:
                        os.read(wake, 512)
                    elif not captures[key.fd].read():
                        selector.unregister(key.fd)
        signal.set_wakeup_fd(-1)
        os.close(wake)
        os.close(wake_end)
        if self._ended_by:
            self._busy = sum(map(processes.cpu_seconds, processes.descendants()))
            os.kill(self._checker, signal.SIGKILL)
            self._ended(self._checker, wait=True)

    def _deadline(self, started: float) -> float:
        """The deadline anew: the clock stands still while the program waits for a core, up to a limit."""
        waited = sum(processes.waited_seconds(pid) for pid, end in self._running.items() if end is None)
        return started + min(self._timeout + waited, processes.LOADED_MACHINE * self._timeout)

    def _used_up(self) -> str:
        """What all processes of the candidate together have too much of: "memory" for one of them, "processes", ""."""
        tasks = processes.descendants()
        tasks.pop(self._checker, None)
        if sum(tasks.values()) > processes.MOST_TASKS:
            return "processes"
        used = sum(map(processes.memory_bytes, tasks))
        self._peak = max(self._peak, used)
        return "memory" if used > self._memory + processes.INTERPRETER_BYTES else ""

    def _finish_candidate(self) -> None:
        """End the candidate's process; where the connection broke it has a moment to end by itself, and say how."""
        report = self._kept["report"]
        report.read()
        deadline = time.monotonic() + (_MOMENT if b'"gone"' in report else 0.0)
        while not (over := self._ended(self._candidate)) and time.monotonic() < deadline:
            time.sleep(0.001)
        self._by_itself = over
        if not over:
            os.kill(self._candidate, signal.SIGKILL)
            self._ended(self._candidate, wait=True)

    def _ended(self, pid: int, wait: bool = False) -> bool:
        """Whether one of the two processes has ended; keeps what the kernel tells of it."""
        if self._running[pid] is None:
            ended, status, usage = os.wait4(pid, 0 if wait else os.WNOHANG)
            if ended:
                self._running[pid] = (status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)
        return self._running[pid] is not None


def _close(*ends: int) -> None:
    for end in ends:
        os.close(end)
