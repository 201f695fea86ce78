"""The process that has a tracker's package: messages in on stdin, a line a message; on stdout one line, if it fails."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable

from core.trackers.tracker import Package, TrackedRun, Tracker, package


def main() -> None:
    """Do what stdin says until it ends. Neither end is for packages, nor for what they start: they print to stderr."""
    messages = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        obey(package(sys.argv[1]), messages)
    except BaseException as error:  # a package may well raise SystemExit
        traceback.print_exception(error)
        print(" ".join(str(error).split()) or type(error).__name__, file=answers, flush=True)
        os._exit(1)  # its hooks might wait for what has just failed


def obey(package: Package, messages: Iterable[str]) -> None:
    """Do what messages say, as `Tracking` sends them."""
    runs: dict[str, Tracker] = {}
    for message in messages:
        match json.loads(message):
            case ["begin", str(member), dict(run)]:
                runs[member] = package.open_run(TrackedRun(**run))
            case ["scalars", str(member), int(step), dict(figures)]:
                runs[member].scalars(step, figures)
            case ["summary", str(member), dict(figures)]:
                runs[member].summary(figures)
            case ["close", str(member), ("finished" | "stopped" | "failed") as outcome]:
                runs.pop(member).close(outcome)
            case unknown:
                raise ValueError(f"no message: {unknown}")
    for left in runs.values():  # the engine was killed
        left.close("failed")


if __name__ == "__main__":
    main()
