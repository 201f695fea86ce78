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


class Confinement:
    """A level's means, made ready once in the server; raises OSError where the kernel lacks them.

    Namespaces are entered by the server itself (`namespaces.py`).
    """

    def __init__(self, level: str) -> None:
        self._level = level
        self._rules: landlock.Rules | None = None
        if level == "landlock":
            if landlock.abi() == 0:
                raise OSError(errno.ENOSYS, "this kernel has no Landlock, or it is off")
            readable, between = system.around(system.hidden())
            self._rules = landlock.Rules(readable, between, system.devices())
        with contextlib.suppress(*([OSError] if level == "process" else [])):
            seccomp.require()

    def shut_in(self, folder: str) -> None:
        """Confine this process and all that it starts, with `folder` to work in; raises OSError."""
        privileges.forbid_new()
        if self._level == "process":
            with contextlib.suppress(OSError):
                privileges.drop_capabilities()
            with contextlib.suppress(OSError):
                seccomp.confine(os.getpid())
            return
        privileges.drop_capabilities()
        if self._rules:
            self._rules.confine(folder)
        seccomp.confine(os.getpid(), guard_files=self._level == "landlock")
