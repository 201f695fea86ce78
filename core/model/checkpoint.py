"""Checkpoint files: a dict that `torch.load(weights_only=True)` reads, so that opening one runs no code."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from core.contract.errors import CheckpointError, NewerFormat
from core.contract.files import FORMAT_VERSION, read_regular, replacing
from core.contract.record import Split

Settings = TypeVar("Settings", bound=BaseModel)
_KINDS: dict[str, type] = {
    "base_model": str, "epoch": int, "step": int, "metrics": dict, "config": dict, "split": dict, "run_id": str,
}


@dataclass(frozen=True)
class Checkpoint:
    """A soft prompt [V, H] in float32 and what it came from.

    `metrics` has train_loss, heldout_loss and heldout_perplexity (None where not measured). `training` is the state
    that a resumed run goes on from (optimizer, scaler, progress); only last.pt has it.
    """

    soft_prompt: torch.Tensor
    base_model: str
    epoch: int
    step: int
    metrics: dict[str, float | None]
    config: dict[str, Any]
    split: Split
    run_id: str
    training: dict[str, Any] | None = field(default=None, repr=False)
    path: Path | None = field(default=None, compare=False)
    """The file that it was read from."""

    @property
    def num_virtual_tokens(self) -> int:
        """V."""
        return int(self.soft_prompt.shape[0])

    @property
    def embedding_dim(self) -> int:
        """H."""
        return int(self.soft_prompt.shape[1])

    def check_fits(self, embedding_dim: int, model: str) -> None:
        """Raise CheckpointError unless the prompt is as wide as the model's embeddings."""
        if self.embedding_dim != embedding_dim:
            raise CheckpointError(
                f"{self.path or 'the soft prompt'} is {self.embedding_dim} wide, but {model} needs {embedding_dim}",
                f"use the model that it was trained on: --set model.name={self.base_model}",
            )

    def settings(self, kind: type[Settings], section: str = "", default: dict[str, Any] | None = None) -> Settings:
        """The settings that it was trained with, or a section of them; raises CheckpointError where they are none."""
        try:
            return kind.model_validate(self.config.get(section, default or {}) if section else self.config)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(filter(None, [section, *map(str, first["loc"])]))
            raise CheckpointError(
                f"{self.path or 'the checkpoint'}: its settings cannot be read: {place}: {first['msg']}",
                "use a checkpoint that softtune wrote",
            ) from None


def save_checkpoint(checkpoint: Checkpoint, path: Path, previous: Path | None = None) -> None:
    """Write a checkpoint whole or not at all; one that is there already gets the name `previous`."""
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "soft_prompt": checkpoint.soft_prompt.detach().to("cpu", torch.float32).contiguous().clone(),
        "base_model": checkpoint.base_model,
        "embedding_dim": checkpoint.embedding_dim,
        "num_virtual_tokens": checkpoint.num_virtual_tokens,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "metrics": checkpoint.metrics,
        "config": checkpoint.config,
        "split": checkpoint.split.model_dump(),
        "run_id": checkpoint.run_id,
    }
    if checkpoint.training is not None:
        content["training"] = checkpoint.training
    with replacing(path, previous) as file:
        torch.save(content, file)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        CheckpointError: it is missing, damaged, not one of ours, holds more than plain data, or is of a newer format.
    """
    content = _read(path)
    if not isinstance(content, dict) or not isinstance(content.get("soft_prompt"), torch.Tensor):
        raise CheckpointError(f"{path} is not a softtune checkpoint", "softtune train writes them under soft_prompts/")
    version = content.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise NewerFormat(f"{path} has format version {version}; this softtune reads up to {FORMAT_VERSION}",
                          "update softtune")
    rows = content["soft_prompt"]
    wrong = [key for key, kind in _KINDS.items() if not isinstance(content.get(key), kind)]
    if wrong:
        raise CheckpointError(f"{path} is incomplete: it has no usable {', '.join(wrong)}",
                              "use another checkpoint of the same run")
    if not (content["base_model"] + content["run_id"]).isprintable():
        raise CheckpointError(f"{path} has a base model or a run whose name cannot be shown",
                              "use a file that softtune wrote")
    if not _is_matrix(rows) or not math.isfinite(rows.float().abs().sum().item()):
        raise CheckpointError(f"{path}: its soft prompt is not a finite matrix", "use an earlier checkpoint of the run")
    try:
        return Checkpoint(
            rows.to(torch.float32), content["base_model"], content["epoch"], content["step"], content["metrics"],
            content["config"], Split(**content["split"]), content["run_id"], content.get("training"), path,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is incomplete: {error}", "use another checkpoint of the same run") from None


def _is_matrix(rows: torch.Tensor) -> bool:
    """Whether it is a plain matrix that has all its numbers in the file: a view can claim any size."""
    return (type(rows) is torch.Tensor and rows.dim() == 2 and rows.numel() > 0 and rows.device.type == "cpu"
            and rows.layout == torch.strided and rows.dtype in (torch.float32, torch.float16, torch.bfloat16)
            and rows.is_contiguous() and rows.untyped_storage().nbytes() >= rows.numel() * rows.itemsize)


def _check_sums(content: io.BytesIO) -> None:
    """Compare every part with its checksum, which torch writes and does not look at; raises BadZipFile."""
    with zipfile.ZipFile(content) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise zipfile.BadZipFile("it is compressed, which no checkpoint is")
        damaged = archive.testzip()
    if damaged:
        raise zipfile.BadZipFile(f"the checksum of its part {damaged} is wrong")


def _read(path: Path) -> Any:
    try:
        content = io.BytesIO(read_regular(path))
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}", "train one first (softtune train), or name another "
                              "(inference.checkpoint_path)") from None
    except IsADirectoryError:
        inside = next((file for place in ("checkpoints", "") if (file := path / place / "best.pt").is_file()), None)
        raise CheckpointError(f"{path} is a folder, and no checkpoint",
                              f"name the file: {inside or 'runs/RUN/checkpoints/best.pt'}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
    try:
        _check_sums(content)
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than tensors and plain values: {str(error).splitlines()[0]}",
                              "nothing of it was executed; use a file that softtune wrote") from None
    except Exception as error:  # torch promises no types for what a broken file makes it raise
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {str(error)[:200] or type(error).__name__}",
                              "use another checkpoint of the same run") from None
