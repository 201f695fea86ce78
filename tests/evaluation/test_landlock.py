"""Landlock's rules, as the kernel of this machine applies them to a process of the test's own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from core.evaluation.server import landlock

BEGIN = f"""
import ctypes, errno, json, os, signal, socket, subprocess, sys
sys.path.insert(0, {str(Path(landlock.__file__).parent)!r})
import landlock
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
top, argument = sys.argv[1:]

def confine():
    readable = [sys.prefix, sys.base_prefix, "/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", top + "/library"]
    rules = landlock.Rules([*readable, top + "/missing", "/dev/null/missing"], [top + "/names"], ["/dev/null"])
    rules.confine(top + "/work")

def attempt(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

def write(path, text="x", mode="w"):
    with open(path, mode) as file:
        file.write(text)
"""

Child = Callable[..., object]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder to work in, one to read, and a file beside them."""
    top = tmp_path / "top"
    for name in ("work", "library", "names"):
        (top / name).mkdir(parents=True)
    (top / "names" / "solutions").write_text("secret")
    (top / "library" / "module").write_text("text")
    (top / "secret").write_text("secret")
    return top


@pytest.fixture
def child(top: Path) -> Child:
    """Runs Python that may confine itself; what it printed as JSON."""
    if landlock.abi() == 0:
        pytest.skip("this kernel has no Landlock")

    def run(script: str, argument: object = "") -> object:
        command = [sys.executable, "-I", "-c", BEGIN + textwrap.dedent(script), str(top), str(argument)]
        done = subprocess.run(command, cwd=top / "work", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_what_is_not_named_cannot_be_opened(child: Child, top: Path) -> None:
    answers = child("""
        confine()
        os.symlink(top + "/secret", "link")
        print(json.dumps([attempt(action) for action in (
            lambda: open("/etc/passwd"), lambda: os.listdir(argument), lambda: os.listdir("/"), lambda: open("link"),
            lambda: os.listdir(top), lambda: open("/dev/zero"), lambda: write(top + "/secret"),
            lambda: write(top + "/new"), lambda: os.mkdir(top + "/new"), lambda: os.unlink(top + "/secret"),
            lambda: os.rmdir(top + "/library"), lambda: os.symlink("x", top + "/new"), lambda: os.mkfifo(top + "/new"),
            lambda: write("/proc/self/oom_score_adj", "0"),
        )]))
    """, Path.home())
    assert answers == ["EACCES"] * 14
    assert sorted(path.name for path in top.iterdir()) == ["library", "names", "secret", "work"]
    assert (top / "secret").read_text() == "secret"


def test_files_do_not_cross_the_border(child: Child, top: Path) -> None:
    answers = child("""
        write("mine")
        confine()
        print(json.dumps([attempt(action) for action in (
            lambda: os.link(top + "/secret", "linked"), lambda: os.rename(top + "/secret", "moved"),
            lambda: os.link(top + "/library/module", "linked"), lambda: os.rename("mine", top + "/mine"),
        )]))
    """)
    assert set(answers) <= {"EACCES", "EXDEV"}  # type: ignore[call-overload]
    assert [path.name for path in (top / "work").iterdir()] == ["mine"]


def test_the_working_folder_is_the_programs_own(child: Child, top: Path) -> None:
    child("""
        confine()
        os.makedirs("a/b/c")
        for name in ("a/b/c/first", "second"):
            write(name, "long text")
        write("second", "", "w")
        os.truncate("a/b/c/first", 4)
        os.rename("a/b/c/first", "a/b/c/renamed")
        if landlock.abi() >= 2:
            os.rename("a/b/c/renamed", "moved")
        os.symlink("moved", "link")
        os.link("second", "linked")
        os.unlink("second")
        os.rmdir("a/b/c") if landlock.abi() >= 2 else None
        os.chdir("a")
        write("/dev/null")
        print(json.dumps(subprocess.run(["/bin/sh", "-c", "echo x > y && cat y"], capture_output=True).returncode))
    """)
    assert (top / "work" / "a" / "y").read_text() == "x\n"
    if landlock.abi() >= 2:
        assert (top / "work" / "link").read_text() == "long"


def test_libraries_are_read_only(child: Child, top: Path) -> None:
    answers = child("""
        confine()
        import sqlite3, wave  # not imported so far: read from where Python is
        module = top + "/library/module"
        assert os.listdir(top + "/library") == ["module"] and open(module).read() == "text"
        print(json.dumps([attempt(action) for action in (
            lambda: write(module), lambda: write(module, mode="a"), lambda: os.unlink(module),
            lambda: os.rename(module, module + "2"), lambda: write(module + "2"),
        )]))
    """)
    assert answers == ["EACCES"] * 5
    assert (top / "library" / "module").read_text() == "text"


def test_each_version_adds_what_it_should(child: Child) -> None:
    """As an older kernel: moves between folders from 2, no truncated library from 3, no ioctl on devices from 5."""
    answers = child("""
        import fcntl
        os.mkdir("folder")
        answers, newest = {}, landlock.abi()
        for version in range(1, newest + 1):
            write(top + "/library/module")
            write(f"file{version}")
            end, other = os.pipe()
            if os.fork() == 0:
                landlock.abi = lambda: version
                confine()
                print(json.dumps([
                    attempt(lambda: open("/etc/passwd")),
                    attempt(lambda: os.rename(f"file{version}", f"folder/file{version}")),
                    attempt(lambda: os.truncate(top + "/library/module", 0)),
                    attempt(lambda: fcntl.ioctl(open("/dev/null"), 0x5401)),
                ]), file=open(other, "w"), flush=True)
                os._exit(0)
            os.close(other)
            answers[version] = json.load(open(end))
            os.wait()
        print(json.dumps(answers))
    """)
    assert answers == {
        str(version): ["EACCES", "allowed" if version >= 2 else "EXDEV", "EACCES" if version >= 3 else "allowed",
                       "EACCES" if version >= 5 else "ENOTTY"]
        for version in range(1, landlock.abi() + 1)
    }


def test_with_the_filter_of_calls_old_kernels_keep_libraries_whole(child: Child, top: Path) -> None:
    """Version 1 and `guard_files`: emptied neither by name nor through a file opened for reading."""
    answers = child("""
        import seccomp
        landlock.abi = lambda: 1
        confine()
        seccomp.confine(os.getpid(), guard_files=True)
        module = top + "/library/module"
        print(json.dumps([attempt(action) for action in (
            lambda: os.truncate(module, 0), lambda: os.open(module, os.O_RDONLY | os.O_TRUNC),
            lambda: write(module), lambda: write("new"),
        )]))
    """)
    assert answers == ["EPERM", "EPERM", "EACCES", "allowed"]
    assert (top / "library" / "module").read_text() == "text"


def test_no_connection_and_no_port(child: Child) -> None:
    if landlock.abi() < 4:
        pytest.skip("Landlock watches TCP from version 4 on")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers = child("""
            confine()
            print(json.dumps([
                attempt(lambda: socket.create_connection(("127.0.0.1", int(argument)), timeout=5)),
                attempt(lambda: socket.create_server(("127.0.0.1", 0))),
            ]))
        """, listener.getsockname()[1])
    assert answers == ["EACCES", "EACCES"]


def test_no_signal_and_no_abstract_socket_outside(child: Child) -> None:
    if landlock.abi() < 6:
        pytest.skip("Landlock confines signals from version 6 on")
    victim = subprocess.Popen(["sleep", "30"])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # the kernel chooses an abstract name
        listener.listen()
        name = listener.getsockname()
        try:
            answers = child("""
                confine()
                victim, name = json.loads(argument)
                sleeper = subprocess.Popen(["sleep", "30"])
                sleeper.terminate()
                sleeper.wait()
                print(json.dumps([
                    attempt(lambda: os.kill(victim, signal.SIGTERM)),
                    attempt(lambda: socket.socket(socket.AF_UNIX).connect(name.encode("latin-1"))),
                ]))
            """, json.dumps([victim.pid, name.decode("latin-1")]))
            assert answers == ["EPERM", "EPERM"]
            assert victim.poll() is None
        finally:
            victim.kill()
            victim.wait()


def test_a_kernel_without_it_is_an_error(child: Child) -> None:
    """By a call that no kernel has."""
    answer = child("""
        landlock._SYS_CREATE_RULESET = 5000
        print(json.dumps([landlock.abi(), attempt(confine)]))
    """)
    assert answer == [0, "ENOSYS"]


def test_of_some_folders_only_names_are_seen(child: Child) -> None:
    assert child("""
confine()
print(json.dumps([os.listdir(top + "/names"), attempt(lambda: open(top + "/names/solutions"))]))
""") == [["solutions"], "EACCES"]
