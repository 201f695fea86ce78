"""Small disks: a tmpfs of a few megabytes, in a mount namespace of this process, where the machine grants one.

Nothing is seen of it elsewhere, and it is gone when the processes are.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_NEWNS, _NEWUSER = 0x20000, 0x10000000
_REC, _PRIVATE, _BIND, _REMOUNT, _READ_ONLY, _DETACH = 0x4000, 1 << 18, 0x1000, 32, 1, 2
_libc = ctypes.CDLL(None, use_errno=True)
_granted = False


def own_mounts() -> bool:
    """Give this process, which has one thread, mounts of its own; whether that is granted."""
    global _granted
    users, groups = os.getuid(), os.getgid()
    if _libc.unshare(_NEWNS):
        if _libc.unshare(_NEWNS | _NEWUSER):
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {users} 1")
        Path("/proc/self/gid_map").write_text(f"0 {groups} 1")
    _granted = not _libc.mount(b"none", b"/", None, _REC | _PRIVATE, None) and not _libc.mount(
        b"tmpfs", b"/mnt", b"tmpfs", 0, b"size=64k")
    if _granted:
        _libc.umount2(b"/mnt", _DETACH)
    return _granted


def granted() -> bool:
    """Whether `own_mounts` was."""
    return _granted


def small_disk(place: Path, size: str) -> None:
    """Put a tmpfs of a size ("4m") on a folder."""
    _checked(_libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, f"size={size}".encode()), place)


def read_only(place: Path) -> None:
    """Let a folder refuse to be changed, for whoever opens something in it from now on."""
    name = os.fsencode(place)
    _checked(_libc.mount(name, name, None, _BIND, None), place)
    _checked(_libc.mount(None, name, None, _BIND | _REMOUNT | _READ_ONLY, None), place)


def clear(*places: Path) -> None:
    """Take away all that is on some folders."""
    for place in reversed(places):
        while not _libc.umount2(os.fsencode(place), _DETACH):
            pass  # there may be several, one on the other


def _checked(status: int, place: Path) -> None:
    if status:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(place))
