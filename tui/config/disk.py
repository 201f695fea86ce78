"""The settings file on disk: which one it is, what is in it now, and writing it whole."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from core.contract.config import DEFAULT_CONFIG_FILE
from core.contract.errors import SofttuneError
from core.contract.files import write_whole
from tui.plan_words import Plan


@dataclass(frozen=True)
class Found:
    """A file's text with the line ends that it has; None and no fault where there is no file."""

    text: str | None
    fault: str = ""


def settings_file(plan: Plan) -> Path:
    """The file that the Config screen is about, which need not exist."""
    return plan.config_file or Path(DEFAULT_CONFIG_FILE)


def is_of_file(plan: Plan) -> bool:
    """Whether a run is started from that file; `--demo` alone starts from none."""
    return plan.config_file is not None or not plan.demo


def read_file(path: Path) -> Found:
    """What is there now."""
    try:
        return Found(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        return Found(None)
    except UnicodeDecodeError as error:
        return Found(None, f"{path} is not UTF-8 text: {error.reason} at byte {error.start}")
    except OSError as error:
        return Found(None, f"{path} cannot be read: {error.strerror}")


def write_file(path: Path, text: str) -> None:
    """Write the text whole or not at all; a link stays one, and so do the file's permissions.

    Raises SofttuneError where it cannot be written.
    """
    target = path.resolve()
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        write_whole(target, text)
        if mode is not None:
            os.chmod(target, mode)
    except OSError as error:
        raise SofttuneError(f"{path} cannot be written: {error.strerror}",
                            "check the folder and its permissions; nothing was changed") from None
