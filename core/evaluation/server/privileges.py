"""What a process may do to others and others to it: calls of the C library that Python does not have."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
_CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)

# Made once, in the server: a new process would touch, and so copy, the memory in which they are made.
_OF_THIS_PROCESS = ctypes.byref((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0))
_NONE = ctypes.byref((ctypes.c_uint32 * 6)())


def check(result: int, call: str) -> None:
    """Raise OSError, naming the call, where it did not return 0."""
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


def die_with_parent() -> None:
    """Be killed when the parent process ends."""
    check(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none can slip away."""
    check(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def open_to_others(yes: bool) -> None:
    """Whether processes of the same user may trace this one, and read its memory and its open files in /proc."""
    check(libc.prctl(_PR_SET_DUMPABLE, int(yes), 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def forbid_new() -> None:
    """No program that this process executes can gain rights: set-uid bits and file capabilities have no effect."""
    check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def drop_capabilities() -> None:
    """Give up every capability; without it a program could make the file system writable again."""
    check(libc.capset(_OF_THIS_PROCESS, _NONE), "capset")
