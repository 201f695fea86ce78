"""Whether an engine is at work on a run: what the engine leaves behind for it, and how a reader judges that.

An engine holds a lock on `engine.lock` in its run folder for as long as it lives, so that no two write one run, and
touches that file every few seconds. A reader on the same machine asks for the process; one elsewhere can only look how
long ago the file was touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from core.contract.errors import UsageError
from core.contract.record import ACTIVE, RunRecord, State

QUEUE_SECONDS = 60
"""A queued run that no engine took up within this time counts as crashed."""

HEARTBEAT_SECONDS = 5.0
SILENT_SECONDS = 60.0
"""An engine on another machine that gave no sign of life for this long counts as dead."""

_LOCK_TRIES = 20
_LOCK_WAIT_SECONDS = 0.1


class Judgement(NamedTuple):
    """The state of a run, given that its engine may be gone without having said so, and then how that is known."""

    state: State
    reason: str = ""


def judge(record: RunRecord, heartbeat: float | None = None, now: float | None = None) -> Judgement:
    """Judge a run by its record and, where its process cannot be asked for from here, by its heartbeat.

    Args:
        heartbeat: when the engine last gave a sign of life (`last_heartbeat`); None where it never did.
        now: seconds since the epoch.
    """
    now = time.time() if now is None else now
    if record.state not in ACTIVE:
        return Judgement(record.state, record.error)
    if record.pid is None:
        waited = now - record.started
        return Judgement("queued") if waited < QUEUE_SECONDS else Judgement("crashed", "no engine took it up")
    if record.host == socket.gethostname():
        if record.boot_id and boot_id() and record.boot_id != boot_id():
            return Judgement("crashed", "the machine was restarted while it was at work")
        if record.pid_namespace in ("", pid_namespace()):
            started = process_start(record.pid)
            alive = started is not None and started == record.pid_started
            return Judgement(record.state) if alive else Judgement("crashed", f"its process {record.pid} is gone")
    silent = now - (record.started if heartbeat is None else heartbeat)
    if silent < SILENT_SECONDS:
        return Judgement(record.state)
    return Judgement("crashed", f"no sign of life from {record.host} for {silent / 60:,.0f} min")


def identity() -> dict[str, object]:
    """The fields of a RunRecord by which this process can be told from any other."""
    return {
        "pid": os.getpid(), "pid_started": process_start(os.getpid()), "host": socket.gethostname(),
        "boot_id": boot_id(), "pid_namespace": pid_namespace(), "oom_kills": oom_kills(),
    }


def process_start(pid: int) -> float | None:
    """When a process started (clock ticks since boot); None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        return None
    else:
        after_name = stat.rpartition(")")[2].split()
        return None if after_name[0] == "Z" else float(after_name[19])
    try:  # a system without /proc: all that can be asked is whether it is there
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return None
    return 0.0


def boot_id() -> str:
    """A name for the time since this machine was booted; "" where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """The namespace in which this process's pids mean something; "" where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory since boot; None where it does not tell."""
    for file in (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events")):
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return None


def last_heartbeat(lock_file: Path) -> float | None:
    """When a run's engine last gave a sign of life, in seconds since the epoch; None where it never did."""
    try:
        return lock_file.stat().st_mtime
    except OSError:
        return None


@contextlib.contextmanager
def at_work(lock_file: Path) -> Iterator[float | None]:
    """Hold the lock of a run, and give signs of life, until the block ends. The kernel lets go of it for a dead engine.

    The value is when an engine before this one last gave a sign of life.

    Raises:
        UsageError: another process holds it, or the file cannot be made.
    """
    before = last_heartbeat(lock_file)
    with locked(lock_file, f"{lock_file.parent.name} is being worked on by another process",
                "`softtune` attaches to it; or stop that one first"):
        over = threading.Event()
        beat = threading.Thread(target=_keep_beating, args=(lock_file, over), name="heartbeat", daemon=True)
        beat.start()
        try:
            yield before
        finally:
            over.set()
            beat.join()


@contextlib.contextmanager
def locked(file: Path, what: str, remedy: str) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is made where there is none.

    A file system without locks grants it to everybody: keeping engines apart is then the user's part.

    Raises:
        UsageError: another process holds it (`what` and `remedy` say so), or the file cannot be made.
    """
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}",
                         "check its permissions and the free space (df -h)") from None
    try:
        for last in [False] * _LOCK_TRIES + [True]:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if last:
                    raise UsageError(what, remedy) from None
                time.sleep(_LOCK_WAIT_SECONDS)
            except OSError:
                break
        yield
    finally:
        os.close(handle)


def _keep_beating(lock_file: Path, over: threading.Event) -> None:
    while True:
        with contextlib.suppress(OSError):  # read-only or gone for the moment: silence is then the truth
            os.utime(lock_file)
        if over.wait(HEARTBEAT_SECONDS):
            return
