"""Stopping a headless run by signals: whatever it is doing, within ten seconds, with nothing torn."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.contract.control import Command, ControlInbox, StopRequested
from core.model.checkpoint import load_checkpoint
from core.signals import stopping
from tests.headless import events_text, forked, run_folder, settings, state, wait_until

PHASES = {
    "loading": '"stage":"loading"', "training": '"StepCompleted"', "validating": '"stage":"validating"',
    "completing": '"stage":"completing"', "scoring": '"ProblemEvaluated"',
}
"""What the first event of each looks like."""
PROMISED_SECONDS = 10


def check_what_is_left(folder: Path) -> None:
    """A stopped run says so in run.json and as its last event; no temporary file stays, and no checkpoint is torn."""
    assert state(folder) == "stopped"
    assert '"RunStopped"' in events_text(folder).splitlines()[-1]
    assert list(folder.rglob("*.tmp")) == []
    for file in folder.rglob("*.pt"):
        load_checkpoint(file)


@pytest.mark.parametrize("signals", [
    [signal.SIGTERM],
    *(pytest.param(given, marks=pytest.mark.slow) for given in ([signal.SIGINT], [signal.SIGINT, signal.SIGINT])),
])
def test_a_run_that_is_stopped_in_every_phase_goes_on_each_time(
    signals: list[int], tiny_model_folder: Path, tmp_path: Path
) -> None:
    arguments = settings(tiny_model_folder, training__num_epochs=8, evaluation__early_stopping_patience="null",
                         dataset__max_samples=16, inference__max_new_tokens=16)
    for phase, mark in PHASES.items():
        told = len(events_text(tmp_path))
        process = forked(["train", *arguments], tmp_path)
        wait_until(lambda: mark in events_text(tmp_path)[told:], lambda: process.exitcode)  # noqa: B023 - called here
        begun = time.monotonic()
        for number in signals:
            os.kill(process.pid or 0, number)
            time.sleep(0.01)  # or two of a kind may count as one
        process.join(60)
        assert process.exitcode == 130, f"{phase}: {(tmp_path / 'stderr').read_text()}"
        assert time.monotonic() - begun < PROMISED_SECONDS, phase
        check_what_is_left(tmp_path)
        trained = phase in ("completing", "scoring") or phase != "loading" and len(signals) == 1
        assert (run_folder(tmp_path) / "checkpoints" / "last.pt").exists() or not trained, phase
        arguments = ["--resume", "last"]
    process = forked(["train", *arguments], tmp_path)
    process.join(60)
    assert (process.exitcode, state(tmp_path)) == (0, "finished")
    assert list(tmp_path.rglob("*.tmp")) == []


# What has to be stopped in the middle of a long call: a program that makes one of the calls take a minute

SLOW_IMPORT = """
import importlib.abc, pathlib, signal, sys, time
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            signal.pthread_sigmask(signal.SIG_BLOCK, DEAF)
            pathlib.Path("asleep").touch()
            try:
                time.sleep(60)
            except STUBBORN:
                time.sleep(60)
sys.meta_path.insert(0, Slow())
from core.cli import main
sys.exit(main(sys.argv[2:]))
"""
"""Where the main thread is deaf for a signal, another takes it: as when it comes just before the call. Deaf for all it
is like a long call of a library, which no signal ends."""


@pytest.mark.parametrize(("module", "number", "stubborn", "deaf"), [
    ("torch", signal.SIGINT, "Exception", "()"),
    ("torch", signal.SIGINT, "Exception", "{signal.SIGINT}"),
    ("torch", signal.SIGTERM, "BaseException", "()"),
    ("transformers.models.qwen2.modeling_qwen2", signal.SIGTERM, "Exception", "signal.valid_signals()"),
])
def test_neither_importing_torch_nor_loading_a_model_delays_a_stop(
    module: str, number: int, stubborn: str, deaf: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    program = SLOW_IMPORT.replace("STUBBORN", stubborn).replace("DEAF", deaf)
    command = [sys.executable, "-P", "-c", program, module, "train", *settings(tiny_model_folder)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until((tmp_path / "asleep").exists, process.poll)
        process.send_signal(number)
        assert process.wait(PROMISED_SECONDS) == 130
    check_what_is_left(tmp_path)
    assert ('"stage":"loading"' in events_text(tmp_path)) == (module != "torch")


SLOW_CHECKPOINT = """
import os, pathlib, sys, time
from core.cli import main
fsync = os.fsync
def slow(handle):
    if ".last.pt." in os.readlink(f"/proc/self/fd/{handle}") and pathlib.Path("slow").exists():
        pathlib.Path("asleep").touch()
        time.sleep(60)
    fsync(handle)
os.fsync = slow
sys.exit(main(sys.argv[1:]))
"""


def test_a_second_ctrl_c_in_the_middle_of_a_checkpoint_tears_nothing(tiny_model_folder: Path, tmp_path: Path) -> None:
    options = settings(tiny_model_folder, training__num_epochs=100_000, evaluation__early_stopping_patience="null",
                       evaluation__score_after_training="false", evaluation__save_best_only="true")
    command = [sys.executable, "-P", "-c", SLOW_CHECKPOINT, "train", *options]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: '"epoch":3,' in events_text(tmp_path), process.poll)
        (tmp_path / "slow").touch()
        wait_until((tmp_path / "asleep").exists, process.poll)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None  # it is saving
        process.send_signal(signal.SIGINT)
        assert process.wait(PROMISED_SECONDS) == 130
    check_what_is_left(tmp_path)
    assert load_checkpoint(run_folder(tmp_path) / "checkpoints" / "last.pt").step > 0


# The signals themselves


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers of this process, put back afterwards."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(name) for name in names]
    yield
    for name, handler in zip(names, before, strict=True):
        signal.signal(name, handler)


def test_a_second_sigterm_is_not_in_more_of_a_hurry_and_a_ctrl_c_is(handlers: None) -> None:
    control = ControlInbox()
    with stopping(control) as signals:
        assert (signals.asked, control.state) == (False, Command.RESUME)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        assert (signals.asked, control.state) == (True, Command.STOP)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN  # one that comes late does not change the exit status


def test_an_interruptible_block_is_left_at_once_and_nothing_else_is(handlers: None) -> None:
    control = ControlInbox()
    reached = []
    with stopping(control):
        with pytest.raises(StopRequested), control.interruptible():
            try:
                signal.raise_signal(signal.SIGTERM)
            except Exception:  # what libraries do must not swallow it
                reached.append("swallowed")
            reached.append("went on")
        signal.raise_signal(signal.SIGTERM)  # outside: only asked for
        with pytest.raises(StopRequested), control.interruptible():
            reached.append("entered although a stop was asked for")
    assert reached == []


def test_a_terminal_that_closes_is_nothing_to_a_detached_process_nor_to_one_under_nohup(handlers: None) -> None:
    for before, detached in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
        signal.signal(signal.SIGHUP, before)
        control = ControlInbox()
        with stopping(control, detached=detached):
            signal.raise_signal(signal.SIGHUP)
            assert control.state == Command.RESUME
