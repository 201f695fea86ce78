"""Whether a run survived: it ends as if nothing had happened, and nothing that was whole on disk has gone.

Bytes lost are those of event lines and of checkpoint files that a run had written whole, or event lines that it had
told on stdout, at the moment of the fault, and that the run does not have when all is over:

- an event line counts where it is not in events.jsonl at its old place any more; that a run waits for its disk may be
  told on stdout alone;
- epoch_*.pt and best.pt count with their size where they are gone or hold another prompt (a best.pt may be of a later
  epoch by then);
- last.pt (or last.pt.previous, where it alone is there) counts with its size where the run went on from an earlier step
  than it holds.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.contract.errors import CheckpointError
from core.contract.event_log import EventTail
from core.contract.events import Event, RunFinished, RunStarted, StepCompleted, ValidationCompleted
from core.contract.files import FORMAT_VERSION
from core.contract.runs import RunFolder, summarize
from core.model.checkpoint import Checkpoint, load_checkpoint
from core.training.checkpoints import LAST, PREVIOUS

Curve = dict[tuple[str, int], tuple[Any, ...]]
"""What was measured at each step and validation: floats, compared to the last bit."""


class Broken(AssertionError):
    """A run that did not survive, and in what way."""


@dataclass(frozen=True)
class Outcome:
    """What came of one fault."""

    what: str
    survived: bool
    lost: int = 0
    """Bytes."""
    why: str = ""
    """What broke, where it did not survive."""


def run_in(folder: Path) -> RunFolder:
    """The only run below a folder."""
    (root,) = (folder / "runs").iterdir()
    return RunFolder(root)


def read_events(run: RunFolder) -> list[Event]:
    """All events of a run; raises Broken where a line is none."""
    tail = EventTail(run.events_file)
    events = tail.read()
    if tail.skipped or tail.unknown:
        raise Broken(f"events.jsonl has {tail.skipped + tail.unknown} lines that are no events")
    return events


def curve(events: list[Event]) -> Curve:
    """The curve that a reader of the events gets: what comes after a resume takes the place of what came before it.

    Raises:
        Broken: a step that was taken again gave other numbers, or steps are missing.
    """
    points: Curve = {}
    step = 0
    for event in events:
        if isinstance(event, RunStarted):
            if event.resumed_from_step > step:
                raise Broken(f"it went on from step {event.resumed_from_step}, and had told of {step}")
            step = event.resumed_from_step
            continue
        if isinstance(event, StepCompleted):
            if event.step != step + 1:
                raise Broken(f"step {event.step} came after step {step}")
            step = event.step
            key = ("step", step)
            figures: tuple[Any, ...] = (event.epoch, event.loss, event.learning_rate, event.grad_norm)
        elif isinstance(event, ValidationCompleted):
            key, figures = ("validation", event.epoch), (event.step, event.loss, event.perplexity, event.is_best)
        else:
            continue
        if points.setdefault(key, figures) != figures and not any(map(math.isnan, figures)):
            raise Broken(f"{key[0]} {key[1]} was told as {points[key]}, and then as {figures}")
    return points


@dataclass(frozen=True)
class Reference:
    """A run that nothing disturbed: what every other one with the same settings must come to."""

    curve: Curve
    checkpoints: dict[str, dict[str, Any]]
    texts: dict[str, list[dict[str, Any]]]
    """Rows of completions.jsonl and results.jsonl."""

    @classmethod
    def of(cls, run: RunFolder, *, with_curve: bool = True) -> Reference:
        """What a run has come to."""
        return cls(curve(read_events(run)) if with_curve else {}, _checkpoints(run), _texts(run))


def check(run: RunFolder, reference: Reference, *, log_damaged: bool = False) -> None:
    """Raise Broken unless a run has finished, is what the reference is to the last bit, and has left nothing behind.

    Args:
        log_damaged: its events were spoilt; then its curve is not looked at.
    """
    events = EventTail(run.events_file).read() if log_damaged else read_events(run)
    state = summarize(run).state
    if state != "finished" or not isinstance(events[-1], RunFinished):
        raise Broken(f"it is {state}, and its last event is {events[-1].type}")
    found = Reference.of(run, with_curve=not log_damaged)
    for name, ours, wanted in (
        ("curve", found.curve, {} if log_damaged else reference.curve),
        ("checkpoints", found.checkpoints, reference.checkpoints),
        ("completions and results", found.texts, reference.texts),
    ):
        difference = unequal(ours, wanted)
        if difference:
            raise Broken(f"its {name} differ from an uninterrupted run's: {difference}")
    left = [path.name for path in run.root.rglob(".*") if path.name.endswith(".tmp") or path.name == ".reserve"]
    if left:
        raise Broken(f"it left {', '.join(left)} behind")
    published = run.root.parents[1] / "soft_prompts" / "best_soft_prompts.pt"
    if published.read_bytes() != (run.checkpoints / "best.pt").read_bytes():
        raise Broken("soft_prompts/best_soft_prompts.pt is not its best.pt")


def unequal(ours: Any, wanted: Any, place: str = "") -> str:
    """Where two nested structures of plain values and tensors differ; "" where they are equal to the last bit."""
    if isinstance(wanted, torch.Tensor):
        same = isinstance(ours, torch.Tensor) and ours.dtype == wanted.dtype and torch.equal(ours, wanted)
        return "" if same else f"the tensor{place}"
    if isinstance(wanted, dict) and isinstance(ours, dict):
        if ours.keys() != wanted.keys():
            return f"{place or 'the whole'} has {sorted(map(str, ours))}, not {sorted(map(str, wanted))}"
        return next(filter(None, (unequal(ours[key], wanted[key], f"{place} {key}") for key in wanted)), "")
    if isinstance(wanted, list | tuple) and isinstance(ours, list | tuple) and len(ours) == len(wanted):
        pairs = enumerate(zip(ours, wanted, strict=True))
        return next(filter(None, (unequal(*pair, f"{place} {number}") for number, pair in pairs)), "")
    return "" if ours == wanted else f"{place or 'the whole'} is {ours!r}, not {wanted!r}"[:300]


def _checkpoints(run: RunFolder) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(run.checkpoints.glob("*.pt")):
        content = torch.load(path, weights_only=True)
        if content.pop("run_id") != run.run_id or content["format_version"] != FORMAT_VERSION:
            raise Broken(f"{path.name} says that it is of another run or format")
        found[path.name] = content
    return found


MEASURED = re.compile(r"seconds|memory|^checkpoint$|^run_id$|^isolation$|^traceback$")
"""Keys of a results row that no two executions share."""


def _texts(run: RunFolder) -> dict[str, list[dict[str, Any]]]:
    return {
        str(path.relative_to(run.root)): [
            {key: value for key, value in json.loads(line).items() if not MEASURED.search(key)}
            for line in path.read_text().splitlines()
        ]
        for path in sorted(run.root.glob("evaluations/*/*.jsonl"))
    }


OF_TROUBLE = re.compile(rb'"type":"(Notice|RunPaused|RunResumed)"')
"""Events that tell of a disk that does not take anything, and so not them either."""


class Keepsake:
    """What a run has whole on disk at the moment of a fault, so that its loss can be told afterwards.

    Args:
        told: the event lines that the engine had printed.
        damaged: some checkpoints are damaged by the fault itself, and are no loss of ours.

    Raises:
        Broken: a checkpoint is damaged.
    """

    def __init__(self, run: RunFolder, told: str = "", *, damaged: bool = False) -> None:
        log = run.events_file.read_bytes() if run.events_file.exists() else b""
        self.lines = log[: log.rfind(b"\n") + 1].splitlines(keepends=True)
        written = set(self.lines)
        self.unwritten = [line for line in told.encode().splitlines(keepends=True)
                          if line.endswith(b"\n") and line not in written and not OF_TROUBLE.search(line)]
        """Told, and yet not in the log."""
        self.starts = sum(b'"RunStarted"' in line for line in self.lines)
        self.checkpoints: dict[str, tuple[int, Checkpoint]] = {}
        names = {path.name: path for path in run.checkpoints.glob("*.pt")}
        if (run.checkpoints / PREVIOUS).exists():
            names.setdefault(LAST, run.checkpoints / PREVIOUS)  # between two renames it is the last one
        for name, path in names.items():
            try:
                self.checkpoints[name] = (path.stat().st_size, load_checkpoint(path))
            except CheckpointError as error:
                if not damaged:
                    raise Broken(f"after the fault {error.what}") from None

    def lost(self, run: RunFolder) -> int:
        """Bytes of it that a run has no more."""
        now = run.events_file.read_bytes().splitlines(keepends=True)
        kept = [*now, *[b""] * len(self.lines)]
        gone = [*self.unwritten, *(line for line, there in zip(self.lines, kept, strict=False) if line != there)]
        later = [event for event in EventTail(run.events_file).read() if isinstance(event, RunStarted)][self.starts:]
        total = sum(map(len, gone))
        for name, (size, before) in self.checkpoints.items():
            if name == LAST:
                intact = not later or later[0].resumed_from_step >= before.step
            else:
                after = _loaded(run.checkpoints / name)
                intact = after is not None and (after.epoch > before.epoch and name == "best.pt"
                                                or torch.equal(after.soft_prompt, before.soft_prompt))
            total += 0 if intact else size
        return total


def _loaded(path: Path) -> Checkpoint | None:
    try:
        return load_checkpoint(path)
    except CheckpointError:
        return None
