"""What the headless commands print: rich bars in a terminal, plain lines elsewhere, event lines with --json."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from core.contract.events import (
    CompletionGenerated,
    Event,
    Notice,
    ProblemEvaluated,
    Progress,
    RunFailed,
    RunPaused,
    RunResumed,
    StepCompleted,
    TrainingPlanned,
    event_line,
)
from core.contract.wording import describe
from core.outlet import Outlet

if TYPE_CHECKING:
    from rich.progress import TaskID

PLAIN_PROGRESS_SECONDS = 5.0
PATIENCE_BYTES = 1_000_000
"""Progress lines are left out while more than this waits for its reader; the story, warnings and --json never are."""

Reporter = Callable[[Event], None]


@contextlib.contextmanager
def captured_libraries(log: Path | None) -> Iterator[tuple[TextIO, TextIO]]:
    """Our own stdout and stderr, while what libraries print goes to `log` (None: their stdout goes to stderr).

    It is done on the file descriptors, since native code prints too, and a stray line on stdout would break --json.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None where the user closed it
            stream.flush()
    saved_out, saved_err = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if log else os.dup(2)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    out = os.fdopen(os.dup(saved_out), "w", encoding="utf-8", errors="replace", buffering=1)
    err = os.fdopen(os.dup(saved_err), "w", encoding="utf-8", errors="replace", buffering=1)
    try:
        yield out, err
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os.dup2(saved_out, 1)
        os.dup2(saved_err, 2)
        os.close(saved_out)
        os.close(saved_err)
        for stream in (out, err):
            with contextlib.suppress(OSError):  # a reader that went away, a full disk
                stream.close()


@contextlib.contextmanager
def reporter(out: TextIO, err: TextIO, *, as_json: bool) -> Iterator[Reporter]:
    """How to show events on these streams."""
    if as_json:
        plain = _PlainReporter(err, err)

        def show(event: Event) -> None:
            print(event_line(event), file=out, flush=True)
            if isinstance(event, Notice | RunFailed):
                plain(event)

        yield show
    elif out.isatty():
        with _RichReporter(out) as show:
            yield show
    else:
        yield _PlainReporter(out, err)


def _waiting(out: TextIO) -> int:
    """Bytes that a stream holds back because nobody takes them."""
    return out.waiting if isinstance(out, Outlet) else 0


def position(event: Event) -> tuple[str, int, int, str] | None:
    """(what is done, how many, of how many, figures) for events that move a bar."""
    match event:
        case Progress(stage="loading"):
            return (f"loading {event.detail}", event.done, event.total, "")
        case Progress(stage="training"):
            return None  # each epoch has a bar of its own
        case Progress():
            return (event.stage, event.done, event.total, event.detail)
        case StepCompleted():
            figures = f"loss {event.loss:.4f}  lr {event.learning_rate:.2e}  {event.tokens_per_second:,.0f} tok/s"
            return (f"{event.name} epoch {event.epoch}".strip(), event.step, event.total_steps, figures)
        case CompletionGenerated():
            return ("completing", event.done, event.total, "")
        case ProblemEvaluated():
            return ("scoring", event.done, event.total, "")
    return None


class _PlainReporter:
    """Lines: the story on stdout, a progress line every few seconds, warnings and failures on stderr."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self.out, self.err = out, err
        self.last = 0.0
        self.stage = ""
        self.left_out = 0

    def __call__(self, event: Event) -> None:
        moved = position(event)
        if moved:
            self._progress(*moved)
            return
        self._tell_what_was_left_out()
        stream = self.err if isinstance(event, Notice | RunFailed) else self.out
        for line in describe(event):
            print(line, file=stream, flush=True)

    def _progress(self, stage: str, done: int, total: int, figures: str) -> None:
        now = time.monotonic()
        if stage == self.stage and done < total and now - self.last < PLAIN_PROGRESS_SECONDS:
            return
        self.last, self.stage = now, stage
        if _waiting(self.out) > PATIENCE_BYTES:
            self.left_out += 1
            return
        self._tell_what_was_left_out()
        share = f" {done}/{total}" if total > 1 else ""
        print(f"  {stage}{share}  {figures}".rstrip(), file=self.out, flush=True)

    def _tell_what_was_left_out(self) -> None:
        if self.left_out and _waiting(self.out) <= PATIENCE_BYTES:
            print(f"  … {self.left_out} lines of progress were left out while nobody took them", file=self.out,
                  flush=True)
            self.left_out = 0


class _RichReporter:
    """The story in its order, with a bar for what is going on now; a finished bar becomes a line of the story.

    There is one an epoch, with loss and learning rate, and one for completing and for scoring. While a terminal has not
    caught up, no bar is drawn anew.
    """

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        from core.bars import PatientBars

        console = Console(file=out, highlight=False, soft_wrap=True)
        self.bars = PatientBars(
            TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"), console=console, waiting=lambda: _waiting(out),
        )
        self.out = out
        self.task: TaskID | None = None
        self.stage = ""
        self.plan: TrainingPlanned | None = None

    def __enter__(self) -> Reporter:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a terminal that has closed
            self._close_bar()
        with contextlib.suppress(OSError):
            self.bars.stop()

    def __call__(self, event: Event) -> None:
        self.out.flush()  # raises where the terminal has closed
        if isinstance(event, TrainingPlanned):
            self.plan = event
        moved = position(event)
        if moved:
            stage, done, total, figures = moved
            if isinstance(event, StepCompleted) and self.plan:  # a bar an epoch, not one a run
                before = (event.epoch - 1) * self.plan.steps_per_epoch
                done, total = done - before, self.plan.steps_per_epoch
            self._progress(stage, done, total, figures)
            return
        lines = describe(event)
        if lines and not isinstance(event, Notice | RunPaused | RunResumed):
            self._close_bar()
        from rich.text import Text

        for line in lines:
            style = "red" if isinstance(event, RunFailed) else "yellow" if isinstance(event, Notice) else ""
            self.bars.console.print(Text(line, style="green" if line.startswith("✓") else style))

    def _progress(self, stage: str, done: int, total: int, figures: str) -> None:
        if stage != self.stage or self.task is None:
            self._close_bar()
            self.task = self.bars.add_task(stage, total=total, figures=figures)
            self.stage = stage
        self.bars.update(self.task, completed=done, figures=figures)

    def _close_bar(self) -> None:
        """Print the present bar for good, unless the next line of the story says it all, and begin anew."""
        if self.task is not None:
            if self.stage != "validating" and not self.stage.startswith("loading"):
                self.bars.console.print(self.bars.make_tasks_table(self.bars.tasks))
            self.bars.remove_task(self.task)
        self.task, self.stage = None, ""
