"""An exported folder is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from core.contract.errors import CheckpointError
from core.contract.estimate import gigabytes

OLD_SECONDS = 86_400
"""No export takes that long; what is older was left by one that was killed."""


@contextlib.contextmanager
def being_made(folder: Path) -> Iterator[Path]:
    """A folder beside it to write into, which gets its name when the block ends without an error.

    Args:
        folder: it must not exist yet, or be empty.

    Raises:
        CheckpointError: it is in use.
    """
    check_unused(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder, OLD_SECONDS)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_prefix(folder)) as unfinished:
        whole = Path(unfinished) / "whole"
        whole.mkdir()
        yield whole
        if folder.exists():
            folder.rmdir()
        os.rename(whole, folder)


def check_unused(folder: Path) -> None:
    """Raise CheckpointError where something would be overwritten."""
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is not an empty folder", "name a new one; nothing was overwritten")


def remove_unfinished(folder: Path, older: float = 0.0) -> None:
    """Remove what exports to this folder that were killed have left, `older` seconds ago or more."""
    with contextlib.suppress(OSError):
        for left in folder.parent.glob(f"{glob.escape(_prefix(folder))}*"):
            if time.time() - left.stat().st_mtime >= older:
                shutil.rmtree(left, ignore_errors=True)


def check_room(folder: Path, needed: int) -> None:
    """Raise CheckpointError where the disk that a folder is on has not that many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(f"the export takes {gigabytes(needed)}, and {folder.absolute().parent} is on a disk with "
                              f"{gigabytes(free)} free", "make room (df -h), or name a folder on another disk")


def _prefix(folder: Path) -> str:
    return f".{folder.name}.export-"
