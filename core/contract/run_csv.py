"""A run as a table for spreadsheets and pandas: one row an optimizer step, with all that its events say of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.contract.errors import UsageError
from core.contract.event_log import EventTail
from core.contract.events import EpochCompleted, Event, RunStarted, StepCompleted, ValidationCompleted
from core.contract.runs import RunFolder

COLUMNS = (
    "step", "epoch", "time", "loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_allocated",
    "memory_reserved", "memory_peak", "memory_total", "memory_process", "skipped", "epoch_loss", "heldout_loss",
    "heldout_perplexity", "is_best",
)
"""Losses in nats, memory in bytes, time in ISO 8601 (UTC)."""

Row = dict[str, Any]


def run_csv(folder: RunFolder) -> str:
    """The table, with a header. Where a run has members, theirs one after the other, named in a column `member`.

    Figures are written in full; what was not measured is empty. The untrained prompt's held-out loss is in step 0.

    Raises:
        UsageError: the run has told of no step yet, or its events cannot be read.
    """
    members = folder.members()
    table: list[Row] = []
    for part in members or [folder]:
        try:
            rows = step_rows(EventTail(Path(part.events_file)).read())
        except OSError as error:
            raise UsageError(f"{part.events_file} cannot be read: {error.strerror}", "check its permissions") from None
        table += [{"member": part.root.name, **row} for row in rows]
    if not table:
        raise UsageError(f"{folder.run_id} has no steps to write", "softtune runs lists the runs and their states")
    text = io.StringIO()
    columns = ["member", *COLUMNS] if members else COLUMNS
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def step_rows(events: Iterable[Event]) -> list[Row]:
    """One row a step, in their order. What a resumed engine tells again replaces what was told before."""
    rows: dict[int, Row] = {}
    last = 0
    for event in events:
        match event:
            case RunStarted():
                last = event.resumed_from_step
                rows = {step: row for step, row in rows.items() if step <= last}
            case StepCompleted():
                last = event.step
                memory = {f"memory_{name}": value for name, value in event.memory if name != "device"}
                rows[last] = {
                    "step": last, "epoch": event.epoch, "time": _iso(event.time), "loss": event.loss,
                    "learning_rate": event.learning_rate, "grad_norm": event.grad_norm,
                    "tokens_per_second": event.tokens_per_second, "skipped": event.skipped, **memory,
                }
            case EpochCompleted() if last in rows:
                rows[last]["epoch_loss"] = event.train_loss
            case ValidationCompleted():
                new = {"step": event.step, "epoch": event.epoch, "time": _iso(event.time)}
                rows.setdefault(event.step, new).update(
                    heldout_loss=event.loss, heldout_perplexity=event.perplexity, is_best=event.is_best)
    return [rows[step] for step in sorted(rows)]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
