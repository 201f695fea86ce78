"""The installed program in a real terminal: tmux, the fake engine, and a terminal that goes away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def curve(shown: str) -> str:
    """The part of the screen that the loss plot takes."""
    return "\n".join(line[:60] for line in shown.splitlines()[1:14])


def test_a_session(terminal: Terminal, run: RunFolder) -> None:
    terminal.type(f"{SOFTTUNE}; echo closed", "Enter")
    first = terminal.wait(lambda shown: "● training" in shown and "⠑" in shown)
    assert run.run_id in first and "held-out" in first
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
    terminal.wait(lambda shown: "‖ paused" in shown and run.run_id in shown)
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
