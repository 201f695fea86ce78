"""The installed program in a real terminal: tmux, the fake engine, and a terminal that goes away or stalls."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.contract.config import Config
from core.contract.control import Command, send
from core.contract.liveness import process_start
from core.contract.runs import RunFolder, create_run
from tests.tui.fake_run import __file__ as fake_engine

pytestmark = [
    pytest.mark.terminal, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

SOFTTUNE = Path(sys.executable).with_name("softtune")


class Terminal:
    """A tmux server of its own with one window of 120 × 40."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "COLORTERM": "truecolor"}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", "-c", str(folder), "sh",
                  env=environment)

    def tmux(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run tmux and give its output."""
        command = ["tmux", "-S", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout

    def close(self) -> None:
        """End the server, if it is still there."""
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True)

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self.tmux("send-keys", *keys)

    def screen(self) -> str:
        """What is on the screen."""
        return self.tmux("capture-pane", "-p")

    def wait(self, true: Callable[[str], bool], seconds: float = 20.0) -> str:
        """Wait until the screen is as it should be."""
        deadline = time.monotonic() + seconds
        while not true(shown := self.screen()):
            assert time.monotonic() < deadline, shown
            time.sleep(0.1)
        return shown


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    """A run that a fake engine is working on."""
    folder = create_run(Config(), "demo", tmp_path / "runs")
    process = subprocess.Popen([sys.executable, fake_engine, str(folder.root), "--pace", "0.1", "--count", "12",
                                "--steps", "2000"], start_new_session=True)
    yield folder
    send(Path(folder.control_file), Command.STOP)
    process.wait(10)


STALL_SECONDS = float(os.environ.get("SOFTTUNE_STALL_SECONDS", "3"))
"""How long a terminal takes no output: SSH over a line that is down for a while."""


class Line:
    """A pseudo-terminal of 120 × 40 with the app in it, and its other end, which may stop to read or go away."""

    def __init__(self, folder: Path) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.modes = termios.tcgetattr(slave)
        environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        self.app = subprocess.Popen(
            [SOFTTUNE], stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.slave = slave
        self.shown = b""
        self._reads = threading.Event()
        self._reads.set()
        self._over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while not self._over:
            if not self._reads.wait(0.1) or not select.select([self.master], [], [], 0.1)[0]:
                continue
            try:
                self.shown += os.read(self.master, 65_536)
            except OSError:
                return

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Read nothing while the block runs."""
        self._reads.clear()
        time.sleep(0.2)  # for what it reads just now
        try:
            yield
        finally:
            self._reads.set()

    @property
    def untaken(self) -> int:
        """Bytes that the app has written and nobody has read."""
        count: int = struct.unpack("i", fcntl.ioctl(self.master, termios.FIONREAD, bytes(4)))[0]
        return count

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def shows(self, text: str, seconds: float) -> bool:
        """Whether the app writes something within so many seconds."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.shown and time.monotonic() < deadline:
            time.sleep(0.05)
        return text.encode() in self.shown

    def wait(self, text: str, seconds: float = 60.0) -> None:
        """Wait until the app has written something; what was written until then is forgotten."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.shown:
            assert time.monotonic() < deadline, self.shown[-2000:]
            time.sleep(0.05)
        self.shown = b""

    def hang_up(self) -> None:
        """The terminal goes away."""
        self._over = True
        self._reader.join()
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = -1

    def close(self) -> None:
        """End all that is left."""
        self.app.kill()
        self.app.wait()
        if self.master >= 0:
            self.hang_up()


@pytest.fixture
def line(tmp_path: Path, run: RunFolder) -> Iterator[Line]:
    """The app on a line, following a run that a fake engine works on."""
    made = Line(tmp_path)
    try:
        made.wait("tokens/s")
        yield made
    finally:
        made.close()


def lines_of(run: RunFolder) -> int:
    """How many events the engine has written."""
    return Path(run.events_file).read_bytes().count(b"\n")


def goes_on(run: RunFolder) -> bool:
    """Whether the engine is at work: the same process, still writing."""
    record, before = run.read_record(), lines_of(run)
    deadline = time.monotonic() + 10
    while lines_of(run) <= before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return record.state == "running" and record.pid is not None and process_start(record.pid) == record.pid_started


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_ends_the_app_and_gives_the_terminal_back(line: Line, run: RunFolder, number: signal.Signals) -> None:
    assert termios.tcgetattr(line.slave) != line.modes
    line.app.send_signal(number)
    assert line.app.wait(20) == 128 + number
    assert termios.tcgetattr(line.slave) == line.modes
    line.wait("\x1b[?1049l")  # the screen from before
    assert goes_on(run)


def test_a_terminal_that_is_closed_ends_the_app_alone(line: Line, run: RunFolder) -> None:
    line.hang_up()
    line.app.wait(20)
    assert goes_on(run)


@pytest.mark.slow
def test_a_stalled_line_holds_up_neither_the_engine_nor_a_key(line: Line, run: RunFolder) -> None:
    before = lines_of(run)
    with line.stalled():
        until = time.monotonic() + STALL_SECONDS
        fill(line)
        time.sleep(max(0.0, until - time.monotonic()))
        assert lines_of(run) > before + 5 * STALL_SECONDS  # it writes ten steps a second
        assert blocked(line.app.pid)
        line.type("3")  # it is answered later
    line.type("1")
    answered = False
    for _ in range(10):  # a screen that is still on its way takes no ?, or shows another's help
        line.type("?")
        answered = line.shows("go to the end of the log", 5)  # the help of the Train screen
        line.type("\x1b")
        time.sleep(0.5)  # else the next key might still be one of the help's
        if answered:
            break
    assert answered, line.shown[-2000:]
    line.type("q")
    line.wait(f"run {run.run_id} goes on; `softtune` attaches to it again")
    assert line.app.wait(20) == 0 and goes_on(run)


@pytest.mark.slow
def test_a_signal_ends_an_app_on_a_stalled_line(line: Line, run: RunFolder) -> None:
    with line.stalled():
        fill(line)
        line.app.send_signal(signal.SIGTERM)
        assert line.app.wait(20) == 128 + signal.SIGTERM
        assert termios.tcgetattr(line.slave) == line.modes  # all that can be given back to one that takes no output
    assert goes_on(run)


def fill(line: Line) -> None:
    """Have the app write whole screens until the line takes no more.

    Each is asked for when the one before is on its way: keys that come faster than the app switches its screens keep it
    from painting any, and hundreds of them would have to be answered afterwards.
    """
    deadline = time.monotonic() + 120
    for key in itertools.cycle("4321"):
        before = line.untaken
        line.type(key)
        while line.untaken == before and not blocked(line.app.pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if blocked(line.app.pid):
            return


def blocked(pid: int) -> bool:
    """Whether a thread of a process waits for its terminal to take what it writes."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            if task.joinpath("wchan").read_text() in ("wait_woken", "n_tty_write"):
                return True
    return False


def curve(shown: str) -> str:
    """The part of the screen that the loss plot takes."""
    return "\n".join(line[:60] for line in shown.splitlines()[1:14])


def test_a_session(terminal: Terminal, run: RunFolder) -> None:
    terminal.type(f"{SOFTTUNE}; echo closed", "Enter")
    name = run.run_id[11:]  # the header leaves the date out where a number needs its place
    first = terminal.wait(
        lambda shown: all(part in shown for part in ("● training", "⠑", name, "held-out")))
    terminal.wait(lambda shown: curve(shown) != curve(first) and "● training" in shown)
    terminal.type("3")
    terminal.wait(lambda shown: "12 problems" in shown and "HumanEval/0" in shown)
    terminal.type("?")
    terminal.wait(lambda shown: "go to the next failed problem" in shown)
    terminal.type("?")
    terminal.type("T")
    terminal.wait(lambda shown: "softtune-light" in shown)
    terminal.type("Escape")
    terminal.wait(lambda shown: "softtune-light" not in shown)
    terminal.type("1")
    terminal.wait(lambda shown: "now" in shown and "tokens/s" in shown)
    terminal.type("Space")
    terminal.wait(lambda shown: "‖ paused" in shown)
    terminal.type("q")
    terminal.wait(lambda shown: "closed" in shown and f"run {run.run_id} goes on" in shown)
    terminal.type("clear", "Enter")
    terminal.type(str(SOFTTUNE), "Enter")
    terminal.wait(lambda shown: "‖ paused" in shown and name in shown)
    terminal.type("Space")
    terminal.wait(lambda shown: "● training" in shown)
    terminal.type("x")
    terminal.wait(lambda shown: "Stop this run?" in shown)
    terminal.type("y")
    terminal.wait(lambda shown: "■ stopped" in shown)
    terminal.type("q")


def test_the_engine_outlives_its_terminal(terminal: Terminal, run: RunFolder) -> None:
    terminal.type(str(SOFTTUNE), "Enter")
    terminal.wait(lambda shown: "● training" in shown)
    terminal.close()  # hangs up on all that runs in it
    time.sleep(0.5)
    record = run.read_record()
    assert record.state == "running" and record.pid is not None and process_start(record.pid) == record.pid_started


def test_without_a_terminal_the_engine_s_command_line_answers(tmp_path: Path) -> None:
    done = subprocess.run([str(SOFTTUNE), "--no-such-option"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0 and "\x1b[?1049h" not in done.stdout
