"""A seccomp filter: which system calls a program may make, decided by the kernel before each one.

A list of what is refused, not of what is allowed: which calls Python and its C library make differs from version to
version, while those that reach beyond a program's own process, files and pipes are known. Calls newer than the list do
not exist for the program. Left alone, since they act on the caller and its own files only, within resource limits:
splice and its kin, membarrier, mlock, timers.

What honest programs lose: signals to their own children (`Popen.kill`, `Process.terminate`), which numbers alone do
not tell from anybody else's; datagram socket pairs; `os.nice`, `os.sched_setaffinity`, `os.memfd_create`.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

SYSTEM_CALLS = {
    "x86_64": {
        "read": 0, "write": 1, "open": 2, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
        "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "ioctl": 16, "shmget": 29, "shmat": 30, "shmctl": 31,
        "socket": 41, "connect": 42, "bind": 49, "listen": 50, "socketpair": 53, "clone": 56, "kill": 62, "semget": 64,
        "semop": 65, "semctl": 66, "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "fcntl": 72, "truncate": 76,
        "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "ptrace": 101, "syslog": 103,
        "rt_sigqueueinfo": 129, "utime": 132, "uselib": 134, "personality": 135, "setpriority": 141,
        "sched_setparam": 142, "sched_setscheduler": 144, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155,
        "prctl": 157, "adjtimex": 159, "chroot": 161, "sync": 162, "acct": 163, "settimeofday": 164, "mount": 165,
        "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171,
        "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179, "nfsservctl": 180,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
        "fremovexattr": 199, "tkill": 200, "futex": 202, "sched_setaffinity": 203, "io_setup": 206,
        "lookup_dcookie": 212, "semtimedop": 220, "clock_settime": 227, "clock_nanosleep": 230, "tgkill": 234,
        "utimes": 235, "mbind": 237, "set_mempolicy": 238, "mq_open": 240, "mq_unlink": 241, "mq_timedsend": 242,
        "mq_timedreceive": 243, "mq_notify": 244, "mq_getsetattr": 245, "kexec_load": 246, "add_key": 248,
        "request_key": 249, "keyctl": 250, "ioprio_set": 251, "inotify_init": 253, "migrate_pages": 256, "openat": 257,
        "fchownat": 260, "futimesat": 261, "newfstatat": 262, "fchmodat": 268, "unshare": 272, "get_robust_list": 274,
        "move_pages": 279, "utimensat": 280, "inotify_init1": 294, "rt_tgsigqueueinfo": 297, "perf_event_open": 298,
        "fanotify_init": 300, "fanotify_mark": 301, "prlimit64": 302, "name_to_handle_at": 303,
        "open_by_handle_at": 304, "clock_adjtime": 305, "syncfs": 306, "setns": 308, "process_vm_readv": 310,
        "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "sched_setattr": 314, "seccomp": 317,
        "getrandom": 318, "memfd_create": 319, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "io_setup": 0, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
        "fremovexattr": 16, "lookup_dcookie": 18, "fcntl": 25, "inotify_init1": 26, "ioctl": 29, "ioprio_set": 30,
        "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42, "truncate": 45, "chroot": 51, "fchmod": 52,
        "fchmodat": 53, "fchownat": 54, "fchown": 55, "openat": 56, "close": 57, "vhangup": 58, "quotactl": 60,
        "lseek": 62, "read": 63, "write": 64, "newfstatat": 79, "fstat": 80, "sync": 81, "utimensat": 88, "acct": 89,
        "personality": 92, "unshare": 97, "futex": 98, "get_robust_list": 100, "kexec_load": 104, "init_module": 105,
        "delete_module": 106, "clock_settime": 112, "clock_nanosleep": 115, "syslog": 116, "ptrace": 117,
        "sched_setparam": 118, "sched_setscheduler": 119, "sched_setaffinity": 122, "kill": 129, "tkill": 130,
        "tgkill": 131, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigqueueinfo": 138, "setpriority": 140,
        "reboot": 142, "sethostname": 161, "setdomainname": 162, "prctl": 167, "settimeofday": 170, "adjtimex": 171,
        "mq_open": 180, "mq_unlink": 181, "mq_timedsend": 182, "mq_timedreceive": 183, "mq_notify": 184,
        "mq_getsetattr": 185, "msgget": 186, "msgctl": 187, "msgrcv": 188, "msgsnd": 189, "semget": 190, "semctl": 191,
        "semtimedop": 192, "semop": 193, "shmget": 194, "shmctl": 195, "shmat": 196, "socket": 198, "socketpair": 199,
        "bind": 200, "listen": 201, "connect": 203, "brk": 214, "munmap": 215, "add_key": 217, "request_key": 218,
        "keyctl": 219, "clone": 220, "mmap": 222, "swapon": 224, "swapoff": 225, "mprotect": 226, "mbind": 235,
        "set_mempolicy": 237, "migrate_pages": 238, "move_pages": 239, "rt_tgsigqueueinfo": 240,
        "perf_event_open": 241, "prlimit64": 261, "fanotify_init": 262, "fanotify_mark": 263, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "clock_adjtime": 266, "syncfs": 267, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "sched_setattr": 274, "seccomp": 277,
        "getrandom": 278, "memfd_create": 279, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
    },
}
"""Numbers of the calls that the filter names, by what `uname -m` says."""
SINCE_2019 = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
    "quotactl_fd": 443, "memfd_secret": 447, "process_mrelease": 448, "set_mempolicy_home_node": 450,
    "fchmodat2": 452, "statmount": 457, "listmount": 458, "lsm_set_self_attr": 460,
}
"""From 424 on a call has the same number on every architecture."""
NEWEST = 462
"""mseal, Linux 6.10: what comes after it nobody here has read about."""

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_HOT = (
    "read write futex mmap munmap brk mprotect close fstat newfstatat lseek rt_sigaction rt_sigprocmask"
    " clock_nanosleep getrandom"
)
"""First in the filter; only for kernels before 5.11, which run it even for a call that is always allowed."""
DENIED = {
    "other processes: signals, memory, descriptors":
        "tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal pidfd_getfd ptrace process_vm_readv"
        " process_vm_writev process_madvise process_mrelease kcmp get_robust_list",
    "the network, and services of this machine behind sockets; asyncio needs only socketpair":
        "socket connect bind listen",
    "other namespaces, the mount table, files past their path":
        "unshare setns chroot pivot_root mount umount2 open_tree move_mount mount_setattr fsopen fsconfig fsmount"
        " fspick statmount listmount swapon swapoff quotactl quotactl_fd name_to_handle_at open_by_handle_at"
        " lsm_set_self_attr",
    "what would stay after the program, or be counted to nobody; multiprocessing's semaphores are files":
        "shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semtimedop semctl mq_open mq_unlink mq_timedsend"
        " mq_timedreceive mq_notify mq_getsetattr memfd_create memfd_secret add_key request_key keyctl",
    "parts of the kernel that were often the way out of a sandbox, and that no program for the tests needs":
        "bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register seccomp personality modify_ldt"
        " iopl ioperm uselib lookup_dcookie fanotify_init fanotify_mark",
    "quotas shared with all else that the user runs: asynchronous requests, watches":
        "io_setup inotify_init inotify_init1",
    "the machine":
        "reboot kexec_load kexec_file_load init_module finit_module delete_module acct nfsservctl settimeofday"
        " clock_settime adjtimex clock_adjtime sethostname setdomainname syslog vhangup sync syncfs",
    "its fair share of the cores, memory and disks":
        "setpriority sched_setaffinity sched_setscheduler sched_setparam sched_setattr ioprio_set move_pages"
        " migrate_pages mbind set_mempolicy set_mempolicy_home_node",
}
"""Calls that fail with EPERM, whatever their arguments, by what they reach."""
UNGUARDED = (
    "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat setxattr lsetxattr"
    " fsetxattr removexattr lremovexattr fremovexattr truncate"
)
"""Changes to a file that Landlock does not watch, or did not before Linux 6.2; they need no open file."""
_ABSENT = "clone3"  # its flags are in memory, where a filter does not see them; the C library falls back on clone

_CLONE_NEW = 0x7E020000
"""Every CLONE_NEW* flag that clone takes; CLONE_NEWTIME is for clone3 and unshare alone."""
_CLONE_PARENT = 0x8000  # a child that is the server's and not the program's
_TERMINAL_AND_PIPE_IOCTLS = (
    0x5401, 0x802C542A, 0x5413,  # TCGETS, TCGETS2, TIOCGWINSZ: is it a terminal?
    0x541B, 0x5421, 0x5450, 0x5451,  # FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
)
_FCNTLS = (*range(8), *range(36, 39), *range(1030, 1035))
"""Duplicate, flags, locks, pipe size, seals. Not F_SETOWN and F_SETSIG, which send any signal to any process of the
user when the descriptor becomes ready, and not F_SETLEASE, which makes others wait who open the file."""
_PRCTLS_DENIED = (1, 22, 62)
"""PR_SET_PDEATHSIG (the program ends with the server), PR_SET_SECCOMP, PR_SCHED_CORE (acts on other processes)."""
_O_TRUNC, _O_ACCMODE = 0o1000, 0o3

_LOAD, _AND, _EQUAL, _GREATER, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06  # on 32-bit words, with a constant
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; little-endian: the low word is first
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

Instruction = tuple[int, int, int, int]
"""code, instructions to skip if true, if false, constant"""
_INSTRUCTION = struct.Struct("=HBBI")
_ANY_PID = 0x5049445F  # larger than any number of a process

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


class _Condition(NamedTuple):
    """What the low 32 bits of one argument decide; the kernel reads no more of those that we ask about."""

    argument: int
    values: Iterable[int]
    allowed: bool = True
    """Whether a call with one of the values is allowed, and every other refused; or the other way round."""
    mask: int = 0xFFFFFFFF


def require() -> None:
    """Have the filters ready for the processes that this one forks, which spares each about 0.3 ms.

    Raises:
        OSError: the kernel has no seccomp filters, or the architecture is not known here.
    """
    machine, bits = os.uname().machine, 8 * ctypes.sizeof(ctypes.c_void_p)
    if machine not in SYSTEM_CALLS or bits != 64:
        raise OSError(errno.ENOSYS, f"no list of system calls for {bits}-bit programs on {machine}")
    _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0)
    if ctypes.get_errno() != errno.EFAULT:  # it looked for a filter: there is none at address 0
        raise OSError(ctypes.get_errno(), "the kernel filters no system calls (seccomp)")
    for guard_files in (False, True):
        _packed(machine, guard_files)


def confine(pid: int, guard_files: bool = False) -> None:
    """Filter the calls of this thread and of all that it starts from now on, for good.

    No new privileges must have been forbidden before, and the process be the leader of its own session.

    Args:
        pid: the process that it is: the only one that may be sent signals.
        guard_files: refuse the changes to files that Landlock does not watch: for programs that run as the user, in
            sight of the user's files.

    Raises:
        OSError: as `require`, or the kernel refuses.
    """
    require()
    packed = _packed(os.uname().machine, guard_files).replace(struct.pack("=I", _ANY_PID), struct.pack("=I", pid))
    program = _Program(len(packed) // _INSTRUCTION.size, packed)
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_SECCOMP): {os.strerror(error)}")


@functools.cache
def _packed(machine: str, guard_files: bool) -> bytes:
    """The filter as the kernel takes it, with a number to replace by the process's own."""
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in assemble(machine, _ANY_PID, guard_files))


