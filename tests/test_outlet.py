"""Output that nobody takes: the work goes on, and nothing that counts is lost."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import termios
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import MofNCompleteColumn

from core import console
from core.bars import PatientBars
from core.console import position, reporter
from core.contract.events import Event, Notice, Progress, RunFailed, parse_event
from core.contract.wording import describe
from core.outlet import Outlet, outlets
from tests.headless import (
    events_text,
    finished_without_a_reader,
    forked,
    run_folder,
    settings,
    state,
    wait_until,
    without_a_reader,
)

BLOCKED_SECONDS = 3.0
"""A minute in earnest; that nobody reads until the run has finished is what counts."""


class Pipe:
    """A pipe of one page, and an outlet into it."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        self.out = open(writing, "w", encoding="utf-8")  # noqa: SIM115 - closed by close
        self.outlet = Outlet(self.out)

    def read_all(self) -> str:
        """Everything until the outlet and the stream are closed."""
        self.outlet.close()
        self.out.close()
        with open(self.reading, encoding="utf-8") as pipe:
            return pipe.read()


def test_a_writer_never_waits_and_the_order_stays() -> None:
    pipe = Pipe()
    lines = [f"line {number}: ☃" for number in range(5000)]
    for line in lines:
        print(line, file=pipe.outlet)
    assert pipe.outlet.waiting > 50_000
    assert not pipe.outlet.wait(0.01)
    assert pipe.read_all().splitlines() == lines


def test_waiting_ends_when_the_reader_has_taken_everything() -> None:
    pipe = Pipe()
    print("x" * 100_000, file=pipe.outlet)
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.extend(iter(lambda: os.read(pipe.reading, 1000), b"")))
    reader.start()
    assert pipe.outlet.wait() and pipe.outlet.waiting == 0
    pipe.outlet.close()
    pipe.out.close()
    reader.join()
    os.close(pipe.reading)
    assert b"".join(taken) == b"x" * 100_000 + b"\n"


def test_a_reader_that_is_gone_is_told_at_the_next_write() -> None:
    pipe = Pipe()
    os.close(pipe.reading)
    print("nobody reads this", file=pipe.outlet)
    with pytest.raises(BrokenPipeError):
        pipe.outlet.wait()
    with pytest.raises(BrokenPipeError):
        print("nor this", file=pipe.outlet)
    pipe.outlet.close()
    pipe.out.close()


def test_two_streams_to_one_place_keep_their_order(tmp_path: Path) -> None:
    with open(tmp_path / "both", "w") as file, outlets(file, file) as (out, err):
        for number in range(100):
            print(number, file=(out, err)[number % 2])
    assert (tmp_path / "both").read_text().split() == [str(number) for number in range(100)]


def test_an_outlet_is_to_rich_what_its_stream_is() -> None:
    master, slave = pty.openpty()
    with open(slave, "w", encoding="latin-1") as terminal, open(os.devnull, "w") as nowhere:
        with outlets(terminal, nowhere) as (out, err):
            assert (out.isatty(), err.isatty(), out.encoding) == (True, False, "latin-1")
            assert os.ttyname(out.fileno()) == os.ttyname(slave)
        os.read(master, 0)
    os.close(master)


def test_a_descriptor_that_does_not_block_is_waited_for() -> None:
    pipe = Pipe()
    os.set_blocking(pipe.outlet.fileno(), False)
    print("y" * 50_000, file=pipe.outlet)
    assert pipe.read_all() == "y" * 50_000 + "\n"


def test_progress_is_left_out_while_too_much_waits_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PATIENCE_BYTES", 10_000)
    monkeypatch.setattr(console, "PLAIN_PROGRESS_SECONDS", 0.0)
    pipe = Pipe()
    notices = [Notice(what=f"notice {number}", remedy="none") for number in range(3)]
    with reporter(pipe.outlet, pipe.outlet, as_json=False) as show:
        show(Progress(stage="completing", done=1, total=9, unit="problems"))
        print("z" * 20_000, file=pipe.outlet)
        for done in (2, 3, 4):
            show(Progress(stage="completing", done=done, total=9, unit="problems"))
            show(notices[done - 2])
        taken = os.read(pipe.reading, 4096)
        while pipe.outlet.waiting > 4096:
            taken += os.read(pipe.reading, 4096)
        show(Progress(stage="completing", done=5, total=9, unit="problems"))
    lines = (taken.decode() + pipe.read_all()).splitlines()
    assert [line for line in lines if line.startswith("  ") and "→" not in line] == [
        "  completing 1/9", "  … 3 lines of progress were left out while nobody took them", "  completing 5/9",
    ]
    assert [line for line in lines if "notice" in line] == [describe(notice)[0] for notice in notices]


def test_no_bar_is_drawn_anew_before_the_terminal_has_the_last_one() -> None:
    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)
    with open(slave, "w", encoding="utf-8") as terminal, outlets(terminal, terminal) as (out, _):
        with PatientBars(MofNCompleteColumn(), console=Console(file=out), waiting=lambda: out.waiting) as bars:
            task = bars.add_task("", total=2000)
            for _ in range(2000):
                bars.update(task, advance=1, refresh=True)
            assert 0 < out.waiting < 2000
            termios.tcflow(slave, termios.TCOON)
        assert out.wait(10)
    drawn = re.findall(r"\d+/2000", shown_on(master))
    assert drawn[-1] == "2000/2000" and len(drawn) < 20


