"""The process: its streams, and how it ends.

Closing its stdin ends it, and so does a signal. What it is doing then is unwound, so that no temporary file stays; what
does not let itself be unwound in time is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType

from core.console import captured_libraries
from core.contract.errors import EXIT_DONE
from core.contract.workbench import AnyReply, message_line
from core.workbench.answers import Answers
from core.workbench.conversation import Conversation

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

UNHURRIED_SECONDS = 0.5
"""After stdin's end, until what goes on (loading, an export) is interrupted."""
UNWINDING_SECONDS = 1.5
"""After a signal, until the process ends whatever it does; both together are shorter than the app's patience."""


class Asked(BaseException):
    """The process is asked to end. Not an Exception: nothing on the way takes it for a failure of its own."""


def main() -> None:
    """Converse until stdin ends, nobody hears any more, or a signal comes."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as core.cli does, and why
    with contextlib.suppress(Asked, BrokenPipeError), captured_libraries(None) as (out, _):
        for name in SIGNALS:
            signal.signal(name, _end)
        requests = _private_stdin()

        def say(reply: AnyReply) -> None:
            out.buffer.write(message_line(reply))
            out.buffer.flush()

        conversation = Conversation(Answers(), say)
        threading.Thread(target=_listen, args=(requests, conversation), daemon=True).start()
        conversation.run()
    sys.stderr.flush()
    os._exit(EXIT_DONE)  # there is nothing left to tidy up, and torch takes its time


def _private_stdin() -> int:
    """A descriptor of our own for the requests; a library that asks something finds an empty stdin instead."""
    requests = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return requests


def _listen(descriptor: int, conversation: Conversation) -> None:
    """In a thread of its own: hear requests while others are being answered, and see to it that the end is one."""
    with contextlib.suppress(OSError):  # a terminal that went away
        conversation.listen(descriptor)
    time.sleep(UNHURRIED_SECONDS)
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGTERM)  # to that thread, or what it waits for is not interrupted


def _end(number: int, frame: FrameType | None) -> None:
    for name in SIGNALS:
        signal.signal(name, signal.SIG_IGN)
    timer = threading.Timer(UNWINDING_SECONDS, os._exit, [EXIT_DONE])
    timer.daemon = True
    timer.start()
    raise Asked


if __name__ == "__main__":
    main()
