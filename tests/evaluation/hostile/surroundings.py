"""What hostile programs reach for: a home with a secret, files beside their folder, listeners, and this process."""

from __future__ import annotations

import os
import resource
import secrets
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any

import psutil

from core.evaluation.server import privileges

_PR_SET_CHILD_SUBREAPER = 36
_SHARED_MEMORY_KEY = 0x54325


class Surroundings:
    """Made in a folder, which is to be the temporary folder of the sandbox too.

    While it is open every orphan comes to this process, so that what a sandbox loses is found, and nobody else's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = f"secret-{secrets.token_hex(8)}"
        self.home = folder / "home"
        self.guarded = folder / "guarded"
        name = f"softtune-hostile-{secrets.token_hex(8)}"
        for place in (self.home / ".ssh", self.guarded):
            place.mkdir(parents=True)
        for file in (self.home / ".ssh" / "id_ed25519", self.home / ".netrc", self.guarded / "precious",
                     folder / "precious"):
            file.write_text(self.secret)
        self._listeners = [
            _listener(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            _listener(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            _listener(socket.AF_UNIX, socket.SOCK_STREAM, str(self.guarded / "listener")),
            _listener(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{name}"),
            _listener(socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{name}-datagrams"),
        ]
        tcp, udp = (listener.getsockname()[1] for listener in self._listeners[:2])
        self._words = {"@guarded@": str(self.guarded), "@home@": str(self.home), "@tcp@": str(tcp), "@udp@": str(udp),
                       "@abstract@": name}
        self._others = set(psutil.Process().children(recursive=True))
        privileges.adopt_orphans()

    def close(self) -> None:
        """Give up the listeners and the orphans."""
        privileges.libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        for listener in self._listeners:
            listener.close()

    def filled_in(self, completion: str) -> str:
        """A completion with the words for what is here replaced."""
        for word, value in self._words.items():
            completion = completion.replace(word, value)
        return completion

    def files(self) -> dict[str, tuple[Any, ...]]:
        """Everything below the folder: kind and mode, owner, size, time of change, attributes, content."""
        return {str(path.relative_to(self.folder)): _facts(path) for path in sorted(self.folder.rglob("*"))}

    def heard(self) -> list[Any]:
        """Names of the listeners that somebody spoke to."""
        spoken = []
        for listener in self._listeners:
            try:
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(1)
            except BlockingIOError:
                continue
            spoken.append(listener.getsockname())
        return spoken

    def processes_left(self, seconds: float = 5.0) -> list[psutil.Process]:
        """Processes that were started since, and have not ended within some seconds; ended ones are reaped."""
        deadline = time.monotonic() + seconds
        while left := set(psutil.Process().children(recursive=True)) - self._others:
            for process in left:
                if process.ppid() == os.getpid() and process.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(process.pid, 0)
            if time.monotonic() > deadline:
                return list(left)
            time.sleep(0.02)
        return []

    @staticmethod
    def kernel_objects_left() -> list[str]:
        """Shared memory with the key that the corpus uses."""
        segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return [segment for segment in segments if int(segment.split()[0]) == _SHARED_MEMORY_KEY]


def own_state() -> dict[str, Any]:
    """What a program could have done to this process."""
    return {
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "files": {name: os.readlink(f"/proc/self/fd/{name}") for name in _open_files()},
        "folder": os.getcwd(), "priority": os.getpriority(os.PRIO_PROCESS, 0), "cores": os.sched_getaffinity(0),
        "scheduler": os.sched_getscheduler(0), "alarm": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if "RLIMIT_" in name},
        "chosen when memory runs out": Path("/proc/self/oom_score_adj").read_text(),
    }


def _open_files() -> list[str]:
    return [name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")]


def _listener(family: int, kind: int, address: Any) -> socket.socket:
    listener = socket.socket(family, kind)
    listener.setblocking(False)
    listener.bind(address)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    return listener


def _facts(path: Path) -> tuple[Any, ...]:
    status = path.lstat()
    whole = (status.st_mode, status.st_uid, status.st_gid)
    if not stat.S_ISREG(status.st_mode):
        return whole  # a folder's times change with the sandbox's own folders beside
    return *whole, status.st_size, status.st_mtime_ns, os.listxattr(path), path.read_bytes()