# Whole runs


def test_a_run_whose_json_nobody_reads_finishes_and_loses_no_line(tiny_model_folder: Path, tmp_path: Path) -> None:
    options = settings(tiny_model_folder, training__num_epochs=8)
    status, output = finished_without_a_reader(["train", "--json", *options], tmp_path, BLOCKED_SECONDS)
    assert status == 0
    assert output == events_text(tmp_path) and len(output) > 3 * 4096


@pytest.mark.slow
def test_a_run_whose_lines_nobody_reads_finishes_and_tells_the_whole_story(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    options = settings(tiny_model_folder, training__num_epochs=20, evaluation__early_stopping_patience="null")
    status, output = finished_without_a_reader(["train", *options], tmp_path, BLOCKED_SECONDS)
    assert status == 0 and len(output) > 4096
    story = [line for event in events(tmp_path) if not (position(event) or isinstance(event, Notice | RunFailed))
             for line in describe(event)]
    shown = output.splitlines()
    assert [line for line in shown if line in story] == story


def events(folder: Path) -> list[Event]:
    return [event for line in events_text(folder).splitlines() if isinstance(event := parse_event(line), Event)]


class StalledTerminal:
    """A terminal on which ctrl+s was pressed, and a headless run in it."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcflow(self.slave, termios.TCOOFF)
        for name in ("stdout", "stderr"):
            (folder / name).symlink_to(os.ttyname(self.slave))
        self.process = forked(arguments, folder, leads=True)

    def __enter__(self) -> "StalledTerminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()

    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self.process.exitcode

    def ended(self, seconds: float) -> int | None:
        """The exit status, waiting so long for it at most."""
        self.process.join(seconds)
        return self.process.exitcode

    def go_on(self) -> str:
        """Let it flow; everything that is shown until the run ends."""
        termios.tcflow(self.slave, termios.TCOON)
        os.close(self.slave)
        return shown_on(self.master)


def shown_on(master: int) -> str:
    """What is written to a terminal until nobody has it open any more; closes it."""
    shown = b""
    with contextlib.suppress(OSError):  # EIO is its end
        while data := os.read(master, 65_536):
            shown += data
    os.close(master)
    return shown.decode()


@pytest.mark.slow
def test_a_run_in_a_stalled_terminal_finishes_and_then_shows_its_story(tiny_model_folder: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    options = settings(tiny_model_folder, training__num_epochs=20, evaluation__early_stopping_patience="null")
    with StalledTerminal(["train", *options], tmp_path) as terminal:
        wait_until(lambda: state(tmp_path) == "finished", terminal.status)
        time.sleep(max(0.0, begun + BLOCKED_SECONDS - time.monotonic()))
        assert terminal.status() is None, "it did not wait for its terminal"
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.go_on())
        assert terminal.ended(30) == 0
    assert [int(number) for number in re.findall(r"epoch (\d+)/20 done", shown)] == [*range(1, 21)]
    assert shown.index("epoch 20/20 done") < shown.index("finished in") < shown.rindex("held-out")


def test_a_stop_does_not_wait_for_a_stalled_terminal(tiny_model_folder: Path, tmp_path: Path) -> None:
    options = settings(tiny_model_folder, training__num_epochs=100_000, evaluation__early_stopping_patience="null")
    with StalledTerminal(["train", *options], tmp_path) as terminal:
        wait_until(lambda: "StepCompleted" in events_text(tmp_path), terminal.status)
        os.kill(terminal.process.pid or 0, signal.SIGTERM)
        assert terminal.ended(10) == 130
        os.close(terminal.slave)
        os.close(terminal.master)
    assert state(tmp_path) == "stopped" and (run_folder(tmp_path) / "checkpoints" / "last.pt").exists()


def test_a_terminal_that_closes_stops_the_run_with_a_checkpoint(tiny_model_folder: Path, tmp_path: Path) -> None:
    options = settings(tiny_model_folder, training__num_epochs=100_000, evaluation__early_stopping_patience="null")
    with StalledTerminal(["train", *options], tmp_path) as terminal:
        termios.tcflow(terminal.slave, termios.TCOON)
        wait_until(lambda: "StepCompleted" in events_text(tmp_path), terminal.status)
        os.close(terminal.slave)
        os.close(terminal.master)  # the kernel sends SIGHUP, and whoever writes gets EIO
        assert terminal.ended(10) == 130
    assert state(tmp_path) == "stopped" and (run_folder(tmp_path) / "checkpoints" / "last.pt").exists()


def test_ctrl_c_ends_the_wait_for_a_reader(tiny_model_folder: Path, tmp_path: Path) -> None:
    options = settings(tiny_model_folder, training__num_epochs=8)
    with without_a_reader(["train", "--json", *options], tmp_path) as (process, _):
        wait_until(lambda: state(tmp_path) == "finished", lambda: process.exitcode)
        os.kill(process.pid or 0, signal.SIGINT)
        process.join(10)
        assert process.exitcode == 130
    assert state(tmp_path) == "finished"
