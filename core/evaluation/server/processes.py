"""Limits of one program, and the end of everything it started."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import signal
import time

LARGEST_FILE = 64 << 20
OPEN_FILES = 128
PROCESSES = 64
MOST_TASKS = 256
"""Processes and threads of one program at once; RLIMIT_NPROC counts the whole user's, and does not hold root at all."""
INTERPRETER_BYTES = 32 << 20
"""What a program has before it takes any memory of its own."""
LOADED_MACHINE = 3.0
"""A program that has to wait for a core may take this many times the time limit."""
_PATIENCE = 5.0
"""Seconds to wait for killed processes to be gone; one that hangs in the kernel for longer is left to it."""


class Limits:
    """Limits of one program's processes, made in the one that forks them, for what they begin with."""

    def __init__(self, seconds: int) -> None:
        """Take the address space of this process as that of an empty program; `seconds` are of CPU time."""
        self._seconds = seconds
        self._address_space = _address_space()
        self._tasks = _tasks()

    def set(self, memory_bytes: int) -> None:
        """Limit this process and its children: CPU seconds, address space beyond an empty one, files, processes."""
        limits = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_AS: self._address_space + memory_bytes,
            resource.RLIMIT_FSIZE: LARGEST_FILE,
            resource.RLIMIT_NOFILE: OPEN_FILES,
            resource.RLIMIT_NPROC: self._tasks + PROCESSES,
        }
        for limit, value in limits.items():
            hardest = resource.getrlimit(limit)[1]
            value = value if hardest == resource.RLIM_INFINITY else min(value, hardest)
            resource.setrlimit(limit, (value, value))
        # SIGXCPU, then SIGKILL for who ignores that
        resource.setrlimit(resource.RLIMIT_CPU, (self._seconds, self._seconds + 1))


def _address_space() -> int:
    """Bytes of address space in use: a limit below it would fail every program."""
    return int(_contents("/proc/self/statm").split()[0]) * resource.getpagesize()


def _tasks() -> int:
    """Processes and threads on the machine: older kernels count all of a user's towards RLIMIT_NPROC."""
    return int(_contents("/proc/loadavg").split()[3].partition(b"/")[2])


def _contents(path: str) -> bytes:
    """A short file of /proc; `open` would cost a program's start three times as much."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)


def kill_everything(alone: bool) -> None:
    """End every descendant of this process and wait until they are gone.

    Args:
        alone: this is process 1 of its own process namespace, where one call reaches everybody. Otherwise orphans
            have come to this process (PR_SET_CHILD_SUBREAPER), and are killed generation by generation.
    """
    deadline = time.monotonic() + _PATIENCE
    while _reap() and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            if alone:
                os.kill(-1, signal.SIGKILL)
            else:
                for pid in _children():
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def _reap() -> bool:
    """Collect children that have ended; True while some have not."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True




def _children() -> list[int]:
    """Process numbers of this process's children."""
    ours = os.getpid()
    try:
        with open(f"/proc/{ours}/task/{ours}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without these lists: ask every process, and be too late for one in a hurry
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == ours]


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a process has had, all its threads together; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waited_seconds(pid: int) -> float:
    """Seconds for which a process could have computed but had to wait for a core; 0 where the kernel counts none."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def descendants() -> dict[int, int]:
    """All that this process started, and what those started, orphans included: process numbers, threads of each."""
    found: dict[int, int] = {}
    ours = os.getpid()
    pending = [ours]
    while pending:
        pid = pending.pop()
        with contextlib.suppress(OSError):
            tasks = os.listdir(f"/proc/{pid}/task")
            found[pid] = len(tasks)
            for task in tasks:
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    pending += [int(child) for child in file.read().split()]
    found.pop(ours, None)
    return found


def memory_bytes(pid: int) -> int:
    """Memory of a process, shared pages divided among those who share them; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:"))
    except ProcessLookupError:
        return 0
    except OSError:
        return _unshared_bytes(pid)


def _unshared_bytes(pid: int) -> int:
    """What is resident and belongs to no file: for a process that lets nobody look closer."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            fields = file.read().split()
        return (int(fields[1]) - int(fields[2])) * resource.getpagesize()
    except OSError:
        return 0


def remove_tree(root: str) -> None:
    """Remove a folder that a program filled, whatever it did to permissions and however deep it nested.

    Folders are moved up beside `root` before they are opened, so that neither path length nor recursion sets a limit.
    """
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            os.chmod(folder, 0o700)
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            continue
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            beside = f"{root}.{secrets.token_hex(8)}"  # a name that nobody has taken in advance
            os.rename(entry.path, beside)
            pending.append(beside)
        os.rmdir(folder)
