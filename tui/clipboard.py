"""Copying from a terminal that may be at the other end of an SSH link: an escape sequence for it, and a file."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.contract.files import write_whole
from tui.formatting import counted

LONGEST_SEQUENCE = 74_994
"""Bytes of text that terminals take by OSC 52: base64 makes a third more of them, and xterm's limit is 100,000."""


def osc52(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The escape sequence that puts text on the clipboard of the user's terminal; "" for a text that is too long.

    tmux obeys the plain form (`set-clipboard on`) or hands a wrapped one through (`allow-passthrough on`): it gets
    both. GNU screen only hands through.
    """
    data = text.encode("utf-8", "replace")
    if len(data) > LONGEST_SEQUENCE:
        return ""
    plain = f"\x1b]52;c;{base64.b64encode(data).decode('ascii')}\a"
    if environ.get("TMUX"):
        doubled = plain.replace("\x1b", "\x1b\x1b")
        return f"{plain}\x1bPtmux;{doubled}\x1b\\"
    if environ.get("TERM", "").startswith("screen"):
        return f"\x1bP{plain}\x1b\\"
    return plain


def copy_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the newest copy lies: $XDG_CACHE_HOME/softtune/copied.txt, else under ~/.cache."""
    base = environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if base.startswith("/") else Path(environ.get("HOME") or "/") / ".cache"
    return cache / "softtune" / "copied.txt"


@dataclass(frozen=True)
class Copied:
    """What became of a copy: in words, and whether a file has it."""

    message: str
    kept: bool


def copy(what: str, text: str, write: Callable[[str], None] | None) -> Copied:
    """Copy a text to the terminal's clipboard, through its `write`, and to a file."""
    path, sequence = copy_file(), osc52(text)
    if sequence and write is not None:
        write(sequence)
    try:
        write_whole(path, text.encode("utf-8", "replace"))
    except OSError as error:
        return Copied(f"{what}; not kept in a file: {error.strerror}: {error.filename}", False)
    where = f"in {home_relative(path)}" + ("" if sequence else "; too long for the clipboard")
    return Copied(f"{what}, {counted(text.count(chr(10)) + 1, 'lines')}: {where}", True)


def home_relative(path: Path, environ: Mapping[str, str] = os.environ) -> str:
    """A path as people write it: below the home folder it begins with ~."""
    home = environ.get("HOME", "")
    return f"~/{path.relative_to(home)}" if home and path.is_relative_to(home) else str(path)
