"""`make bench-ui`: how fast the app opens and answers, measured on the installed program in a terminal of its own.

Every time is taken from outside: bytes go into the pseudo-terminal and come out of it. A ratio is against a peer in
the same run: a minimal Textual app for the first frame, plain `json.loads` of every line for a long log.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.contract.config import Config  # noqa: E402 - a script: the project's root comes first
from core.contract.runs import RunFolder, create_run, list_runs  # noqa: E402
from tests.tui import fake_run  # noqa: E402
from tests.tui.fake_run import make_run, training  # noqa: E402

SOFTTUNE = [sys.executable, "-P", "-m", "tui"]
COLUMNS, LINES = 120, 40
PEER = """
from textual.app import App
from textual.widgets import Static
class Peer(App):
    def compose(self):
        yield Static("peer-is-up")
Peer().run()
"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    figure: str
    target: str
    met: bool | None
    against: str = ""


class Terminal:
    """A program in a pseudo-terminal of 120 × 40 cells."""

    def __init__(self, command: list[str], folder: Path, **environ: str) -> None:
        self.started = time.perf_counter()
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "XDG_CONFIG_HOME": str(folder / "config"), **environ},
        )
        os.close(slave)
        self._master = master
        self.seen = b""
        self.count = 0

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def until(self, words: str, seconds: float = 60.0, fresh: bool = False) -> float:
        """Seconds until the words have come out; `fresh`: from now on, not before."""
        begun = time.perf_counter()
        if fresh:
            self.seen = b""
        while words.encode() not in self.seen:
            if not self.read(seconds - (time.perf_counter() - begun)):
                raise SystemExit(f"bench-ui: never saw {words!r}; the end of the output: {self.seen[-500:]!r}")
        return time.perf_counter() - begun

    def read(self, seconds: float) -> bytes:
        """What comes out next; nothing when nothing does in time."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, seconds))
        if not ready:
            return b""
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the program has gone
            return b""
        self.seen += data
        self.count += len(data)
        return data

    def drain(self, seconds: float) -> int:
        """Bytes that come out in a span of time."""
        before, end = self.count, time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.read(left)
        return self.count - before

    def close(self) -> None:
        """End the program."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


@contextmanager
def running(command: list[str], folder: Path, **environ: str) -> Iterator[Terminal]:
    """A terminal that is closed again."""
    terminal = Terminal(command, folder, **environ)
    try:
        yield terminal
    finally:
        terminal.close()


def first_frame(folder: Path, rounds: int) -> tuple[Row, float]:
    """From process start to the first painted frame, against a minimal Textual app; and those seconds."""
    ours: list[float] = []
    peers: list[float] = []
    make_run(folder / "runs", count=164)
    for _ in range(rounds):
        with running(SOFTTUNE, folder) as terminal:
            terminal.until("perplexity")
            ours.append(time.perf_counter() - terminal.started)
        with running([sys.executable, "-c", PEER], folder) as terminal:
            terminal.until("peer-is-up")
            peers.append(time.perf_counter() - terminal.started)
    ratio = statistics.median(a / b for a, b in zip(ours, peers, strict=True))
    middle = statistics.median(ours)
    return Row("process start to first frame", f"{middle:.2f} s", "≤ 0.8 s", middle <= 0.8,
               f"{ratio:.2f} × a minimal Textual app"), middle


