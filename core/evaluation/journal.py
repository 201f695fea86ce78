"""Verdicts that are not yet a results file: an evaluation that was cut short goes on from them.

A journal stands beside the results file until that is written. It has one JSON line an outcome, in order of completion,
and one for each process that worked on it. Other work that is worth keeping has one as well, in words of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, get_args

from core.contract.config import EvaluationSettings
from core.contract.errors import DataError
from core.contract.event_log import read_jsonl
from core.contract.files import append_whole
from core.contract.liveness import process_start
from core.data.humaneval import Problem
from core.evaluation.verdicts import Isolation

STRONGEST_FIRST: tuple[str, ...] = get_args(Isolation)

_MEANING = 1
"""Raise it when the same program would get another verdict from us: older journals then count for nothing."""

def work_key(problem: Problem, completion: str, number: int, settings: EvaluationSettings) -> str:
    """A hash of all that a verdict depends on except the isolation, which only the machine knows.

    Args:
        number: which of the problem's samples it is: equal texts are executed each for itself.
    """
    limits = [settings.timeout_seconds, settings.memory_limit_mb]
    work = [_MEANING, sys.version, dataclasses.astuple(problem), completion, number, limits]
    return hashlib.sha256(json.dumps(work).encode("ascii")).hexdigest()


def strength(isolation: str) -> int:
    """A number to compare levels of isolation by; 0 for one that nobody knows."""
    return len(STRONGEST_FIRST) - STRONGEST_FIRST.index(isolation) if isolation in STRONGEST_FIRST else 0


class Journal:
    """The journal of one results file, locked against other processes while it is open (a context manager).

    A line is in the kernel's hands when `append` returns: a SIGKILL of this process loses nothing. A power cut loses
    the last seconds, which are executed again; an fsync a line would keep them, at milliseconds each on many disks.

    Raises:
        DataError: another process holds it, or its folder cannot be written to.
    """

    work = "evaluating"
    remedy = "mend its permissions, or name another place: softtune evaluate --output FILE"

    def __init__(self, results_path: Path) -> None:
        self.path = results_path.with_name(f"{results_path.name}.journal")
        self.findings: dict[str, dict[str, Any]] = {}
        """By work key: what was there when it was opened."""
        self._file: IO[bytes]
        self._worth_keeping = False

    def __enter__(self) -> Journal:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._locked()
        except OSError as error:
            raise DataError(f"results cannot be written into {self.path.parent}: {error.strerror}",
                            self.remedy) from None
        self._cut_torn_line()
        for row in read_jsonl(self.path):
            if isinstance(row.get("key"), str):
                self.findings[row.pop("key")] = row
        self._worth_keeping = bool(self.findings)
        self._write({"pid": os.getpid(), "host": socket.gethostname()})
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the outcomes for the next evaluation; without any, leave nothing."""
        with self._file:
            if self._worth_keeping:
                os.fsync(self._file.fileno())
            else:
                self.path.unlink(missing_ok=True)

    def append(self, key: str, findings: Mapping[str, Any]) -> None:
        """Write down one outcome; raises OSError, and leaves nothing torn."""
        self._write({"key": key, **findings})
        self._worth_keeping = True

    def finish(self) -> None:
        """The results file is whole: nothing here is needed any more."""
        self._worth_keeping = False

    def _write(self, row: Mapping[str, Any]) -> None:
        append_whole(self._file.fileno(), json.dumps(row).encode("ascii") + b"\n", self.path)

    def _locked(self) -> IO[bytes]:
        """The file, open and ours; one that its last user removed while we waited for the lock is not taken."""
        while True:
            file = open(self.path, "a+b")  # noqa: SIM115 - closed by __exit__
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise DataError(f"{self._holder()} is {self.work} into {self.path.with_suffix('')}",
                                "wait for it, or end it and run this again: what it has done is kept") from None
            except OSError:
                return file  # a file system without locks: keeping two evaluations apart is the user's part
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                    return file
            file.close()

    def _holder(self) -> str:
        """In words, the last process that said it was at work; one that is gone had no time to give way to its name."""
        with contextlib.suppress(OSError):
            named = [(row["pid"], row["host"]) for row in read_jsonl(self.path) if "pid" in row]
            pid, host = named[-1] if named else (0, "")
            if host not in ("", socket.gethostname()):
                return f"process {pid} on {host}"
            if pid and process_start(pid) is not None:
                return f"process {pid}"
        return "another process"

    def _cut_torn_line(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        self._file.truncate(content.rfind(b"\n") + 1)
