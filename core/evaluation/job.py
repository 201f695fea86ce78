"""Scoring a completions file as a job of its own: configuration in, events out. No torch: it starts at once."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from core.contract.config import Config
from core.contract.control import ControlInbox, StopRequested
from core.contract.events import EvaluationCompleted, Event, RunFinished, RunStopped
from core.contract.files import FORMAT_VERSION, write_whole
from core.contract.record import Split
from core.data.dataset import problems_of_rows
from core.evaluation.completions import read_completions, read_good_lines
from core.evaluation.scoring import score
from core.failure import failure
from core.storage import until_written


def evaluate(
    config: Config, completions: Path, control: ControlInbox, *, results: Path | None = None,
    skip_bad_lines: bool = False,
) -> Iterator[Event]:
    """Run the completions of a file against their tests; train and held-out as the file's own rows say.

    An evaluation that was cut short goes on, given the same `results`.

    Args:
        results: the results file; None is <completions>_results.jsonl beside the completions.
        skip_bad_lines: leave malformed lines out, telling so; else they are an error.
    """
    start = time.perf_counter()
    try:
        rows, notices = read_good_lines(completions) if skip_bad_lines else (read_completions(completions), [])
        yield from notices
        problems = problems_of_rows(rows, config.dataset)
        evaluation = yield from with_summary(score(
            rows, problems, split_of_rows(rows), config.evaluation,
            results_path=results or completions.with_name(f"{completions.stem}_results.jsonl"),
            completions_path=completions, checkpoint=str(rows[0].get("checkpoint", completions)), control=control,
        ))
        yield RunFinished(evaluation=evaluation, seconds=time.perf_counter() - start)
    except StopRequested:
        yield RunStopped(step=0)
    except Exception as error:
        yield failure(error, "")


def with_summary(
    events: Iterator[Event], summary: Path | None = None, control: ControlInbox | None = None
) -> Generator[Event, None, EvaluationCompleted | None]:
    """Pass events through; the value is the EvaluationCompleted among them, written to `summary` as JSON."""
    evaluation = None
    for event in events:
        if isinstance(event, EvaluationCompleted):
            evaluation = event
            if summary:
                fields = event.model_dump(by_alias=True, exclude={"time", "type"})
                text = json.dumps({"format_version": FORMAT_VERSION, **fields}, indent=1) + "\n"
                yield from until_written(partial(write_whole, summary, text), control or ControlInbox())
        yield event
    return evaluation


def split_of_rows(rows: list[dict[str, object]]) -> Split | None:
    """The split that a completions file carries; None for a file that does not say."""
    sides: dict[Any, list[str]] = {"train": [], "heldout": []}
    for row in rows:
        side = row.get("split")
        if side in ("train", "heldout"):
            sides[side].append(str(row["task_id"]))
    return Split(train=sides["train"], heldout=sides["heldout"]) if any(sides.values()) else None
