"""The installed program in a real terminal, with the real engine on the tiny model."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.contract.record import ACTIVE
from core.contract.runs import list_runs

SOFTTUNE = Path(sys.executable).with_name("softtune")
BRAILLE = re.compile("[\u2801-\u28ff]")
pytestmark = pytest.mark.terminal


class Terminal:
    """A tmux server of its own with one 120×40 window."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "tmux")
        # Not the user's own config and cache folders; and no COLUMNS, which readline, that pytest loads, sets to 80.
        places = {f"XDG_{name.upper()}_HOME": str(folder / name) for name in ("config", "cache")}
        sizes = ("COLUMNS", "LINES")
        self.environ = {**{name: value for name, value in os.environ.items() if name not in sizes}, **places}
        self("new-session", "-d", "-x", "120", "-y", "40", "-c", str(folder), "sh")
        self("resize-window", "-x", "120", "-y", "40")

    def __call__(self, *command: str) -> str:
        argv = ["tmux", "-S", self.socket, *command]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20, env=self.environ)
        return done.stdout

    def type(self, *keys: str) -> None:
        self("send-keys", *keys)

    def screen(self) -> str:
        return self("capture-pane", "-p")

    def kill_app(self) -> None:
        """SIGKILL what runs in the shell, which leaves the terminal in disorder; then a new shell in its place."""
        shell = self("display-message", "-p", "#{pane_pid}").strip()
        (app,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        os.kill(int(app), signal.SIGKILL)
        self("respawn-pane", "-k")

    def wait_for(self, what: str | Callable[[str], bool], seconds: float = 40) -> str:
        """The screen as soon as it shows `what`; fails with the screen when it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            screen = self.screen()
            if what in screen if isinstance(what, str) else what(screen):
                return screen
            time.sleep(0.2)
        pytest.fail(f"never saw {what!r}:\n{self.screen()}")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    window = Terminal(tmp_path)
    yield window
    window("kill-server")
    for run in list_runs(tmp_path / "runs"):  # an engine outlives its window, and must not outlive its test
        if run.state in ACTIVE and run.record and run.record.pid:
            os.kill(run.record.pid, signal.SIGKILL)


def engine_state(folder: Path) -> str:
    (run,) = (path for path in (folder / "runs").iterdir() if path.is_dir())
    return str(json.loads((run / "run.json").read_text())["state"])


def wait_for_state(folder: Path, state: str) -> None:
    end = time.monotonic() + 30
    while engine_state(folder) != state and time.monotonic() < end:
        time.sleep(0.2)
    assert engine_state(folder) == state


def shows_the_run(screen: str) -> bool:
    """By its plots; the header has no room for a run's name beside a time that is hours away."""
    return "training" in screen and bool(BRAILLE.search(screen))


def test_train_leave_come_back_and_stop(terminal: Terminal, tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt_tuning.yml").write_text(
        f"model: {{name: {tiny_model_folder}}}\nhardware: {{device: cpu}}\n"
        "dataset: {max_samples: 20, max_length: 2048}\n"
        "training: {num_epochs: 100000, warmup_steps: 0}\nevaluation: {early_stopping_patience: null}\n"
    )
    terminal.type(f"{SOFTTUNE}", "Enter")
    terminal.wait_for("starts training")
    terminal.type("s")
    first = terminal.wait_for(shows_the_run)
    terminal.wait_for(lambda screen: BRAILLE.findall(screen) != BRAILLE.findall(first))  # the plot moves
    terminal.type("Space")
    terminal.wait_for("paused")
    wait_for_state(tmp_path, "paused")
    terminal.type("Space")
    wait_for_state(tmp_path, "running")
    terminal.type("q")
    terminal.wait_for("goes on")
    assert engine_state(tmp_path) == "running"
    terminal.type("clear", "Enter", f"{SOFTTUNE}", "Enter")
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    terminal.wait_for(shows_the_run)
    terminal.kill_app()
    assert engine_state(tmp_path) == "running"
    terminal.type(f"{SOFTTUNE}", "Enter")
    terminal.wait_for(shows_the_run)
    terminal.type("x")
    terminal.wait_for(lambda screen: "checkpoint" in screen and "top" in screen)
    terminal.type("y")
    terminal.wait_for("stopped")
    wait_for_state(tmp_path, "stopped")
    assert (run / "checkpoints" / "last.pt").exists()
    terminal.type("q")


@pytest.mark.slow
def test_a_session_from_the_config_to_the_failures(terminal: Terminal, tiny_model_folder: Path, tmp_path: Path) -> None:
    """Keys alone, in the order in which a user takes them: edit, write, start, watch, step through, compare, look."""
    settings = tmp_path / "prompt_tuning.yml"
    settings.write_text(
        f"# mine\nmodel: {{name: {tiny_model_folder}}}\nhardware: {{device: cpu}}\n"
        "dataset: {max_samples: 12, max_length: 2048}\n"
        "training:\n  num_epochs: 9  # too many\n  warmup_steps: 0\ninference: {max_new_tokens: 12}\n"
    )
    terminal.type(f"{SOFTTUNE}", "Enter")
    terminal.wait_for("starts training")
    terminal.type("4")
    terminal.wait_for("num_epochs")
    terminal.type("/", "num_epochs", "Enter")
    terminal.wait_for("passes over the training problems")
    terminal.type("Enter")
    terminal.type("BSpace")
    terminal.type("2", "Enter")
    terminal.wait_for("+   num_epochs: 2")
    terminal.type("w")
    terminal.wait_for("as saved")
    assert "  num_epochs: 2  # too many\n" in settings.read_text()
    terminal.type("s")
    terminal.wait_for("epoch 2/2")
    terminal.wait_for("✓ finished")
    terminal.type("3")
    terminal.wait_for("12 problems")
    terminal.type("n")
    failed = terminal.wait_for("▸✗")
    terminal.type("n")
    terminal.wait_for(lambda screen: "▸✗" in screen and screen != failed)
    terminal.type("d")
    terminal.wait_for("canonical solution")
    terminal.type("r")  # the sandbox, through the real workbench
    terminal.wait_for("rerun")
    terminal.type("2")
    terminal.wait_for("epoch_0002")
    terminal.type("E")  # scores last.pt, which training left unscored
    terminal.wait_for("minutes")
    terminal.type("y")
    terminal.wait_for(lambda screen: screen.count("0.000      0.000") == 2)
    terminal.type("Space", "j", "Space", "c")
    terminal.wait_for("the same problems pass")
    terminal.type("5")
    terminal.wait_for("base model")
    terminal.type("e", "def double(x):", "Enter")
    terminal.wait_for("def double(x):")
    terminal.type("F5")  # both panes stream from the tiny model
    terminal.wait_for(lambda screen: screen.count("tokens/s") == 2)
    terminal.type("Escape")
    time.sleep(0.5)  # one after the other: ESC and q at once are alt+q
    terminal.type("q")
    terminal.wait_for(lambda screen: "Playground" not in screen)
