"""What an exception says of itself, as plain facts. The code that raised it may make every question raise again."""

from __future__ import annotations

import itertools
import os
import types

FILE = "<completion>"
"""The file name of a program's own lines in tracebacks."""

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
LONGEST_MESSAGE, LONGEST_NAME, MOST_BASES = 2000, 100, 20
_FIRST_FRAMES, _LAST_FRAMES = 8, 16


def facts_of(error: BaseException) -> dict[str, object]:
    """Kind, name, message and frames of an exception; never raises, but for MemoryError."""
    try:
        return _facts(error)
    except MemoryError:
        return {"kind": "memory"}
    except BaseException:
        return {"kind": "raised", "name": _name(type(error)), "message": "it hides what it says", "frames": []}


def _facts(error: BaseException) -> dict[str, object]:
    kind = type(error)  # not `isinstance`, which asks the exception
    if issubclass(kind, MemoryError):
        return {"kind": "memory"}
    if issubclass(kind, SystemExit):
        return {"kind": "exit"}
    frames = []
    entry = BaseException.__dict__["__traceback__"].__get__(error)  # past what its class says of it
    while entry is not None:
        if not entry.tb_frame.f_code.co_filename.startswith(_HERE):  # ours are not what went wrong
            frames.append(_frame(entry))
        entry = entry.tb_next
    if issubclass(kind, SyntaxError) and error.filename == FILE:
        frames.append((FILE, error.lineno or 0, error.lineno or 0, "<module>"))
        message = str(error.msg)
    else:
        message = str(error)
    return {
        "kind": "raised", "assertion": issubclass(kind, AssertionError), "name": _name(kind),
        "message": message[:LONGEST_MESSAGE], **shortened(frames),
        "bases": [base.__name__ for base in kind.__mro__ if getattr(base, "__module__", "") == "builtins"][:MOST_BASES],
    }


def _name(kind: type) -> str:
    name: str = type.__dict__["__name__"].__get__(kind)
    return name[:LONGEST_NAME]


def shortened(frames: list[tuple[str, int, int, str]], cut: int = 0) -> dict[str, object]:
    """The first and last frames, and how many there were between; `cut` of them are missing already."""
    more = max(0, len(frames) - _FIRST_FRAMES - _LAST_FRAMES)
    shown = frames if not more else frames[:_FIRST_FRAMES] + frames[-_LAST_FRAMES:]
    return {"frames": shown, "cut": cut + more, "first": _FIRST_FRAMES}


def _frame(entry: types.TracebackType) -> tuple[str, int, int, str]:
    """File, first and last line of the statement, function."""
    code = entry.tb_frame.f_code
    first, last, *_ = next(itertools.islice(code.co_positions(), entry.tb_lasti // 2, None), (None, None))
    line = entry.tb_lineno or 0
    return code.co_filename[-LONGEST_NAME:], first or line, last or line, code.co_name[:LONGEST_NAME]
