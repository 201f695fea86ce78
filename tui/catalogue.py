"""Every checkpoint of every run, as rows; read without opening a checkpoint file (that needs torch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.contract.events import Score
from core.contract.runs import RunFolder, State


@dataclass(frozen=True)
class CheckpointRow:
    """One checkpoint file of a run, or a damaged run folder (`damage` says why, and the rest is empty)."""

    run: RunFolder
    state: State
    """The run's."""
    name: str = ""
    """"best", "epoch_0003" or "last": the file's stem, and the name of its evaluation folder."""
    path: Path = Path()
    epoch: int | None = None
    step: int | None = None
    train_loss: float | None = None
    heldout_loss: float | None = None
    perplexity: float | None = None
    """exp(held-out loss)."""
    overall: Score | None = None
    """Of evaluations/<name>/summary.json; None where the checkpoint was not scored."""
    train: Score | None = None
    heldout: Score | None = None
    virtual_tokens: int | None = None
    learning_rate: float | None = None
    size: int = 0
    """Bytes."""
    written: float = 0.0
    """Seconds since the epoch."""
    damage: str = ""

    @property
    def key(self) -> str:
        """What tells a row from every other."""
        return f"{self.run.run_id}/{self.name}"