def assemble(machine: str, pid: int, guard_files: bool = False) -> list[Instruction]:
    """The filter for one architecture."""
    numbers = SYSTEM_CALLS[machine] | SINCE_2019

    def known(names: str) -> list[int]:
        return [numbers[name] for name in names.split() if name in numbers]

    denied = " ".join((*DENIED.values(), UNGUARDED if guard_files else ""))
    absent = f"{_ABSENT} openat2" if guard_files else _ABSENT
    return [
        (_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _AUDIT_ARCH[machine]), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER), (_GREATER, 0, 1, NEWEST), (_RETURN, 0, 0, _ENOSYS),  # x32's are from 0x40000000 on
        *_when_one_of(known(_HOT), _ALLOW),
        *_when_one_of(known(denied), _EPERM),
        *_when_one_of(known(absent), _ENOSYS),
        *(instruction for name, condition in _conditions(pid, guard_files).items() if name in numbers
          for instruction in _when_called(numbers[name], condition)),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _conditions(pid: int, guard_files: bool) -> dict[str, _Condition]:
    """Calls whose arguments decide."""
    conditions = {
        "fcntl": _Condition(1, _FCNTLS),
        "ioctl": _Condition(1, _TERMINAL_AND_PIPE_IOCTLS),
        "clone": _Condition(0, [0], mask=_CLONE_NEW | _CLONE_PARENT),
        "kill": _Condition(0, [pid, 0]),  # 0: the process group, which is the program's own
        "tgkill": _Condition(0, [pid]),
        "prlimit64": _Condition(0, [pid, 0]),
        "prctl": _Condition(0, _PRCTLS_DENIED, allowed=False),
        # A datagram pair can be turned to any socket of the machine: sendto and connect take a new address.
        "socketpair": _Condition(1, [socket.SOCK_STREAM], mask=0xF),
    }
    if guard_files:  # read-only, yet emptied: Landlock takes it for reading before Linux 6.2
        for name, argument in (("open", 1), ("openat", 2)):
            conditions[name] = _Condition(argument, [_O_TRUNC], allowed=False, mask=_O_TRUNC | _O_ACCMODE)
    return conditions


def _when_called(number: int, condition: _Condition) -> list[Instruction]:
    match, otherwise = (_ALLOW, _EPERM) if condition.allowed else (_EPERM, _ALLOW)
    body = [
        (_LOAD, 0, 0, _ARGUMENTS + 8 * condition.argument), (_AND, 0, 0, condition.mask),
        *_when_one_of(list(condition.values), match), (_RETURN, 0, 0, otherwise),
    ]
    return [(_EQUAL, 0, len(body), number), *body]


def _when_one_of(values: list[int], action: int) -> list[Instruction]:
    """Return `action` if the loaded word is one of the values, else go on after these; jumps reach 255 instructions."""
    last = len(values) - 1
    tests = [(_EQUAL, last - at, int(at == last), value) for at, value in enumerate(values)]
    return [*tests, (_RETURN, 0, 0, action)]
