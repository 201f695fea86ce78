"""The server's loop: take a program from the engine, fork a process for it, watch it, tell the engine the outcome."""

from __future__ import annotations

import gc
import os
import secrets
import selectors
import signal
import socket
import sys
import time
import traceback
from typing import Any

import candidate
import namespaces
import processes
import wire

sys.path.pop(0)  # this folder: its modules are not for the programs

OUTPUT_BYTES = 16 << 10
"""What is kept of each of a program's output streams; the rest is read and dropped."""
REPORT_BYTES = 64 << 10
"""The same for its report: more than `candidate` can make one."""
PRELOADED = (
    "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib",
    "heapq", "itertools", "math", "operator", "random", "re", "string", "statistics", "typing",
)


def main(level: str, folder: str) -> None:
    """Serve until the engine closes the connection, which is file 0."""
    control = socket.socket(fileno=os.dup(0))
    try:
        if level == "namespaces":
            namespaces.enter()
            server = os.fork()
            if server:
                control.close()
                os.waitpid(server, 0)
                return
            namespaces.die_with_parent()
            namespaces.furnish()
        else:
            namespaces.adopt_orphans()
    except (OSError, AttributeError) as error:  # AttributeError: a C library without the call
        wire.send(control, {"refused": str(error)})
        return
    for name in PRELOADED:
        __import__(name)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    gc.freeze()  # keep what is shared with the children shared
    try:
        server_loop(control, Folder(level, folder))
    finally:
        if level == "process":
            processes.remove_tree(folder)  # the engine may be gone, and cannot


def server_loop(control: socket.socket, folder: Folder) -> None:
    """Answer one job after the other."""
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # with a handler, the end of a child wakes the selector
    wire.send(control, {"isolation": folder.level})
    while (job := wire.receive(control)) is not None:
        try:
            answer = Execution(job, folder).run(control)
        except EngineGone:
            return
        except Exception:
            wire.send(control, {"fault": traceback.format_exc()})  # ours or the machine's: the engine tries it again
            return
        wire.send(control, answer)


class EngineGone(Exception):
    """The engine closed the connection while a program ran."""


class Folder:
    """The working folder of one program after the other: made before, gone after."""

    def __init__(self, level: str, folder: str) -> None:
        self.level = level
        self.alone = level == "namespaces"
        self.path = namespaces.WORK if self.alone else os.path.join(folder, "work")

    def make(self) -> None:
        """Have it there, and empty."""
        if self.alone:
            namespaces.mount_work()
        else:
            os.mkdir(self.path, 0o700)

    def remove(self) -> None:
        """Have it gone."""
        if self.alone:
            namespaces.unmount_work()
        else:
            processes.remove_tree(self.path)


