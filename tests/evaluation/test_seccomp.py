"""The filter of system calls: as instructions, for each architecture, and as the kernel of this machine applies it."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.evaluation.server import seccomp

SERVER = Path(seccomp.__file__).parent
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
NOT_ON_ARM = {
    "open", "chmod", "chown", "lchown", "utime", "utimes", "futimesat", "inotify_init", "iopl", "ioperm", "modify_ldt",
    "uselib",
}
DENIED = " ".join(seccomp.DENIED.values()).split()
PID = 4321
SETXATTRAT = 463  # Linux 6.13: the first beyond the list
ALLOWED, KILLED = "allowed", "killed"
MACHINES = pytest.mark.parametrize("machine", seccomp.SYSTEM_CALLS)


def decide(machine: str, call: str | int, *arguments: int, guard_files: bool = False, architecture: int = 0) -> str:
    """Run the filter as the kernel would: ALLOWED, KILLED or the name of an error."""
    numbers = seccomp.SYSTEM_CALLS[machine] | seccomp.SINCE_2019
    words = {0: numbers[call] if isinstance(call, str) else call, 4: architecture or seccomp._AUDIT_ARCH[machine]}
    words |= {16 + 8 * place: value & 0xFFFFFFFF for place, value in enumerate((*arguments, 0, 0, 0)[:6])}
    program = seccomp.assemble(machine, PID, guard_files)
    at, word = 0, 0
    while True:
        code, if_true, if_false, constant = program[at]
        at += 1
        match code:
            case 0x20:
                word = words[constant]
            case 0x54:
                word &= constant
            case 0x15 | 0x25:
                at += if_true if (word == constant if code == 0x15 else word > constant) else if_false
            case 0x06:
                if constant >> 16 == 5:
                    return errno.errorcode[constant & 0xFFFF]
                return {0x7FFF0000: ALLOWED, 0x80000000: KILLED}[constant]
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


@MACHINES
def test_the_numbers_are_the_kernels(machine: str) -> None:
    header = next((path for path in map(Path, HEADERS[machine]) if path.exists()), None)
    if header is None:
        pytest.skip("the kernel's headers are not installed")
    pairs = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", header.read_text())
    theirs = {"newfstatat" if name == "fstatat" else name: int(number) for name, number in pairs}
    ours = seccomp.SYSTEM_CALLS[machine]
    assert ours == {name: theirs.get(name) for name in ours}
    since = {name: number for name, number in seccomp.SINCE_2019.items() if name in theirs}
    assert since == {name: theirs[name] for name in since}


@MACHINES
def test_each_name_has_a_number_and_each_number_a_rule(machine: str) -> None:
    names = {*DENIED, *seccomp.UNGUARDED.split(), *seccomp._HOT.split(), *seccomp._conditions(PID, True)}
    numbers = seccomp.SYSTEM_CALLS[machine].keys() | seccomp.SINCE_2019.keys()
    assert names - numbers == (NOT_ON_ARM if machine == "aarch64" else set())
    assert numbers - names == {"clone3", "openat2"}


@MACHINES
def test_denied_whatever_the_arguments(machine: str) -> None:
    names = [name for name in DENIED if machine == "x86_64" or name not in NOT_ON_ARM]
    assert {name: decide(machine, name, PID, 1, 1) for name in names} == dict.fromkeys(names, "EPERM")
    assert {decide(machine, name) for name in seccomp._HOT.split()} == {ALLOWED}


@MACHINES
def test_what_is_not_known_does_not_exist(machine: str) -> None:
    for number in (SETXATTRAT, 5000, 0x40000000, 0x40000000 + 62, 0xFFFFFFFF):
        assert decide(machine, number) == "ENOSYS"
    assert decide(machine, SETXATTRAT - 1) == ALLOWED
    assert decide(machine, "clone3") == "ENOSYS"
    assert decide(machine, "read", architecture=0x40000003) == KILLED  # i386's numbers mean other calls


CONDITIONS = [
    ("kill", (PID, 9), ALLOWED), ("kill", (0, 9), ALLOWED), ("kill", ((1 << 32) + PID, 9), ALLOWED),
    ("kill", (PID + 1, 9), "EPERM"), ("kill", (-1, 9), "EPERM"), ("kill", (-PID, 9), "EPERM"),
    ("tgkill", (PID, 1, 6), ALLOWED), ("tgkill", (0, PID, 6), "EPERM"), ("tgkill", (PID + 1, PID, 6), "EPERM"),
    ("prlimit64", (0,), ALLOWED), ("prlimit64", (PID,), ALLOWED), ("prlimit64", (PID + 1,), "EPERM"),
    ("clone", (0x003D0F00,), ALLOWED), ("clone", (signal.SIGCHLD,), ALLOWED),  # a thread, a fork
    *(("clone", (1 << bit,), "EPERM") for bit in (15, 17, *range(25, 31))),
    ("fcntl", (3, 8), "EPERM"), ("fcntl", (3, 10), "EPERM"), ("fcntl", (3, 15), "EPERM"), ("fcntl", (3, 1024), "EPERM"),
    ("fcntl", (3, 1030), ALLOWED), ("fcntl", (3, 6), ALLOWED),
    ("ioctl", (0, 0x5412), "EPERM"), ("ioctl", (0, 0x541C), "EPERM"), ("ioctl", (0, (1 << 32) + 0x5412), "EPERM"),
    ("ioctl", (0, 0x8901), "EPERM"), ("ioctl", (0, 0x5401), ALLOWED),
    ("prctl", (22, 2), "EPERM"), ("prctl", (1, 0), "EPERM"), ("prctl", (62,), "EPERM"), ("prctl", (15,), ALLOWED),
    ("socketpair", (1, 1), ALLOWED), ("socketpair", (1, 0x80801), ALLOWED),
    ("socketpair", (1, 2), "EPERM"), ("socketpair", (1, 0x80003), "EPERM"), ("socketpair", (1, 5), "EPERM"),
    ("read", (), ALLOWED),
]


@MACHINES
def test_arguments_decide(machine: str) -> None:
    assert [decide(machine, call, *arguments) for call, arguments, _ in CONDITIONS] == [c[2] for c in CONDITIONS]


@MACHINES
def test_files_are_guarded_where_asked(machine: str) -> None:
    names = [name for name in seccomp.UNGUARDED.split() if machine == "x86_64" or name not in NOT_ON_ARM]
    assert {decide(machine, name) for name in names} == {ALLOWED}
    assert {decide(machine, name, guard_files=True) for name in names} == {"EPERM"}
    assert decide(machine, "openat2", guard_files=True) == "ENOSYS"
    flags = {os.O_RDONLY: ALLOWED, os.O_RDONLY | os.O_TRUNC: "EPERM", os.O_WRONLY | os.O_TRUNC: ALLOWED}
    assert {flag: decide(machine, "openat", 0, 0, flag, guard_files=True) for flag in flags} == flags


def test_an_unknown_architecture_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp.os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    with pytest.raises(OSError, match="riscv64"):
        seccomp.require()


BEGIN = f"""
import ctypes, errno, json, os, signal, sys
sys.path.insert(0, {str(SERVER)!r})
import seccomp
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
os.setsid()

