"""Standard streams of a process that runs a program."""

from __future__ import annotations

import contextlib
import io
import sys


def fresh() -> list[io.TextIOWrapper]:
    """Standard streams that take any character, lone surrogates included; the two that are written to."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="replace")  # type: ignore[misc]  # noqa: SIM115
    streams: list[io.TextIOWrapper] = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = io.TextIOWrapper(open(number, "wb"), "utf-8", "backslashreplace")  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        streams.append(stream)
    return streams


def flush(streams: list[io.TextIOWrapper]) -> None:
    """Write out what they hold."""
    for stream in streams:
        with contextlib.suppress(ValueError, OSError):  # the program closed it
            stream.flush()