class Execution:
    """One program, from the fork to the end of all that it started."""

    def __init__(self, job: dict[str, Any], folder: Folder) -> None:
        self.job = job
        self.folder = folder
        self.timeout = float(job["timeout"])
        self.nonce = b""
        self.kept: dict[int, bytearray] = {}
        self.most: dict[int, int] = {}

    def run(self, control: socket.socket) -> dict[str, Any]:
        """Execute and watch; returns the facts that the engine judges. Raises EngineGone."""
        self.folder.make()
        started = time.monotonic()
        (stdout, stdout_end), (stderr, stderr_end), (report, report_end), (proof_end, proof) = (
            os.pipe() for _ in range(4)
        )
        pid = os.fork()
        if pid == 0:
            self._become_program(stdout_end, stderr_end, report_end, proof_end)
        self.nonce = secrets.token_bytes(candidate.PROOF_BYTES)  # made after the fork: not in the program's memory
        os.write(proof, self.nonce)  # before our copy of the other end is closed: the program may be gone already
        for end in (stdout_end, stderr_end, report_end, proof_end, proof):
            os.close(end)
        self.most = {stdout: OUTPUT_BYTES, stderr: OUTPUT_BYTES, report: REPORT_BYTES}
        self.kept = {pipe: bytearray() for pipe in self.most}
        try:
            status, usage, timed_out = self._watch(pid, started, control)
        finally:
            seconds = time.monotonic() - started
            processes.kill_everything(self.folder.alone)
            for pipe in self.kept:
                self._read(pipe)
                os.close(pipe)
            self.folder.remove()
        return {
            "status": os.waitstatus_to_exitcode(status), "timed_out": timed_out, "seconds": seconds,
            "cpu_seconds": usage.ru_utime + usage.ru_stime, "nonce": self.nonce.hex(),
            "report": self.kept[report].decode("ascii", "replace"),
            "stdout": self.kept[stdout].decode("utf-8", "backslashreplace"),
            "stderr": self.kept[stderr].decode("utf-8", "backslashreplace"),
        }

    def _become_program(self, *ends: int) -> None:
        """In the child: give up what the server has, then run the program; never returns."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            namespaces.die_with_parent()
            os.setsid()
            report, proof = self._arrange_files(*ends)
            os.chdir(self.folder.path)
            os.umask(0o077)
            os.environ["HOME"] = os.environ["TMPDIR"] = self.folder.path
            if self.folder.alone:
                namespaces.new_ipc()
            seconds = int(self.timeout) + 2
            processes.set_limits(seconds, int(self.job["memory_bytes"]))
            if self.folder.alone:
                namespaces.drop_capabilities()
            namespaces.forbid_new_privileges()
            source, call = self.job["source"], self.job["call"]
            candidate.become_anonymous()
            candidate.run(source, call, report, proof)
        finally:
            os._exit(70)  # an error of ours: no report, and never a return into the server's loop

    @staticmethod
    def _arrange_files(stdout: int, stderr: int, report: int, proof: int) -> tuple[int, int]:
        """Standard files, the two ends of the verdict channel at the top, and nothing else open."""
        top = processes.OPEN_FILES - 2
        for old, new in ((stdout, 1), (stderr, 2), (report, top), (proof, top + 1)):
            os.dup2(old, new, inheritable=new in (1, 2))
        os.closerange(3, top)
        return top, top + 1

    def _watch(self, pid: int, started: float, control: socket.socket) -> tuple[int, Any, bool]:
        """Read the pipes until the program ends or its time is up; its wait status, resource usage, and which."""
        wake, wake_end = os.pipe()
        for end in (wake, wake_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        deadline, timed_out = started + self.timeout, False
        with selectors.DefaultSelector() as selector:
            for pipe in (*self.kept, wake, control.fileno()):
                selector.register(pipe, selectors.EVENT_READ)
            for pipe in self.kept:
                os.set_blocking(pipe, False)
            while True:
                ended, status, usage = os.wait4(pid, os.WNOHANG)
                if ended:
                    break
                now = time.monotonic()
                if now >= deadline:
                    deadline = self._later(pid, started, now)
                    timed_out = deadline <= now
                    if timed_out:
                        os.kill(pid, signal.SIGKILL)
                        _, status, usage = os.wait4(pid, 0)
                        break
                for key, _ in selector.select(deadline - now):
                    if key.fd == control.fileno():
                        raise EngineGone
                    if key.fd == wake:
                        os.read(wake, 512)
                    elif not self._read(key.fd):
                        selector.unregister(key.fd)
        signal.set_wakeup_fd(-1)
        os.close(wake)
        os.close(wake_end)
        return status, usage, timed_out

    def _later(self, pid: int, started: float, now: float) -> float:
        """The deadline anew: later for a program that computes but had less CPU time than the limit gives it."""
        had: float | None = processes.cpu_seconds_if_running(pid)
        if had is None or had >= 0.95 * self.timeout:
            return now
        latest: float = started + processes.LOADED_MACHINE * self.timeout
        return min(now + self.timeout - had, latest)

    def _read(self, pipe: int) -> bool:
        """Take what a pipe has, keep the first of it; False when its other end is closed."""
        kept = self.kept[pipe]
        for _ in range(16):  # not for ever: a flood must not keep us from the clock
            try:
                data = os.read(pipe, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            kept += data[: self.most[pipe] - len(kept)]
        return True


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
