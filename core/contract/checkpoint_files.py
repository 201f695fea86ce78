"""Publishing, deleting and restoring the checkpoint files of a run. None is opened here: that needs torch.

What is replaced or deleted is kept: under soft_prompts/replaced/, and in a folder `.trash` beside the checkpoints.
Nothing empties these but the user.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from core.contract.errors import CheckpointError
from core.contract.files import replacing
from core.contract.record import ACTIVE
from core.contract.runs import BEST_PUBLISHED, SOFT_PROMPTS, RunFolder, summarize

TRASH = ".trash"
REPLACED = "replaced"
SUFFIX = ".pt"
_EVALUATION = "evaluation"


@dataclass(frozen=True)
class Publication:
    """A checkpoint was copied to `target`; what was there before is now `kept`, None where nothing else was there."""

    target: Path
    kept: Path | None = None


@dataclass(frozen=True)
class Trashed:
    """A deleted checkpoint that can be brought back from `place`."""

    folder: RunFolder
    name: str
    place: Path


def checkpoint_path(folder: RunFolder, name: str) -> Path:
    """The file of a run's checkpoint."""
    return Path(folder.checkpoints) / f"{name}{SUFFIX}"


def publish(checkpoint: Path, target: Path = BEST_PUBLISHED) -> Publication:
    """Copy a checkpoint to where inference looks for it, whole or not at all; what it replaces is kept beside it.

    Raises:
        CheckpointError: the checkpoint is no file or is empty, or the copy cannot be written.
    """
    try:
        if not checkpoint.is_file() or not checkpoint.stat().st_size:
            raise CheckpointError(f"{checkpoint} is no checkpoint: there is no such file, or it is empty",
                                  "choose another")
        if target.exists() and same_bytes(checkpoint, target):
            return Publication(target)
        kept = _keep(target) if target.exists() else None
        _copy(checkpoint, target)
    except OSError as error:
        raise _failure(f"{checkpoint.name} cannot be published as {target}", error) from None
    return Publication(target, kept)


def published_copies(checkpoint: Path, places: Path = SOFT_PROMPTS) -> list[Path]:
    """The files under soft_prompts/ that are copies of a checkpoint, byte by byte."""
    try:
        return [path for path in sorted(places.glob(f"*{SUFFIX}")) if path.is_file() and same_bytes(checkpoint, path)]
    except OSError:
        return []


def same_bytes(a: Path, b: Path) -> bool:
    """Whether two files have the same content; raises OSError."""
    return filecmp.cmp(a, b, shallow=False)


def what_goes(folder: RunFolder, name: str) -> list[tuple[Path, int]]:
    """What deleting a checkpoint takes away: its file and its evaluation folder, with their bytes."""
    return [(path, _bytes(path)) for path in _both(folder, name) if os.path.exists(path)]


def check_deletable(folder: RunFolder, name: str) -> None:
    """Raise CheckpointError where a checkpoint may not be deleted: its run is at work, or may be."""
    if not name or Path(name).name != name or name.startswith("."):
        raise CheckpointError(f"{name!r} is no checkpoint's name", "choose one from the list")
    run = summarize(folder)
    if run.state in ACTIVE:
        raise CheckpointError(f"{folder.run_id} is {run.state}, and its engine needs its checkpoints",
                              "stop the run first, or wait until it has finished")
    if run.state == "damaged":
        raise CheckpointError(f"whether {folder.run_id} is at work cannot be told: {run.reason}",
                              f"once you know, remove {checkpoint_path(folder, name)} by hand")


def delete_checkpoint(folder: RunFolder, name: str) -> Trashed:
    """Move a checkpoint and its evaluation into the run's `.trash`, from where `restore_checkpoint` brings them back.

    Raises:
        CheckpointError: the run is active or cannot be judged, the file is not there, or it cannot be moved.
    """
    check_deletable(folder, name)
    file, evaluation = _both(folder, name)
    stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S.%f")
    place = Path(folder.checkpoints) / TRASH / f"{stamp}-{name}"
    try:
        place.mkdir(parents=True)
        _move_all([(file, place / file.name), (evaluation, place / _EVALUATION)])
    except OSError as error:
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
        raise _failure(f"{file} cannot be deleted", error) from None
    return Trashed(folder, name, place)


def trashed(folder: RunFolder) -> list[Trashed]:
    """The deleted checkpoints of a run, the last deleted one at the end; [] where they cannot be listed."""
    try:
        places = sorted((Path(folder.checkpoints) / TRASH).iterdir())
        return [Trashed(folder, file.stem, place) for place in places for file in place.glob(f"*{SUFFIX}")]
    except OSError:
        return []


def restore_checkpoint(deleted: Trashed) -> Path:
    """Bring a deleted checkpoint and its evaluation back; returns the file.

    Raises:
        CheckpointError: there is a checkpoint or an evaluation of that name by now, or it cannot be moved.
    """
    file, evaluation = _both(deleted.folder, deleted.name)
    for path in (file, evaluation):
        if os.path.lexists(path):
            raise CheckpointError(f"{path} is there again", f"move it away first; {deleted.place} stays as it is")
    try:
        evaluation.parent.mkdir(exist_ok=True)
        _move_all([(deleted.place / file.name, file), (deleted.place / _EVALUATION, evaluation)])
        deleted.place.rmdir()
    except OSError as error:
        raise _failure(f"{deleted.name} cannot be restored from {deleted.place}", error) from None
    return file


def _both(folder: RunFolder, name: str) -> tuple[Path, Path]:
    return checkpoint_path(folder, name), folder.evaluation(name)


def _move_all(moves: list[tuple[Path, Path]]) -> None:
    """Rename each pair; the first must be there. All of them or none."""
    done: list[tuple[Path, Path]] = []
    try:
        for number, (source, target) in enumerate(moves):
            if number == 0 or source.exists():
                os.rename(source, target)
                done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            os.rename(target, source)
        raise


def _keep(target: Path) -> Path:
    """A copy of what is about to be replaced; one that is kept already is not kept twice."""
    folder = target.parent / REPLACED
    for known in folder.glob(f"*{SUFFIX}"):
        if same_bytes(known, target):
            return known
    stamp = datetime.fromtimestamp(target.stat().st_mtime).strftime("%Y-%m-%d-%H%M%S.%f")
    kept = folder / f"{target.stem}-{stamp}{SUFFIX}"
    _copy(target, kept)
    return kept


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as content, replacing(target) as file:
        shutil.copyfileobj(content, file)


def _bytes(path: Path) -> int:
    try:
        files = [path] if path.is_file() else [inside for inside in path.rglob("*") if inside.is_file()]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0


def _failure(what: str, error: OSError) -> CheckpointError:
    return CheckpointError(f"{what}: {error.strerror or error}", "check the permissions and the free space (df -h)")
