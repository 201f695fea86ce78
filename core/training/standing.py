"""How far a training run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Standing:
    """How far a run is: all that a resumed one needs beside the prompt and the optimizer. Plain numbers only."""

    epoch: int = 1
    """The present epoch, from 1; past the last one when training is over."""
    step: int = 0
    step_in_epoch: int = 0
    epoch_loss: float = 0.0
    epoch_tokens: int = 0
    best_loss: float | None = None
    best_epoch: int | None = None
    validations_without_best: int = 0
    skipped: int = 0
    """Steps that changed nothing because their loss or gradient was not finite."""
    skipped_in_a_row: int = 0
    validated_epoch: int = 0
    """The last epoch whose held-out loss was measured."""
    last_train_loss: float | None = None
    """Mean training loss of the epoch before this one."""
    heldout_loss: float | None = None

    @property
    def train_loss(self) -> float | None:
        """Mean loss of the present epoch so far; None before its first step."""
        return self.epoch_loss / self.epoch_tokens if self.epoch_tokens else None

    @property
    def epochs_begun(self) -> int:
        """Epochs that have had at least one step."""
        return self.epoch if self.step_in_epoch else self.epoch - 1