def long_run(folder: Path, steps: int, first: float) -> Row:
    """How much longer than `first` seconds, those of a short run, it takes until every step of a long run is shown."""
    run = make_run(folder / "runs", training("long", steps=steps, per_epoch=max(1, steps // 20)), count=164)
    begun = time.perf_counter()
    with open(RunFolder(run.root).events_file, "rb") as lines:
        for line in lines:
            json.loads(line)
    peer = time.perf_counter() - begun
    opened = []
    for _ in range(3):
        with running(SOFTTUNE, folder) as terminal:
            terminal.until(f"step {steps:,}/{steps:,}")
            opened.append(time.perf_counter() - terminal.started)
    whole = statistics.median(opened)
    more = max(0.0, whole - first)
    return Row(f"all of {steps:,} steps shown, after the first frame", f"{more:.2f} s", "≤ 1 s", more <= 1.0,
               f"{whole:.2f} s from process start; {more / peer:.2f} × json.loads of each line")


def under_load(folder: Path, keys: int, seconds: float) -> list[Row]:
    """Keys and bytes while the demo trains on every core: in a terminal of this machine, and over SSH."""
    try:
        with running([*SOFTTUNE, "--demo"], folder) as terminal:
            terminal.until("tokens/s", 180)
            here = key_waits(terminal, keys)
        with running(SOFTTUNE, folder, SSH_CONNECTION="1 2 3 4") as terminal:
            terminal.until("tokens/s", 60)
            far = key_waits(terminal, keys)
            volume = terminal.drain(seconds) / seconds / 1000
    finally:
        for run in list_runs(folder / "runs"):  # the engine outlives its app
            if run.record and run.record.pid:
                os.kill(run.record.pid, signal.SIGKILL)
    return [
        Row(f"key to repaint, p95 of {keys}, demo training on all cores", f"{p95(here):.0f} ms", "≤ 50 ms",
            p95(here) <= 50, f"median {statistics.median(here):.0f} ms"),
        Row("the same with SSH's 15 frames a second", f"{p95(far):.0f} ms", "", None,
            f"median {statistics.median(far):.0f} ms"),
        Row(f"output over SSH, {COLUMNS}×{LINES}, training", f"{volume:.1f} kB/s", "≤ 20 kB/s", volume <= 20.0),
    ]


def fast_steps(folder: Path, seconds: float) -> Row:
    """Bytes over SSH while a run of ten steps a second goes on, as on a GPU: told by an engine that only tells."""
    run = create_run(Config(), "fast", folder / "runs")
    engine = subprocess.Popen([sys.executable, fake_run.__file__, str(run.root), "--pace", "0.1", "--steps", "5000"])
    try:
        with running(SOFTTUNE, folder, SSH_CONNECTION="1 2 3 4") as terminal:
            terminal.until("tokens/s", 60)
            terminal.drain(3)
            volume = terminal.drain(seconds) / seconds / 1000
    finally:
        engine.kill()
        engine.wait()
    return Row("the same at ten steps a second", f"{volume:.1f} kB/s", "≤ 20 kB/s", volume <= 20.0)


def key_waits(terminal: Terminal, keys: int) -> list[float]:
    """Milliseconds from pressing a key to its effect on the screen."""
    terminal.drain(3)
    waits = []
    for _ in range(keys):
        terminal.type("L")
        waits.append(1000 * terminal.until("log scale", 10, fresh=True))
        terminal.drain(0.4)
        terminal.type("L")
        terminal.drain(0.4)
    return waits


def p95(values: list[float]) -> float:
    """The value that 95 % are not above."""
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def main() -> int:
    """Measure and print the table; the status is 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", action="store_true", help="fewer rounds, no training: what `make test` runs")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in ("first", "long", "load", "fast")]
        for folder in folders:
            folder.mkdir()
        row, first = first_frame(folders[0], 2 if options.short else 9)
        rows += [row, long_run(folders[1], 2_000 if options.short else 100_000, first)]
        if not options.short:
            rows += [*under_load(folders[2], 40, 30.0), fast_steps(folders[3], 30.0)]
    widths = [max(len(cells) for cells in column)
              for column in zip(*((r.what, r.figure, r.target) for r in rows), strict=True)]
    for row in rows:
        sign = "·" if row.met is None else "✓" if row.met else "✗"
        cells = (row.what.ljust(widths[0]), row.figure.rjust(widths[1]), row.target.ljust(widths[2]))
        print(f"{sign} {'  '.join(cells)}  {row.against}".rstrip())
    return 0 if options.short or all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
