"""What an engine died of, in words: how its process ended, and what the kernel says of the machine's memory."""

from __future__ import annotations

import signal
import socket

from core.contract.liveness import boot_id, oom_kills
from core.contract.record import RunRecord

REMEDY = ("end other programs and go on; or start anew, and halve training.batch_size and double "
          "training.gradient_accumulation_steps, or take a smaller model")
"""What to do where the machine has too little memory."""


def killed_since(before: int | None) -> int | None:
    """How many processes the kernel has killed for want of memory since it had killed `before`; None: not known."""
    now = oom_kills()
    return None if now is None or before is None else max(0, now - before)


def of_status(status: int, killed: int | None, when: str = "") -> str:
    """What an exit status says.

    Args:
        status: that of `Popen.poll`: below 0 it is that of a signal.
        killed: processes that were killed for want of memory since the engine began; None where that is not known.
        when: the time of it, where that says something: " before …".
    """
    if status >= 0:
        return f"it ended with exit status {status}{when}"
    if status != -signal.SIGKILL:
        return f"it was killed by {_signal_words(-status)}{when}"
    if killed:
        return f"it was killed by SIGKILL{when}, {_out_of_memory(killed)}"
    if killed is None:
        return f"it was killed by SIGKILL{when}: by somebody, or for want of memory (this kernel does not tell)"
    return f"it was killed by SIGKILL{when}: by somebody or a watchdog, not by the kernel's out-of-memory killer"


def of_record(reason: str, record: RunRecord) -> str:
    """What is known of an engine that is gone, besides that it is (`reason`), where its exit status is not."""
    here = record.host == socket.gethostname() and record.boot_id in ("", boot_id())
    killed = killed_since(record.oom_kills) if here and record.pid is not None else None
    return f"{reason}, killed {_out_of_memory(killed)}" if killed else reason


def parted(reason: str) -> tuple[str, str]:
    """What an engine died of, and what to do about it, "" where it does not say."""
    what, remedy, _ = reason.partition(f": {REMEDY}")
    return what, REMEDY if remedy else ""


def _out_of_memory(killed: int) -> str:
    processes = "1 process" if killed == 1 else f"{killed:,} processes"
    return (f"most likely by the kernel's out-of-memory killer ({processes} killed for want of memory since it began): "
            f"{REMEDY}")


def _signal_words(number: int) -> str:
    """"SIGSEGV (Segmentation fault)"."""
    try:
        return f"{signal.Signals(number).name} ({signal.strsignal(number)})"
    except ValueError:
        return f"signal {number}"
