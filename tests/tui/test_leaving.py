"""The end of the app's process."""

from __future__ import annotations

import subprocess
import sys

from core.cli import COMMANDS
from tui.__main__ import SUBCOMMANDS

LEFT_BEHIND = """
import threading, time
from tui import leaving
leaving.LEAVE_SECONDS = 0.1
threading.Thread(target=lambda: [time.sleep(0.01) for _ in range(10**9)]).start()
print("parting words")
leaving.end(3)
"""


def test_a_thread_that_goes_on_for_ever_does_not_keep_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "parting words\n")


def test_every_command_of_the_engine_is_handed_to_it() -> None:
    assert frozenset(COMMANDS) == SUBCOMMANDS
