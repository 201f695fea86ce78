"""Landlock: rules of the kernel's that say which files a process may open, without any right or namespace of its own.

What it does not watch, whatever the rules: asking for a file's size and times, changing its mode, owner, times and
attributes, and before Linux 6.2 truncating it by name: `seccomp.confine(…, guard_files=True)` refuses these.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from collections.abc import Iterable

# The same numbers on every architecture; Linux 5.13.
_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION, _RULE_PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = 1, 2, 4, 8, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
"""The rights that a rule for anything but a folder may name."""
_RIGHTS = {9: 17, 5: 16, 3: 15, 2: 14, 1: 13}
"""Rights over files that a version knows, counted from the lowest bit: 2 added moving between folders, 3 truncation,
5 ioctl on devices, 9 connecting to sockets by their path."""
_NETWORK = {10: 0b1111, 4: 0b0011}
"""Binding and connecting: TCP, then UDP too."""
_SCOPES = {6: 0b11}
"""Abstract Unix sockets and signals of processes outside."""
_LOG_OFF = {7: 0b101}
"""No entry in the audit log for what is refused, or a program could flood it."""

_OUT_OF_THE_WAY = 200
"""Descriptors below it are closed, or put in place, between the making of rules and their use."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def abi() -> int:
    """The version of Landlock that the kernel has; 0 where it has none, or has it switched off."""
    version: int = _libc.syscall(ctypes.c_long(_SYS_CREATE_RULESET), None, ctypes.c_size_t(0),
                                 ctypes.c_uint(_CREATE_RULESET_VERSION))
    return max(version, 0)


class Rules:
    """Rules over files, made once for many processes; what they do not name cannot be opened.

    The newer the kernel, the more they hold: from version 4 no TCP, from 6 no signal to a process outside and none of
    its abstract sockets.

    Args:
        readable: files and folders, with all below, to read and to execute; missing ones are skipped, here and below.
        listed: folders of which, and of those below, only the names may be read.
        devices: files to read and to write.

    Raises:
        OSError: the kernel has no Landlock or refuses.
    """

    def __init__(self, readable: Iterable[str], listed: Iterable[str], devices: Iterable[str]) -> None:
        version = abi()
        self._handled = (1 << _newest(_RIGHTS, version)) - 1
        self._flags = _newest(_LOG_OFF, version)
        attributes = struct.pack("=QQQ", self._handled, _newest(_NETWORK, version), _newest(_SCOPES, version))
        made = _call("create_ruleset", _SYS_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)),
                     ctypes.c_uint(0))
        self._rules = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        os.close(made)
        for paths, rights in (
            (readable, _EXECUTE | _READ_FILE | _READ_DIR), (listed, _READ_DIR), (devices, _READ_FILE | _WRITE_FILE),
        ):
            for path in paths:
                _allow(self._rules, path, rights)

    def confine(self, writable: str) -> None:
        """Hold this thread, and all that it starts from now on, to the rules, for good; raises OSError.

        Files that are open stay open. No new privileges must have been forbidden before.

        Args:
            writable: a folder to do anything in, from now on for every process of these rules, as long as it exists.
        """
        _allow(self._rules, writable, self._handled)
        _call("restrict_self", _SYS_RESTRICT_SELF, ctypes.c_int(self._rules), ctypes.c_uint(self._flags))
        os.close(self._rules)


def _newest(by_version: dict[int, int], version: int) -> int:
    """The value of the newest version that is not beyond the kernel's; 0 before the first."""
    return next((value for since, value in by_version.items() if since <= version), 0)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(file).st_mode):
            rights &= _OF_FILES
        beneath = struct.pack("=Qi", rights, file)
        _call(f"add_rule of {path}", _SYS_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_RULE_PATH_BENEATH), beneath,
              ctypes.c_uint(0))
    finally:
        os.close(file)


def _call(name: str, number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock_{name}: {os.strerror(error)}")
    return result
