"""Which checkpoints a run writes, and the copies of them under soft_prompts/."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

from core.contract.config import Config
from core.contract.errors import CheckpointError, NewerFormat
from core.contract.events import CheckpointSaved, Notice
from core.contract.files import replacing
from core.contract.record import Split
from core.contract.runs import BEST_PUBLISHED, RUNS, SOFT_PROMPTS, RunFolder
from core.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from core.model.soft_prompt import SoftPrompt
from core.training.loss import perplexity
from core.training.standing import Standing

LAST, BEST = "last.pt", "best.pt"
PREVIOUS, DAMAGED = "last.pt.previous", "last.pt.damaged"


class CheckpointWriter:
    """Writes epoch_NNNN.pt, best.pt and last.pt of one run, and publishes the first two unless told not to."""

    def __init__(self, folder: RunFolder, config: Config, split: Split, *, publish: bool = True) -> None:
        self.folder, self.config, self.split, self.publish = folder, config, split, publish
        self._older_removed = False

    def save_epoch(self, soft_prompt: SoftPrompt, standing: Standing, heldout_loss: float | None) -> CheckpointSaved:
        """epoch_NNNN.pt, published as soft_prompts_epoch_N.pt."""
        checkpoint = self._checkpoint(soft_prompt, standing, heldout_loss)
        published = SOFT_PROMPTS / f"soft_prompts_epoch_{standing.epoch}.pt"
        return self._save(checkpoint, f"epoch_{standing.epoch:04d}.pt", published=published)

    def save_best(self, soft_prompt: SoftPrompt, standing: Standing, heldout_loss: float | None) -> CheckpointSaved:
        """best.pt, published as best_soft_prompts.pt."""
        checkpoint = self._checkpoint(soft_prompt, standing, heldout_loss)
        return self._save(checkpoint, BEST, published=BEST_PUBLISHED, is_best=True)

    def save_last(self, soft_prompt: SoftPrompt, standing: Standing, state: dict[str, Any]) -> CheckpointSaved:
        """last.pt, with what a resumed run needs; the one before it stays as last.pt.previous."""
        checkpoint = self._checkpoint(soft_prompt, standing, standing.heldout_loss)
        return self._save(dataclasses.replace(checkpoint, training=state), LAST, previous=PREVIOUS)

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
        self, checkpoint: Checkpoint, name: str, *, published: Path | None = None, is_best: bool = False,
        previous: str | None = None,
    ) -> CheckpointSaved:
        os.stat(self.folder.record_file)  # a folder that was removed is not made again, nor is an empty mount filled
        path = self.folder.checkpoints / name
        save_checkpoint(checkpoint, path, self.folder.checkpoints / previous if previous else None)
        copies = []
        if published is not None and self.publish:
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


def load_last(folder: RunFolder) -> tuple[Checkpoint | None, list[Notice]]:
    """The newest checkpoint that training can go on from, None where there is none yet, and what to tell of it.

    One that is damaged is put aside as last.pt.damaged, and the one before it is taken.

    Raises:
        CheckpointError: there are some, and none can be used.
    """
    notices: list[Notice] = []
    found = [folder.checkpoints / name for name in (LAST, PREVIOUS) if (folder.checkpoints / name).exists()]
    for path in found:
        try:
            checkpoint = load_checkpoint(path)
            if checkpoint.training is None:
                raise CheckpointError(f"{path} has no optimizer state")
        except NewerFormat:
            raise  # it is not damaged
        except CheckpointError as error:
            if isinstance(error.__context__, OSError):
                raise  # it could not be read just now
            notices.append(Notice(what=error.what, remedy=f"the one before it, {PREVIOUS}, is taken instead"))
            if path.name == LAST and len(found) > 1:
                os.replace(path, folder.checkpoints / DAMAGED)  # or it would become the one before the next
            continue
        return checkpoint, notices
    later = sorted(path.name for path in folder.checkpoints.glob("epoch_*.pt") if path.name > "epoch_0001.pt")
    if later and not found:  # not a kill in the first epoch: somebody has removed it
        raise CheckpointError(f"{folder.checkpoints} has {', '.join(later)}, and no {LAST} to go on from",
                              f"bring {LAST} back, or start a new run: beginning this one again would replace them")
    if notices:
        raise CheckpointError("; ".join(notice.what for notice in notices),
                              "training cannot go on from it: start a new run; best.pt can still be used to infer")
    return None, []


def load_best(folder: RunFolder, best_epoch: int | None) -> tuple[Checkpoint, list[Notice]]:
    """best.pt, or where it is damaged the same prompt from its epoch's checkpoint, and what to tell of that.

    Raises:
        CheckpointError: neither can be used.
    """
    try:
        return load_checkpoint(folder.checkpoints / BEST), []
    except CheckpointError as error:
        same = folder.checkpoints / f"epoch_{best_epoch or 0:04d}.pt"
        if not same.exists():
            raise
        return load_checkpoint(same), [Notice(what=error.what, remedy=f"{same} holds the same prompt, and is taken")]
