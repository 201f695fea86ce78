"""`softtune import`: a folder of another format becomes a run of its own, with one checkpoint, that all screens open.

What softtune exported comes back with its split, metrics and settings, where its weights are the very ones; of other
people's adapters nobody knows what they were trained on, so that no problem counts as held out.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError

from core.contract.config import Config, DatasetSettings, ModelSettings
from core.contract.errors import CheckpointError, DataError
from core.contract.event_log import EventLog
from core.contract.events import (
    CheckpointSaved,
    Event,
    Notice,
    RunFinished,
    RunStarted,
    ValidationCompleted,
)
from core.contract.exports import MANIFEST, Manifest, check_files, read_manifest, sha256_of
from core.contract.record import Split
from core.contract.runs import RUNS, RunFolder, create_run
from core.data.dataset import SplitBy, prepare_dataset
from core.data.humaneval import Problem
from core.export.merged import merged_rows
from core.export.peft import WEIGHTS, read_adapter
from core.model.checkpoint import Checkpoint, save_checkpoint
from core.training.loss import perplexity

UNKNOWN: dict[str, float | None] = {"train_loss": None, "heldout_loss": None, "heldout_perplexity": None}


def import_folder(folder: Path, name: str = "", runs: Path = RUNS) -> Generator[Event, None, Path]:
    """Make a run of a peft adapter, or of a merged model that softtune exported; the value is its checkpoint's path.

    Args:
        name: the end of the run's id; "" takes the folder's name.

    Raises:
        CheckpointError: it holds no soft prompt, or is damaged.
        UsageError: the run cannot be made.
    """
    checkpoint, config, notices = read_folder(folder)
    proposed = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).lstrip("._-")[:64]
    run = create_run(config, name or proposed or "import", runs, kind="import")
    try:
        yield from notices
        figures = f"; its figures are those of run {checkpoint.run_id}" if checkpoint.run_id else ""
        origin = Notice(level="info", what=f"imported from {folder}{figures}")
        path = yield from _fill(run, replace(checkpoint, run_id=run.run_id), config, [origin, *notices])
    except BaseException:
        shutil.rmtree(run.root, ignore_errors=True)
        raise
    return path


def read_folder(folder: Path) -> tuple[Checkpoint, Config, list[Notice]]:
    """The soft prompt of a folder, its settings, and what is not known of it; nothing is written.

    Raises:
        CheckpointError: it holds no soft prompt, or is damaged.
    """
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else None
    if manifest is not None and manifest.format == "merged":
        check_files(folder, manifest)
        config, notices = _settings_of(manifest)
        if manifest.dtype != "float32":
            notices.append(Notice(what=f"the soft prompt comes back as it was rounded to {manifest.dtype}"))
        return _known(manifest, merged_rows(folder, manifest, config), config), config, notices
    if manifest is None and not (folder / "adapter_config.json").exists() and (folder / "config.json").exists():
        raise CheckpointError(f"{folder} is a whole model, and not one that softtune exported",
                              "import an adapter of peft, or a folder with softtune.json")
    rows, base = read_adapter(folder)
    if manifest is not None and _is_whole(folder, manifest):
        config, notices = _settings_of(manifest)
        return _known(manifest, rows, config), config, notices
    altered = f"{folder / WEIGHTS} is not what {MANIFEST} tells of" if manifest else f"{folder} has no {MANIFEST}"
    config = Config().model_copy(update={"model": ModelSettings(name=base)})
    config = config.model_copy(update={"soft_prompts": config.soft_prompts.model_copy(
        update={"num_virtual_tokens": len(rows)})})
    notices = [Notice(what=f"{altered}: what it was trained on is not known, and no problem counts as held out",
                      remedy="its settings are the defaults; a score of all problems may be of training data")]
    return Checkpoint(rows, base, 0, 0, UNKNOWN, config.model_dump(), Split(train=[], heldout=[]), ""), config, notices


def split_of(checkpoint: Checkpoint) -> SplitBy:
    """How problems are split where a checkpoint says it and not the settings."""

    def by_checkpoint(problems: list[Problem], _: DatasetSettings) -> Split:
        known, split = {problem.task_id for problem in problems}, checkpoint.split
        return Split(train=[task for task in split.train if task in known],
                     heldout=[task for task in split.heldout if task in known])

    return by_checkpoint


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    known = manifest.files.get(WEIGHTS)
    return known is not None and sha256_of(folder / WEIGHTS) == known.sha256


def _settings_of(manifest: Manifest) -> tuple[Config, list[Notice]]:
    """A manifest's settings, without leave to run anything: that is this machine's user's to give."""
    notices = []
    try:
        config = Config.model_validate(manifest.config)
    except ValidationError as error:
        config = Config()
        place = ".".join(map(str, error.errors()[0]["loc"]))
        notices.append(Notice(what=f"its settings are of another version ({place}); the defaults are taken"))
    model = config.model if config.model.name == manifest.base_model else ModelSettings(name=manifest.base_model)
    return config.model_copy(update={
        "model": model.model_copy(update={"trust_remote_code": False}),
        "evaluation": config.evaluation.model_copy(update={"allow_weak_sandbox": False}),
    }), notices


def _known(manifest: Manifest, rows: torch.Tensor, config: Config) -> Checkpoint:
    return Checkpoint(rows, manifest.base_model, manifest.epoch, manifest.step, {**UNKNOWN, **manifest.metrics},
                      config.model_dump(), manifest.split, manifest.run_id)


def _fill(
    run: RunFolder, checkpoint: Checkpoint, config: Config, notices: list[Notice]
) -> Generator[Event, None, Path]:
    """Write the run's problems, checkpoint and events; its record says that it is finished at the very end."""
    began = time.perf_counter()
    path = Path(run.checkpoints) / "best.pt"
    save_checkpoint(checkpoint, path)
    said: list[Event] = [RunStarted(run_id=run.run_id, model=checkpoint.base_model, pid=os.getpid()), *notices]
    try:
        prepare_dataset(config, run, split_of(checkpoint))
    except DataError:
        missing = Notice(setting="dataset.path", what="the problems that it was trained on are not here: "
                         f"{config.dataset.path or 'HumanEval'}", remedy="scoring needs them; completing does not")
        said.append(missing)
        yield missing
    loss, epoch, step = checkpoint.metrics.get("heldout_loss"), checkpoint.epoch, checkpoint.step
    if loss is not None:
        said.append(ValidationCompleted(epoch=epoch, step=step, loss=loss, perplexity=perplexity(loss), is_best=True))
    said.append(CheckpointSaved(path=str(path), epoch=epoch, step=step, is_best=True))
    said.append(RunFinished(best_heldout_loss=loss, best_epoch=epoch, best_checkpoint=str(path),
                            seconds=time.perf_counter() - began))
    log = EventLog(Path(run.events_file))
    for event in said:
        log.append(event)
    log.close()
    ended = {"state": "finished", "ended": time.time(), "step": step, "heldout_loss": loss}
    run.write_record(run.read_record().model_copy(update=ended))
    return path
