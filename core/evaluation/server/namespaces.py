"""Linux namespaces through the C library: Python 3.11 has no `os.unshare`, and util-linux or bubblewrap may be absent.

Inside: own user, process, mount, network, IPC and host-name namespaces; the whole file system read-only; a /proc of
its own; no network but a loopback that is down. The server is process 1, so that `kill(-1)` from it ends every
program it ever started, and no program can end it.
"""

from __future__ import annotations

import ctypes
import os
import signal

WORK = "/dev/shm"
"""The programs' working folder inside: each gets a fresh tmpfs there, which leaves nothing behind when it goes."""
WORK_BYTES = 64 << 20

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture; Linux 5.12
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 1
_CAPABILITY_VERSION_3 = 0x20080522
_NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def _check(result: int, call: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None)
    _check(_libc.mount(*arguments), f"mount of {kind or source} on {target}")


def enter() -> None:
    """Put this process, and its next child's process numbers, into new namespaces; raises OSError where not allowed."""
    user, group = os.geteuid(), os.getegid()
    everything = _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS
    _check(_libc.unshare(everything), "unshare")
    for name, text in [
        ("setgroups", "deny"), ("uid_map", f"{_NOBODY} {user} 1"), ("gid_map", f"{_NOBODY} {group} 1"),
    ]:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def furnish() -> None:
    """As process 1 of the new namespaces: cut the mounts off, make them read-only, mount /proc; raises OSError."""
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    readonly = _MountAttributes(set=_MOUNT_ATTR_RDONLY)
    _check(
        _libc.syscall(ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), b"/", ctypes.c_uint(_AT_RECURSIVE),
                      ctypes.byref(readonly), ctypes.c_size_t(ctypes.sizeof(readonly))),
        "mount_setattr",
    )
    _mount("proc", "/proc", "proc", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    mount_work()
    unmount_work()
    with open(os.__file__, "rb"):  # a library that only the outer user may read would fail every later import
        pass


def mount_work() -> None:
    """A fresh, empty working folder of WORK_BYTES at most."""
    _mount("tmpfs", WORK, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={WORK_BYTES},nr_inodes=4096,mode=700")


def unmount_work() -> None:
    """Drop the working folder with all that is in it."""
    _check(_libc.umount2(WORK.encode(), _MNT_DETACH), f"umount of {WORK}")


def new_ipc() -> None:
    """Shared memory and queues of this process's own, so that no program leaves any to the next."""
    _check(_libc.unshare(_CLONE_NEWIPC), "unshare of IPC")


def die_with_parent() -> None:
    """Be killed when the parent process ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none can slip away."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def forbid_new_privileges() -> None:
    """No program that this process executes can gain rights: set-uid bits and file capabilities have no effect."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def drop_capabilities() -> None:
    """Give up every capability; without it a program could make the file system writable again."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(none)), "capset")
