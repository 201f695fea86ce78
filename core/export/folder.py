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
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder, OLD_SECONDS)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{_prefix(folder)}{os.getpid()}-") as unfinished:
        whole = Path(unfinished) / "whole"
        whole.mkdir()
        yield whole
        os.rename(whole, folder)  # an empty folder of that name gives way


def check_unused(folder: Path) -> None:
    """Raise CheckpointError where something would be overwritten."""
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is not an empty folder", "name a new one; nothing was overwritten")
    if os.path.ismount(folder) or os.path.realpath(folder) == os.getcwd():
        raise CheckpointError(f"{folder} is a mount point, or the folder that this runs in",
                              "name a new folder in it: what is exported takes a folder's place as a whole")


def remove_unfinished(folder: Path, older: float = 0.0) -> None:
    """Remove what exports to this folder have left that were killed `older` seconds ago or more; 0: this process's."""
    folder = Path(os.path.realpath(folder))
    whose = "*" if older else f"{os.getpid()}-*"
    with contextlib.suppress(OSError):
        for left in folder.parent.glob(f"{glob.escape(_prefix(folder))}{whose}"):
            if time.time() - left.stat().st_mtime >= older:
                shutil.rmtree(left, ignore_errors=True)


def check_room(folder: Path, needed: int) -> None:
    """Raise CheckpointError where the disk that a folder is on has not that many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(f"the export takes {gigabytes(needed)}, and {folder.absolute().parent} is on a disk with "
                              f"{gigabytes(free)} free", "make room (df -h), or name a folder on another disk")


def _prefix(folder: Path) -> str:
    return f".{folder.name[:100]}.export-"
