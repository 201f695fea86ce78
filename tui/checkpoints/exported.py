"""Exported folders: which are of a checkpoint, and what one says of itself. All but the words look at files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.contract.errors import CheckpointError
from core.contract.exports import MANIFEST, Manifest, read_manifest
from tui.checkpoints.catalogue import CheckpointRow
from tui.formatting import counted, data_size

EXPORTS = Path("exports")
"""Where a checkpoint is exported to unless the user says otherwise."""


@dataclass(frozen=True)
class Exported:
    """A folder with what its softtune.json says."""

    folder: Path
    manifest: Manifest


def exports_of(row: CheckpointRow, place: Path = EXPORTS) -> list[Exported]:
    """The folders in `place` that were exported from a checkpoint or its equal, newest first; never raises."""
    found: list[tuple[float, Exported]] = []
    try:
        folders = [path.parent for path in place.glob(f"*/{MANIFEST}")]
    except OSError:
        return []
    for folder in folders:
        try:
            manifest, written = read_manifest(folder), (folder / MANIFEST).stat().st_mtime
        except (CheckpointError, OSError):
            continue  # naming it tells what is wrong with it
        if is_of(manifest, row):
            found.append((written, Exported(folder, manifest)))
    return [exported for _, exported in sorted(found, key=lambda one: one[0], reverse=True)]


def is_of(manifest: Manifest, row: CheckpointRow) -> bool:
    """Whether a folder was exported from a checkpoint or its equal, as far as the run's events tell its step."""
    return manifest.run_id == row.run.run_id and row.step in (None, manifest.step)


def origin_words(manifest: Manifest) -> str:
    """"epoch 2 of 2026-11-23-221004-demo, 8 soft tokens in Qwen/Qwen2.5-Coder-0.5B, bfloat16"."""
    parts = [f"epoch {manifest.epoch:,} of {manifest.run_id}" if manifest.step else manifest.run_id,
             f"{counted(manifest.num_virtual_tokens, 'soft tokens')} in {manifest.base_model}", manifest.dtype]
    return ", ".join(part for part in parts if part)


def size_words(manifest: Manifest) -> str:
    """"7 files, 1.2 GB"."""
    return f"{counted(len(manifest.files), 'files')}, {data_size(manifest.total_bytes)}"


def verified_words(manifest: Manifest) -> str:
    """What is known of a merged model's completions."""
    if not manifest.verified_problems:
        return "not verified: its completions were not compared with softtune's own"
    return f"verified: the same tokens as here on {counted(manifest.verified_problems, 'problems')}"
