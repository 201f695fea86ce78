"""What is asked before a checkpoint is published, scored or deleted: what will change, in full sentences."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.contract.checkpoint_files import REPLACED, TRASH, same_bytes, what_goes
from core.contract.record import ACTIVE
from core.contract.runs import BEST_PUBLISHED
from tui.checkpoints.catalogue import CheckpointRow
from tui.formatting import data_size
from tui.visible import visible_line


def called(row: CheckpointRow) -> str:
    """"best of 2026-11-23-221004-demo"."""
    return f"{visible_line(row.name)} of {visible_line(row.run.run_id)}"


def publish_words(row: CheckpointRow, rows: Iterable[CheckpointRow], target: Path = BEST_PUBLISHED) -> str:
    """What publishing replaces; "" where the checkpoint is published already. Compares files: for a worker thread."""
    if _same(row.path, target):
        return ""
    lines = ["Inference takes the soft prompt from there, unless it is told another."]
    if os.path.lexists(target):
        known = next((other for other in rows if not other.damage and _same(other.path, target)), None)
        what = called(known) if known else "a file that is no checkpoint of these runs"
        lines.append(f"It replaces {what}, of which a copy stays in {target.parent / REPLACED}/.")
    active = next((other for other in rows if other.state in ACTIVE), None)
    if active is not None:
        lines.append(f"{visible_line(active.run.run_id)} is at work: with its next best checkpoint it publishes that.")
    return "\n\n".join(lines)


def score_words(row: CheckpointRow) -> str:
    """What scoring does and how long it takes."""
    lines = ["Every problem of its run is completed with it and executed. That takes minutes, goes on while you look "
             "at other screens, and ends with the app."]
    if row.scored:
        lines.append("The scores that it has are replaced.")
    if row.state in ACTIVE:
        lines.append("Its run is at work: both will be slower, and need memory at the same time.")
    return "\n\n".join(lines)


def delete_words(row: CheckpointRow, rows: Sequence[CheckpointRow], inside: str = TRASH) -> str:
    """What deleting takes away, with sizes, and what the run loses. Looks at files: for a worker thread."""
    goes = what_goes(row.run, row.name)
    lines = ["\n".join(f"{visible_line(str(path))}  ({data_size(size)})" for path, size in goes)]
    lines += _losses(row, [other for other in rows if other.run.run_id == row.run.run_id and other.key != row.key])
    lines.append(f"They go to checkpoints/{inside}/ in the run's folder: u brings back what was deleted last. Nothing "
                 "empties that folder but you: until then the space is taken.")
    return "\n\n".join(lines)


def _losses(row: CheckpointRow, others: list[CheckpointRow]) -> list[str]:
    if not others:
        return ["It is the last checkpoint of its run."]
    if row.name == "last":
        return ["Training can go on only from this one."]
    twins = [other.name for other in others if row.step is not None and other.step == row.step]
    if row.name == "best":
        kept = f"The same soft prompt stays as {visible_line(twins[0])}." if twins else "No other has its soft prompt."
        return [f"It is the best checkpoint of its run. {kept}"]
    return []


def _same(a: Path, b: Path) -> bool:
    try:
        return a.stat().st_size == b.stat().st_size and same_bytes(a, b)
    except OSError:
        return False
