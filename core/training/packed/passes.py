"""The passes of `core.training.passes`, rows end to end."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from core.data.batches import Row
from core.model.loading import LoadedModel
from core.training.loss import weighted_losses
from core.training.packed.model import Pack, PackedModel, pack
from core.training.passes import MicroBatchPasses
from core.training.profile import untimed


class PackedPasses(MicroBatchPasses):
    """Micro-batches without padding; how many rows they take, and what happens without memory, is as there."""

    def __init__(self, loaded: LoadedModel, batch_size: int, label_smoothing: float = 0.0) -> None:
        super().__init__(loaded, batch_size, label_smoothing)
        self._packed = PackedModel(loaded.model)

    def _collated(self, rows: Sequence[Row], virtual_tokens: int) -> Pack:
        return pack(rows, virtual_tokens, self._precision.device)

    def _losses(self, prompts: torch.Tensor, batch: Pack, label_smoothing: float) -> torch.Tensor:  # type: ignore[override]
        section = self.section if torch.is_grad_enabled() else untimed
        with section("forward"):
            hidden = self._packed.hidden(prompts, batch)
        with section("head"):
            logits = self._packed.head(hidden)
            return weighted_losses(logits, batch.targets, batch.weights, batch.owners, len(prompts), label_smoothing)
