"""Shutting a process in, level by level: what it can reach when `shut_in` has returned.

- namespaces: nothing but its working folder, read-only system folders, and the calls that seccomp leaves it.
- landlock: the same files by Landlock's rules, the same calls; it sees that other processes exist.
- process: its rights are dropped and, where the kernel filters calls, the same calls; it reads and writes as its user.
"""

from __future__ import annotations

import contextlib
import errno
import os

import landlock
import privileges
import seccomp
import system

LEVELS = ("namespaces", "landlock", "process")


def require(level: str) -> None:
    """Raise OSError where the kernel has not what a level needs; namespaces are asked for by entering them."""
    if level == "landlock" and landlock.abi() == 0:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock, or it is off")
    with contextlib.suppress(*([OSError] if level == "process" else [])):
        seccomp.require()


def shut_in(level: str, folder: str) -> None:
    """Confine this process and all that it starts; raises OSError."""
    if level == "process":
        with contextlib.suppress(OSError):
            privileges.drop_capabilities()
        privileges.forbid_new()
        with contextlib.suppress(OSError):
            seccomp.confine(os.getpid())
        return
    privileges.drop_capabilities()
    privileges.forbid_new()
    if level == "landlock":
        landlock.confine(system.readable(), [folder], system.devices())
    seccomp.confine(os.getpid(), guard_files=level == "landlock")
