"""What a run's events and evaluations say of its checkpoints. A log of any length can be looked at every second."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from core.contract.events import (
    CheckpointSaved,
    EpochCompleted,
    ModelLoaded,
    Score,
    TrainingPlanned,
    ValidationCompleted,
    parse_event,
)

LONGEST_LINE = 4_000_000
LARGEST_SUMMARY = 1_000_000
"""Bytes; anything larger is not what an engine writes."""

_TELLING = re.compile(
    rb'"type": ?"(?:EpochCompleted|ValidationCompleted|CheckpointSaved|TrainingPlanned|ModelLoaded)"')
"""A long log is nearly all steps: only lines with one of these are worth parsing."""

Stamp = tuple[int, int, int, int] | None


def stamp_of(path: Path) -> Stamp:
    """What changes when a file or its permissions do; None where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True)
class RunFacts:
    """What the events of a run say so far."""

    train_losses: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    """Mean training loss by epoch."""
    validations: Mapping[int, ValidationCompleted] = field(default_factory=lambda: MappingProxyType({}))
    """By step; of the untrained prompt at step 0."""
    saved: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    """Epoch and step by the checkpoint's name."""
    best: tuple[int, int] | None = None
    last: tuple[int, int] | None = None
    plan: TrainingPlanned | None = None
    virtual_tokens: int | None = None
    fault: str = ""

    def place(self, name: str) -> tuple[int | None, int | None]:
        """Epoch and step of a checkpoint; (None, None) where the events do not say."""
        spare = {"best": self.best, "last": self.last}.get(name)
        return self.saved.get(name) or spare or (None, None)


class FactsReader:
    """Reads events.jsonl from where it stopped the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp = None
        self._offset = 0
        self._facts = RunFacts()

    def read(self) -> RunFacts:
        """The facts by now; never raises."""
        stamp = stamp_of(self._path)
        if stamp is None or stamp != self._stamp:
            if stamp is None or self._stamp is None or stamp[0] != self._stamp[0] or stamp[1] < self._offset:
                self._offset, self._facts = 0, RunFacts()
            self._stamp = stamp
            self._facts = self._with_news(replace(self._facts, fault=""))
        return self._facts

    def _with_news(self, facts: RunFacts) -> RunFacts:
        name = self._path.name
        try:
            if not stat.S_ISREG(self._path.stat().st_mode):
                return replace(facts, fault=f"{name} is no file")
            return _advance(facts, self._lines())
        except FileNotFoundError:
            return replace(facts, fault=f"there is no {name}")
        except OSError as error:
            return replace(facts, fault=f"{name} cannot be read: {error.strerror}")

    def _lines(self) -> Iterator[bytes]:
        """New whole lines that say something of checkpoints."""
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            while line := file.readline(LONGEST_LINE):
                if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                    return  # torn: it is read again when there is more of it
                self._offset += len(line)
                if _TELLING.search(line):
                    yield line


def _advance(facts: RunFacts, lines: Iterator[bytes]) -> RunFacts:
    losses, validations, saved = dict(facts.train_losses), dict(facts.validations), dict(facts.saved)
    best, last, plan, tokens = facts.best, facts.last, facts.plan, facts.virtual_tokens
    for line in lines:
        event = parse_event(line)
        if isinstance(event, EpochCompleted):
            losses[event.epoch] = event.train_loss
        elif isinstance(event, ValidationCompleted):
            validations[event.step] = event
            best = (event.epoch, event.step) if event.is_best else best
        elif isinstance(event, CheckpointSaved):
            saved[Path(event.path).stem] = last = (event.epoch, event.step)
        elif isinstance(event, TrainingPlanned):
            plan = event
        elif isinstance(event, ModelLoaded):
            tokens = event.num_virtual_tokens
    return RunFacts(MappingProxyType(losses), MappingProxyType(validations), MappingProxyType(saved), best, last, plan,
                    tokens)


@dataclass(frozen=True)
class Scores:
    """All, training and held-out problems of one evaluation."""

    overall: Score | None = None
    train: Score | None = None
    heldout: Score | None = None


def read_scores(path: Path) -> Scores:
    """The scores of a summary.json, without scores where there is none.

    Raises:
        OSError, ValueError: it is there and cannot be read, or is not a summary.
    """
    try:
        if path.stat().st_size > LARGEST_SUMMARY:
            raise ValueError("too large for a summary")
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Scores()
    except RecursionError:
        raise ValueError("too deeply nested") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return Scores(*(Score.model_validate(value.get(key)) for key in ("all", "train", "heldout")))
