"""Linux namespaces through the C library: Python 3.11 has no `os.unshare`, and util-linux or bubblewrap may be absent.

Inside: own user, process, mount, network, IPC and host-name namespaces; a root that has nothing but the paths of
`system.py`, read-only; a /proc of its own; no network but a loopback that is down. The server is process 1, so that
`kill(-1)` from it ends every program it ever started, and no program can end it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

import privileges
import system

WORK = "/work" if any(path.startswith("/tmp/") for path in system.readable()) else "/tmp"
"""The programs' working folder inside: each gets a fresh tmpfs there, which leaves nothing behind when it goes.

/tmp, unless Python itself is installed somewhere below it.
"""
WORK_BYTES = 64 << 20

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND = 2, 4, 8, 0x1000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture; Linux 5.12
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID = 1, 2
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_NOBODY = 65534

_libc = privileges.libc
_check = privileges.check


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None)
    _check(_libc.mount(*arguments), f"mount of {kind or source} on {target}")


def _set_readonly(path: str) -> None:
    """Make a mount, and all below it, read-only and blind to set-uid bits."""
    attributes = _MountAttributes(set=_ATTR_RDONLY | _ATTR_NOSUID)
    _check(
        _libc.syscall(ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), path.encode(),
                      ctypes.c_uint(_AT_RECURSIVE), ctypes.byref(attributes),
                      ctypes.c_size_t(ctypes.sizeof(attributes))),
        "mount_setattr",
    )


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
    """As process 1 of the new namespaces: exchange the root for one of our own making; raises OSError."""
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    root = _mount_point()
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for path in (*system.readable(), *system.devices()):
        _show(path, root)
    for folder in ("/proc", WORK, "/old"):
        os.makedirs(root + folder, exist_ok=True)
    os.makedirs(f"{root}/dev", exist_ok=True)
    os.symlink(WORK, f"{root}/dev/shm")  # semaphores of multiprocessing are files there
    os.chdir(root)
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(ctypes.c_long(number), b".", b"old"), "pivot_root")
    os.chdir("/")
    # Mounted while the old root's /proc can be seen: the kernel grants no more of it than there was.
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _check(_libc.umount2(b"/old", _MNT_DETACH), "umount of the old root")
    os.rmdir("/old")
    for path in system.hidden():
        _mount("tmpfs", path, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=4k,mode=755")
    _set_readonly("/")
    mount_work()
    unmount_work()
    with open(os.__file__, "rb"):  # a library that only the outer user may read would fail every later import
        pass


def _mount_point() -> str:
    """A folder to build the new root on: what was below it is out of sight then, so it is above nothing to be shown."""
    shown = [f"{path}/" for path in (*system.readable(), *system.devices())]
    places = [path for path in ("/tmp", "/var/tmp", "/mnt", "/run", "/dev/shm") if os.path.isdir(path)]
    free = [path for path in places if not any(other.startswith(f"{os.path.realpath(path)}/") for other in shown)]
    if not free:
        raise OSError(errno.ENOENT, "no folder to build a root on: Python is installed below each of them")
    return free[0]


def _show(path: str, root: str) -> None:
    """Have a path of the machine in the new root: a link as a link, all else as it is."""
    os.makedirs(os.path.dirname(root + path), exist_ok=True)
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(path), root + path)
        return
    if stat.S_ISDIR(mode):
        os.mkdir(root + path)
    else:
        open(root + path, "w").close()
    _mount(path, root + path, "", _MS_BIND | _MS_REC)


def mount_work() -> None:
    """A fresh, empty working folder of WORK_BYTES at most."""
    _mount("tmpfs", WORK, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={WORK_BYTES},nr_inodes=4096,mode=700")


def unmount_work() -> None:
    """Drop the working folder with all that is in it."""
    _check(_libc.umount2(WORK.encode(), _MNT_DETACH), f"umount of {WORK}")
