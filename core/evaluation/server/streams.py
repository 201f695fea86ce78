"""Standard streams of the processes that run programs, made once in the server: each fork writes to files 1 and 2."""

from __future__ import annotations

import contextlib
import io
import sys

_outputs: list[io.TextIOWrapper] = []


def prepare() -> None:
    """Exchange the standard streams for some that take any character, lone surrogates included."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="replace")  # type: ignore[misc]  # noqa: SIM115
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = io.TextIOWrapper(open(number, "wb"), "utf-8", "backslashreplace")  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        _outputs.append(stream)


def flush() -> None:
    """Write out what they hold."""
    for stream in _outputs:
        with contextlib.suppress(ValueError, OSError):  # the program closed it
            stream.flush()
