"""Other people's machines: kernels, or containers, that refuse what a level of isolation needs."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys

import pytest

from core.evaluation.server import seccomp

_START = """
import ctypes, os, sys
instructions = bytes.fromhex(sys.argv[1])
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
program = Program(len(instructions) // 8, instructions)
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[2], sys.argv[2:])
"""
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_PR_SET_SECCOMP = 22


def refuse(monkeypatch: pytest.MonkeyPatch, *what: str) -> None:
    """Start every server of the sandbox on a machine without "namespaces", "landlock" or "seccomp".

    "rules": Landlock is there, and fails when a program is to be held to its rules.
    """
    assembled = b"".join(_instructions(*what))
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-c", _START, assembled.hex(), *command], **options)  # type: ignore[call-overload]

    monkeypatch.setattr("core.evaluation.server_process.subprocess.Popen", popen)


def _instructions(*what: str) -> list[bytes]:
    """A filter that answers the calls that a level begins with as a kernel does that knows them not."""
    numbers = seccomp.SYSTEM_CALLS[os.uname().machine]
    load, equal, give = 0x20, 0x15, 0x06
    refusal, allowed = 0x00050000, 0x7FFF0000
    program = [(load, 0, 0, 0)]
    if "namespaces" in what:
        program += [(equal, 0, 1, numbers["unshare"]), (give, 0, 0, refusal | errno.EPERM)]
    if "landlock" in what:
        program += [(equal, 0, 1, _LANDLOCK_CREATE_RULESET), (give, 0, 0, refusal | errno.ENOSYS)]
    if "rules" in what:
        program += [(equal, 0, 1, _LANDLOCK_RESTRICT_SELF), (give, 0, 0, refusal | errno.E2BIG)]
    if "seccomp" in what:
        program += [(equal, 0, 3, numbers["prctl"]), (load, 0, 0, 16), (equal, 0, 1, _PR_SET_SECCOMP),
                    (give, 0, 0, refusal | errno.EINVAL)]
    program.append((give, 0, 0, allowed))
    return [struct.pack("=HBBI", *instruction) for instruction in program]
