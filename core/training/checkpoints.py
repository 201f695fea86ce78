"""Which checkpoints a run writes, and the copies of them under soft_prompts/."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from core.contract.config import Config
from core.contract.errors import CheckpointError
from core.contract.events import CheckpointSaved
from core.contract.files import replacing
from core.contract.record import Split
from core.contract.runs import BEST_PUBLISHED, RUNS, SOFT_PROMPTS, RunFolder
from core.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from core.model.soft_prompt import SoftPrompt
from core.training.loss import perplexity
from core.training.standing import Standing


class CheckpointWriter:
    """Writes epoch_NNNN.pt, best.pt and last.pt of one run, and publishes the first two."""

    def __init__(self, folder: RunFolder, config: Config, split: Split) -> None:
        self.folder, self.config, self.split = folder, config, split
        self._older_removed = False

    def save_epoch(self, soft_prompt: SoftPrompt, standing: Standing, heldout_loss: float | None) -> CheckpointSaved:
        """epoch_NNNN.pt, published as soft_prompts_epoch_N.pt."""
        checkpoint = self._checkpoint(soft_prompt, standing, heldout_loss)
        published = SOFT_PROMPTS / f"soft_prompts_epoch_{standing.epoch}.pt"
        return self._save(checkpoint, f"epoch_{standing.epoch:04d}.pt", published=published)

    def save_best(self, soft_prompt: SoftPrompt, standing: Standing, heldout_loss: float | None) -> CheckpointSaved:
        """best.pt, published as best_soft_prompts.pt."""
        checkpoint = self._checkpoint(soft_prompt, standing, heldout_loss)
        return self._save(checkpoint, "best.pt", published=BEST_PUBLISHED, is_best=True)

    def save_last(self, soft_prompt: SoftPrompt, standing: Standing, state: dict[str, Any]) -> CheckpointSaved:
        """last.pt, with what a resumed run needs."""
        checkpoint = self._checkpoint(soft_prompt, standing, standing.heldout_loss)
        return self._save(dataclasses.replace(checkpoint, training=state), "last.pt")

    def _checkpoint(self, soft_prompt: SoftPrompt, standing: Standing, heldout_loss: float | None) -> Checkpoint:
        metrics = {
            "train_loss": standing.last_train_loss if standing.train_loss is None else standing.train_loss,
            "heldout_loss": heldout_loss,
            "heldout_perplexity": None if heldout_loss is None else perplexity(heldout_loss),
        }
        return Checkpoint(
            soft_prompt.weight, self.config.model.name, standing.epochs_begun, standing.step, metrics,
            self.config.model_dump(), self.split, self.folder.run_id,
        )

    def _save(
        self, checkpoint: Checkpoint, name: str, *, published: Path | None = None, is_best: bool = False
    ) -> CheckpointSaved:
        path = self.folder.checkpoints / name
        save_checkpoint(checkpoint, path)
        copies = []
        if published is not None:
            self._remove_older_run()
            with replacing(published) as target, open(path, "rb") as source:
                shutil.copyfileobj(source, target)
            copies.append(str(published))
        return CheckpointSaved(
            path=str(path), epoch=checkpoint.epoch, step=checkpoint.step, is_best=is_best, published=copies
        )

    def _remove_older_run(self) -> None:
        """soft_prompts/ holds the newest run's: take away epochs of an older one, if its run folder still has them."""
        if self._older_removed:
            return
        self._older_removed = True
        for copy in SOFT_PROMPTS.glob("soft_prompts_epoch_*.pt"):
            try:
                checkpoint = load_checkpoint(copy)
            except CheckpointError:
                continue  # not ours to remove
            original = RUNS / checkpoint.run_id / "checkpoints" / f"epoch_{checkpoint.epoch:04d}.pt"
            if checkpoint.run_id != self.folder.run_id and original.exists():
                copy.unlink()


