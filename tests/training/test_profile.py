"""The time split: sections that add up, nested ones and those of several threads, and the trace."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core.contract.control import Command, StopRequested
from core.contract.events import Event, StepCompleted, TimeSplit
from core.model.loading import LoadedModel
from core.training import profile
from core.training.passes import MicroBatchPasses
from core.training.profile import SECTIONS, Stopwatch, profiled
from tests.training.conftest import MakeTrainer


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """A stopwatch whose clock is one second further each time it is looked at."""
    ticks = itertools.count()
    monkeypatch.setattr(profile, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    return Stopwatch(torch.device("cpu"))


def test_a_section_within_a_section_is_not_counted_twice(watch: Stopwatch) -> None:
    with watch("forward"):  # looked at 0
        with watch("head"):  # 1
            pass  # 2
        with watch("head"):  # 3
            pass  # 4
    # 5
    assert watch.seconds == {"forward": 3.0, "head": 2.0}


def test_an_error_closes_its_sections(watch: Stopwatch) -> None:
    with pytest.raises(KeyError), watch("forward"), watch("head"):
        raise KeyError
    with watch("data"):
        pass
    assert watch.seconds == {"forward": 2.0, "head": 1.0, "data": 1.0}


def test_threads_share_their_time(watch: Stopwatch) -> None:
    def work() -> None:
        with watch("forward", threads=2):
            pass

    with watch("data"):
        for _ in range(2):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert watch.seconds == {"data": 5.0, "forward": 1.0}


@pytest.mark.parametrize("rows", [True, False])
def test_a_profiled_training_is_the_same_and_tells_where_its_time_went(
    rows: bool, loaded: LoadedModel, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    def losses(events: list[Event]) -> list[float]:
        return [event.loss for event in events if isinstance(event, StepCompleted)]

    trainers = [make_trainer("training.batch_size=2") for _ in range(2)]
    for trainer in trainers:
        trainer.passes = trainer.passes if rows else MicroBatchPasses(loaded, 2)
    trace = tmp_path / "profile" / "trace.json.gz"
    *events, split = profiled(trainers[0], trace)
    assert losses(events) == losses(list(trainers[1].fit()))
    assert isinstance(split, TimeSplit) and split.steps == 6 and split.trace == str(trace)
    assert set(split.sections) == set(SECTIONS) and min(split.sections.values()) > 0
    assert sum(split.sections.values()) <= split.seconds
    named = {event.get("name") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]}
    assert {"softtune: forward", "softtune: head", "softtune: backward", "softtune: optimizer"} <= named


def test_a_stopped_training_tells_it_too(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer()
    seen: list[Event] = []

    def until_stopped() -> Iterator[Event]:
        for event in profiled(trainer, tmp_path / "trace.json.gz"):
            yield event
            if isinstance(event, StepCompleted):
                trainer.control.request(Command.STOP)

    with pytest.raises(StopRequested):
        seen.extend(until_stopped())
    assert isinstance(seen[-1], TimeSplit) and seen[-1].steps == 1 and Path(seen[-1].trace or "").exists()
