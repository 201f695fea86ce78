"""Output that nobody takes: training does not wait for it, and the reader gets all of it when it comes back."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from core.contract.runs import summarize
from tests.chaos.engines import Engine
from tests.chaos.kills import Job, played
from tests.chaos.survival import Broken, Keepsake, Outcome, run_in

PIPE_BYTES = 4096
"""The smallest pipe: less than a run prints."""


def blocked(job: Job, seconds: float) -> Outcome:
    """Print event lines into a pipe that nobody reads for so long, and then read them all."""

    def play(work: Path, kept: list[Keepsake]) -> None:
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        begun = time.monotonic()
        with open(reading, encoding="utf-8") as pipe, Engine(job.arguments, work, stdout=writing) as engine:
            os.close(writing)
            engine.until(lambda: any((work / "runs").glob("*/run.json"))
                         and summarize(run_in(work)).state == "finished", 60)
            time.sleep(max(0.0, begun + seconds - time.monotonic()))
            if engine.status is not None:
                raise Broken(f"it did not wait for its reader, and ended with {engine.status}: {engine.stderr}")
            told = pipe.read()
            status = engine.wait(30)
        kept.append(Keepsake(run_in(work), told))
        if status or told != run_in(work).events_file.read_text():
            raise Broken(f"it ended with {status}, and printed {len(told)} bytes that are not those of events.jsonl")

    return played(f"nobody takes its output for {seconds:g} s", job, play)