def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(value) for value in arguments))
    return "allowed" if result >= 0 else errno.errorcode[ctypes.get_errno()]

def attempt(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

victim = int(sys.argv[1])
seccomp.confine(os.getpid(), guard_files=sys.argv[2] == "guarded")
numbers = seccomp.SYSTEM_CALLS[os.uname().machine] | seccomp.SINCE_2019
"""


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the test's own that a confined one tries to end."""
    process = subprocess.Popen(["sleep", "30"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def child(tmp_path: Path):
    """Runs Python under the filter."""
    try:
        seccomp.require()
    except OSError as error:
        pytest.skip(str(error))

    def run(script: str, victim: int = 0, guarded: bool = False) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", BEGIN + textwrap.dedent(script), str(victim),
                   "guarded" if guarded else ""]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


def test_every_denied_call_is_refused_by_the_kernel(child) -> None:
    """With arguments of -1 none of them does anything, should the filter let it pass."""
    names = [name for name in DENIED if name in seccomp.SYSTEM_CALLS[os.uname().machine] | seccomp.SINCE_2019]
    done = child(f"print(json.dumps({{name: call(numbers[name], *[-1] * 6) for name in {names}}}))")
    assert json.loads(done.stdout) == dict.fromkeys(names, "EPERM"), done.stderr


def test_calls_newer_than_the_list_do_not_exist(child) -> None:
    done = child(f"print(call(numbers['clone3'], -1, -1), call({SETXATTRAT}, *[-1] * 6))")
    assert done.stdout.split() == ["ENOSYS"] * 2, done.stderr


def test_no_signal_reaches_another_process(child, victim: subprocess.Popen[bytes]) -> None:
    done = child("""
        import fcntl, subprocess
        end, other = os.pipe()
        print(json.dumps([
            attempt(lambda: os.kill(victim, signal.SIGTERM)),
            attempt(lambda: os.killpg(os.getpgid(victim), 0)),
            attempt(lambda: os.kill(-1, 0)),
            call(numbers["tgkill"], victim, victim, signal.SIGTERM),
            attempt(lambda: fcntl.fcntl(end, fcntl.F_SETOWN, victim)),
            attempt(lambda: fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGTERM)),
            call(numbers["prlimit64"], victim, 0, 0, 0),
        ]))
        script = f"import os; os.kill({victim}, 15)"
        print(subprocess.run([sys.executable, "-I", "-c", script], capture_output=True).returncode)
    """, victim.pid)
    refusals, of_a_grandchild = done.stdout.splitlines()
    assert json.loads(refusals) == ["EPERM"] * 7
    assert of_a_grandchild == "1"
    assert victim.poll() is None


def test_arguments_decide_in_the_kernel(child) -> None:
    """Flags that clone refuses together, so that nothing is made should the filter let them pass."""
    done = child("""
        import socket
        print(json.dumps([
            call(numbers["clone"], 0x10000000 | 0x200, 0, 0, 0, 0),  # CLONE_NEWUSER | CLONE_FS
            call(numbers["clone"], 0x8000 | 0x800, 0, 0, 0, 0),  # CLONE_PARENT | CLONE_SIGHAND
            attempt(lambda: socket.socket(socket.AF_UNIX)),
            attempt(lambda: socket.socketpair(type=socket.SOCK_DGRAM)),
            call(numbers["ioctl"], 0, 0x5412, 0), call(numbers["ioctl"], 0, 0x541C, 0),
            call(numbers["prctl"], 22, 2, 0, 0, 0),
        ]))
    """)
    assert json.loads(done.stdout) == ["EPERM"] * 7, done.stderr


def test_honest_programs_notice_nothing(child) -> None:
    done = child("""
        import asyncio, fcntl, multiprocessing, socket, subprocess, tempfile, threading, time

        async def talk():
            reader, writer = await asyncio.open_connection(sock=ours)
            writer.write(b"?")
            process = await asyncio.create_subprocess_exec("/bin/true")
            return await process.wait() == 0 and await reader.read(1) == theirs.recv(1)

        ours, theirs = socket.socketpair()
        theirs.send(b"?")
        assert asyncio.run(talk())
        caught = []
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda number, frame: caught.append(number))
        signal.raise_signal(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(0, signal.SIGUSR1)
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2))
        thread.start()
        thread.join()
        assert caught == [signal.SIGUSR1] * 3 + [signal.SIGUSR2], caught
        lock = multiprocessing.get_context("fork").Lock()
        process = multiprocessing.get_context("fork").Process(target=lock.acquire)
        process.start()
        process.join()
        assert process.exitcode == 0 and not lock.acquire(timeout=0.01)
        assert subprocess.run("echo $((6 * 7)) | cat", shell=True, capture_output=True).stdout == b"42\\n"
        with tempfile.TemporaryDirectory(dir=".") as folder, open(f"{folder}/file", "w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            os.chmod(file.name, 0o700)
            os.set_blocking(file.fileno(), True)
            file.isatty()
            os.rename(file.name, f"{folder}/other")
        time.sleep(0.001)
        os.urandom(4)
        print("done")
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_a_program_can_abort(child) -> None:
    assert child("os.abort()").returncode == -signal.SIGABRT


def test_files_of_the_user_are_guarded(child, tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("kept")
    before = file.stat()
    done = child("""
        print(json.dumps([attempt(action) for action in (
            lambda: os.chmod("precious", 0), lambda: os.chown("precious", 1, 1), lambda: os.utime("precious", (1, 1)),
            lambda: os.truncate("precious", 0), lambda: os.open("precious", os.O_RDONLY | os.O_TRUNC),
            lambda: os.setxattr("precious", "user.mark", b"1"),
            lambda: os.fchmod(os.open("precious", os.O_RDONLY), 0),
        )]), call(numbers["openat2"], -1, -1, -1, -1))
        open("new", "w").write("x")
        open("new", "w").write("y")
    """, guarded=True)
    refusals = json.dumps(["EPERM"] * 7)
    assert done.stdout.strip() == f"{refusals} ENOSYS", done.stderr
    after = file.stat()
    assert (file.read_text(), after.st_mode, after.st_uid, after.st_mtime) == (
        "kept", before.st_mode, before.st_uid, before.st_mtime)
    assert (tmp_path / "new").read_text() == "y"
