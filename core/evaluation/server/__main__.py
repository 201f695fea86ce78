"""The server's loop: take a program from the engine, execute it, tell the engine the facts."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
import types

import namespaces
import privileges
import processes
import streams
import wire
from confinement import Confinement
from execution import EngineGone, Execution, Folder

sys.path.pop(0)  # this folder: its modules are not for the programs
sys.dont_write_bytecode = True  # from here on

PRELOADED = (
    "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib",
    "heapq", "itertools", "math", "operator", "random", "re", "string", "statistics", "typing",
)


def main(level: str, folder: str, tests: int) -> None:
    """Serve until the engine closes the connection, which is file 0; `tests` is the one for the tests."""
    control = socket.socket(fileno=os.dup(0))
    try:
        confinement = Confinement(level)
        if level == "namespaces":
            namespaces.enter()
            server = os.fork()
            if server:
                control.close()
                os.close(tests)
                os.waitpid(server, 0)
                return
            privileges.die_with_parent()
            namespaces.furnish()
        else:
            privileges.adopt_orphans()
        privileges.open_to_others(False)
    except (OSError, AttributeError, KeyError) as error:  # AttributeError: a C library without the call
        wire.send(control, {"refused": getattr(error, "strerror", None) or str(error)})
        return
    for name in PRELOADED:
        __import__(name)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    streams.prepare()
    os.umask(0o077)
    become_anonymous()
    gc.freeze()  # keep what is shared with the children shared
    try:
        server_loop(control, socket.socket(fileno=tests), Folder(level, folder), confinement)
    finally:
        if level != "namespaces":
            processes.remove_tree(folder)  # the engine may be gone, and cannot


def become_anonymous() -> None:
    """Take our own modules out of the programs' easy reach, and give them a `__main__` of their own.

    Here and not in each program's process, which would touch, and so copy, the memory of all that it takes out.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    for name, module in list(sys.modules.items()):
        if os.path.dirname(os.path.abspath(getattr(module, "__file__", None) or "")) == here:
            del sys.modules[name]
    if "execution" in sys.modules:
        raise RuntimeError(f"the server's own modules are not in {here}")
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = [""]
    os.environ.pop("PYTHONHASHSEED", None)


def server_loop(control: socket.socket, tests: socket.socket, folder: Folder, confinement: Confinement) -> None:
    """Answer one job after the other, until the engine hangs up or a program has spoilt the working folder."""
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # with a handler, the end of a child wakes the selector
    wire.send(control, {"isolation": folder.level})
    while not folder.spoilt and (job := wire.receive(control)) is not None:
        try:
            source = wire.read(control, job["source_bytes"])
            if source is None:
                return
            Execution(job, source, folder, tests, confinement).run(control)
        except EngineGone:
            return
        except Exception:
            wire.send(control, {"fault": traceback.format_exc()})  # ours or the machine's: the engine tries it again
            return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
