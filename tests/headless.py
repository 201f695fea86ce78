"""The headless command as a process on the tiny model, for tests of how it is started, read and ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

CORE = [sys.executable, "-P", "-m", "core"]


def settings(model: Path, **changes: object) -> list[str]:
    """Options for a run of seconds; `changes` are settings, as training__num_epochs=3."""
    values = {
        "model.name": model, "hardware.device": "cpu", "dataset.max_samples": 10, "training.num_epochs": 1,
        "training.warmup_steps": 0, "inference.max_new_tokens": 8, "dataset.max_length": 2048,
    } | {name.replace("__", "."): value for name, value in changes.items()}
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


def forked(arguments: list[str], folder: Path, *, leads: bool = False) -> ForkServerProcess:
    """The command in a process that has torch imported from the start: for tests of many short runs.

    It writes to `stdout` and `stderr` in the folder, which may be pipes there, or links to a terminal.

    Args:
        leads: it leads a session of its own, and a terminal that it opens is that session's.
    """
    return _forked(_command, arguments, folder, leads)


def done_forked(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a command did in such a process, as `subprocess.run` tells it."""
    texts = [cwd / "stdout", cwd / "stderr"]
    for text in texts:
        text.unlink(missing_ok=True)
    process = forked(list(arguments), cwd)
    process.join(120)
    assert process.exitcode is not None, "it has no end"
    out, err = (text.read_text() for text in texts)
    return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def forked_script(script: Path, arguments: list[str], folder: Path) -> ForkServerProcess:
    """A script in such a process."""
    return _forked(_script, [str(script), *arguments], folder)


def _forked(
    work: Callable[[list[str]], None], arguments: list[str], folder: Path, leads: bool = False
) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.jobs", "core.recorder", "transformers.models.qwen2.modeling_qwen2"])
    process = context.Process(target=_there, args=(work, arguments, folder, leads))
    process.start()
    return process


def _there(work: Callable[[list[str]], None], arguments: list[str], folder: Path, leads: bool) -> None:
    if leads:
        os.setsid()
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, (os.O_RDWR if leads else os.O_WRONLY) | os.O_CREAT | os.O_APPEND), number)
        setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 - as long as the process
    work(arguments)


def _command(arguments: list[str]) -> None:
    from core.cli import main

    sys.exit(main(arguments))


def _script(arguments: list[str]) -> None:
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


def run_folder(folder: Path) -> Path:
    """The only run that was started in a folder."""
    (found,) = (folder / "runs").iterdir()
    return found


def state(folder: Path) -> str:
    """What run.json says of the only run in a folder; "" where there is none yet."""
    for file in (folder / "runs").glob("*/run.json"):
        return str(json.loads(file.read_text())["state"])
    return ""


def events_text(folder: Path) -> str:
    """events.jsonl of the only run in a folder; "" where there is none yet."""
    return "".join(file.read_text() for file in (folder / "runs").glob("*/events.jsonl"))


def wait_until(happened: Callable[[], bool], status: Callable[[], int | None], seconds: float = 60) -> None:
    """Wait for what a process does; fails where that takes too long, or the process ends (has a status) without it."""
    end = time.monotonic() + seconds
    while not happened():
        assert status() is None or happened(), f"it ended with status {status()}"
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


@contextlib.contextmanager
def without_a_reader(arguments: list[str], folder: Path) -> Iterator[tuple[ForkServerProcess, int]]:
    """Run a command into a small pipe that nobody reads; the process, and the end of the pipe to read from."""
    os.mkfifo(folder / "stdout")
    reading = os.open(folder / "stdout", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    process = forked(arguments, folder)
    try:
        yield process, reading
    finally:
        process.kill()
        process.join()
        os.close(reading)


def finished_without_a_reader(arguments: list[str], folder: Path, seconds: float) -> tuple[int | None, str]:
    """Run a command whose output nobody reads until the run has finished, and for so many seconds at least.

    Returns the exit status, and everything that came out of the pipe afterwards. Fails where the run did not finish,
    or where the process ended although nobody had taken its output.
    """
    begun = time.monotonic()
    with without_a_reader(arguments, folder) as (process, reading):
        wait_until(lambda: state(folder) == "finished", lambda: process.exitcode, seconds + 60)
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        assert process.exitcode is None, "it did not wait for its reader"
        os.set_blocking(reading, True)
        with open(reading, encoding="utf-8", closefd=False) as pipe:
            output = pipe.read()
        process.join(30)
        return process.exitcode, output
