"""Two checkpoints side by side: all that is read of them for the Compare screen, and what follows from it.

Files are read by `read_side`, in a thread; the rest is pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.contract.config import Config
from core.contract.errors import ConfigError, SofttuneError
from core.contract.events import Score
from tui.checkpoints.catalogue import CheckpointRow
from tui.compare.settings import Difference, differences
from tui.compare.verdicts import Pairing, Verdicts, pair, read_verdicts
from tui.visible import visible_line


@dataclass(frozen=True)
class Side:
    """One of two checkpoints: its row, and what its run folder has beside it."""

    row: CheckpointRow
    verdicts: Verdicts = Verdicts()
    config: Config | None = None
    config_fault: str = ""

    @property
    def run_id(self) -> str:
        """The run that it is of."""
        return self.row.run.run_id

    @property
    def overall(self) -> Score | None:
        """Of all problems: as the evaluation's summary has it, else counted from the results; None where unscored."""
        return self._score(self.row.overall, "")

    @property
    def train(self) -> Score | None:
        """Of the training problems."""
        return self._score(self.row.train, "train")

    @property
    def heldout(self) -> Score | None:
        """Of the held-out problems."""
        return self._score(self.row.heldout, "heldout")

    def _score(self, summary: Score | None, split: str) -> Score | None:
        score = summary or self.verdicts.score(split)
        return score if score.total else None


@dataclass(frozen=True)
class Comparison:
    """A and B, their problems paired, and the settings in which their runs differ."""

    a: Side
    b: Side
    pairing: Pairing = Pairing()
    differences: tuple[Difference, ...] = ()
    complete: bool = False
    """Whether the files have been read."""

    @property
    def same(self) -> bool:
        """Whether A and B are one checkpoint."""
        return self.a.row.key == self.b.row.key

    @property
    def one_run(self) -> bool:
        """Whether both are checkpoints of the same run."""
        return self.a.run_id == self.b.run_id

    @property
    def swapped(self) -> Comparison:
        """B compared with A."""
        return compared(self.b, self.a, self.complete)


def read_side(row: CheckpointRow) -> Side:
    """Read what a checkpoint's run has of results and settings; never raises: a fault is told in words."""
    config, fault = None, "it was imported, and what it was trained with is not known" if row.foreign else ""
    try:
        config = None if row.foreign else row.run.read_config()
    except ConfigError as error:
        fault = visible_line("; ".join(str(one) for one in error.faults))
    except SofttuneError as error:
        fault = visible_line(error.what)
    return Side(row, read_verdicts(row.run, row.name), config, fault)


def compared(a: Side, b: Side, complete: bool = True) -> Comparison:
    """The comparison of two sides."""
    differing = differences(a.config, b.config) if a.config and b.config else ()
    return Comparison(a, b, pair(a.verdicts, b.verdicts), differing, complete)
