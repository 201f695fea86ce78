"""Curves of other runs, to lay over those of the run that is shown. A run keeps its letter and colour while the app is
open, wherever it appears."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.contract.errors import SofttuneError
from core.contract.record import State
from core.contract.runs import RunFolder, RunSummary, list_runs, summarize
from tui.engine import RunLink
from tui.formatting import figure
from tui.run_view import RunView, advance
from tui.train.curves import Curve
from tui.widgets.plot_canvas import Trace

LETTERS = "abcd"
"""How runs are named in a plot; each letter has a colour."""

AT_MOST = len(LETTERS)
"""Runs that are laid over another at once."""


@dataclass(frozen=True)
class OtherRun:
    """The losses of a run that is laid over another one."""

    run_id: str
    letter: str
    smooth_loss: Curve = Curve()
    heldout_loss: Curve = Curve()
    smooth_perplexity: Curve = Curve()
    heldout_perplexity: Curve = Curve()
    best: float | None = None
    """Its best held-out loss."""

    @property
    def style(self) -> str:
        """The colour of its curves."""
        return f"$plot-other-{LETTERS.index(self.letter) + 1}"

    @property
    def name(self) -> str:
        """Its id without the year, which is the same for most; of a part of a run its own name."""
        if "/" in self.run_id:
            return self.run_id.rpartition("/")[2]
        return self.run_id[5:] if self.run_id[:4].isdigit() else self.run_id

    def traces(self, smooth: Curve, heldout: Curve) -> tuple[Trace, Trace]:
        """A line that ends in the run's letter, and the letter at each held-out value."""
        return (Trace("", smooth, self.style, mark=self.letter),
                Trace(self.name, heldout, f"bold {self.style}", "points", self.letter))


@dataclass(frozen=True)
class Choice:
    """A run that could be laid over another; `barred` says why one cannot."""

    run_id: str
    """Behind the folder of runs."""
    state: State
    started: float
    heldout_loss: float | None = None
    barred: str = ""

    @property
    def name(self) -> str:
        """Its id, of a part of a run its own name alone."""
        return self.run_id.rpartition("/")[2]

    @property
    def words(self) -> str:
        """Best held-out loss and date on one line."""
        when = time.strftime("%d %b %H:%M", time.localtime(self.started)) if self.started else ""
        return f"{figure(self.heldout_loss):>8}  {when}"


def choices(runs: Path, shown: str) -> list[Choice]:
    """The other runs: first those that the shown one is made of, or is part of, then the newest; [] where the folder
    cannot be read."""
    try:
        whole = RunFolder(runs / shown.partition("/")[0])
        summaries = [*map(summarize, whole.members() if shown else []), *list_runs(runs)]
    except (OSError, SofttuneError):
        return []
    return [_choice(summary) for summary in summaries if summary.folder.run_id != shown]


def _choice(summary: RunSummary) -> Choice:
    run_id, record = summary.folder.run_id, summary.record
    if record is None:
        return Choice(run_id, summary.state, 0.0, barred=summary.reason or "damaged")
    barred = "it has no step yet" if not _has_events(summary.folder) else ""
    return Choice(run_id, summary.state, record.started, record.heldout_loss, barred)


def _has_events(folder: RunFolder) -> bool:
    try:
        return Path(folder.events_file).stat().st_size > 0
    except OSError:
        return False


class Letters:
    """Which letter, and with it which colour, a run has. The oldest one that is not in use is given away first."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}

    def given(self, run_ids: Sequence[str]) -> dict[str, str]:
        """Letters for the first few of some runs; those that have had one keep it."""
        wanted = list(run_ids[:AT_MOST])
        for run_id in wanted:
            if run_id in self._held:
                self._held[run_id] = self._held.pop(run_id)  # the newest in use
        for run_id in wanted:
            if run_id not in self._held:
                free = [letter for letter in LETTERS if letter not in self._held.values()]
                if not free:
                    free = [self._held.pop(next(held for held in self._held if held not in wanted))]
                self._held[run_id] = free[0]
        return {run_id: self._held[run_id] for run_id in wanted}


def read_other(folder: RunFolder, letter: str) -> OtherRun:
    """The losses of a run. Takes a second for a very long log: for a thread.

    Raises:
        SofttuneError: its events cannot be read, or tell of no step.
    """
    link, view = RunLink(folder), RunView()
    while True:
        view = advance(view, link.read())
        if not link.behind:
            break
    if not len(view.train_loss) and not len(view.heldout_loss):
        raise SofttuneError(f"{folder.run_id} has no loss to show", "choose a run that has trained")
    return OtherRun(folder.run_id, letter, view.smooth_loss, view.heldout_loss, view.smooth_perplexity,
                    view.heldout_perplexity, view.best.loss if view.best else None)
