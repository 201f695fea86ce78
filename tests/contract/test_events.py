"""The wire format, and readers that survive what a crash or a newer version leaves."""

import json
import math
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from core.contract.control import Command, ControlInbox, StopRequested, heed, send
from core.contract.event_log import EventLog, EventTail
from core.contract.events import (
    EvaluationCompleted,
    Event,
    Memory,
    RunPaused,
    RunResumed,
    Score,
    StepCompleted,
    event_line,
    parse_event,
)

MEMORY = Memory(device="cpu", allocated=1, reserved=1, peak=2, total=3, process=1)


def step(number: int, loss: float = 1.0) -> StepCompleted:
    return StepCompleted(step=number, total_steps=9, epoch=1, loss=loss, learning_rate=0.1, grad_norm=0.5,
                         tokens_per_second=10.0, memory=MEMORY)


def test_every_event_is_frozen_documented_and_named_by_its_type() -> None:
    for kind in get_args(Event):
        assert kind.__doc__ and kind.model_fields["type"].default == kind.__name__
    with pytest.raises(ValidationError):
        step(1).step = 2  # type: ignore[misc]


def test_an_event_comes_back_from_its_line() -> None:
    event = step(3)
    assert parse_event(event_line(event)) == event


def test_scores_of_one_sample_are_those_of_older_logs() -> None:
    line = ('{"time":1.0,"type":"EvaluationCompleted","checkpoint":"best","all":{"total":3,"passed":1,"failed":2,'
            '"pass@1":0.25},"train":{"total":0,"passed":0,"failed":0,"pass@1":null},"heldout":{"total":3,"passed":1,'
            '"failed":2,"pass@1":0.25},"isolation":"process","completions_path":"c","results_path":"r","seconds":0.0}')
    event = parse_event(line)
    assert isinstance(event, EvaluationCompleted)
    assert event.overall.interval() == pytest.approx((0.061, 0.792), abs=1e-3)
    added = event.overall.model_dump_json(by_alias=True, include={"intervals"})[1:-1]
    assert event_line(event).replace(f",{added}", "") == line
    assert (event.overall.samples, event.overall.several, event.overall.pass_at_10) == (3, False, None)


def test_scores_of_several_samples_come_back_from_their_line() -> None:
    score = Score.of([(0, 100), (3, 120)])
    event = EvaluationCompleted(checkpoint="x", overall=score, train=score, heldout=Score.of([]), isolation="",
                                completions_path="c", results_path="r")
    read = parse_event(event_line(event))
    assert read == event and isinstance(read, EvaluationCompleted) and read.overall.several
    assert list(json.loads(event_line(event))["all"]) == [
        "total", "passed", "failed", "pass@1", "pass@10", "pass@100", "samples"]


def test_nan_travels_as_valid_json() -> None:
    line = event_line(step(1, math.nan))
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert math.isnan(parse_event(line).loss)  # type: ignore[union-attr]


def test_a_newer_type_a_newer_key_and_a_torn_line() -> None:
    assert parse_event('{"type": "FromTheFuture", "time": 1, "x": 2}').type == "FromTheFuture"  # type: ignore[union-attr]
    assert isinstance(parse_event('{"type": "RunPaused", "time": 1, "new_key": 2}'), RunPaused)
    assert parse_event('{"type": "RunPau') is None
    assert parse_event('{"type": "StepCompleted", "time": 1}') is None
    assert parse_event("17") is None


def test_the_tail_gives_each_event_once_and_waits_for_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    tail = EventTail(file)
    assert tail.read() == []
    line = event_line(step(1)).encode()
    file.write_bytes(line[:20])
    assert tail.read() == []
    with open(file, "ab") as more:
        more.write(line[20:] + b"\nnot an event\n" + b'{"type": "FromTheFuture", "time": 1}\n' + line[:5])
    assert [event.type for event in tail.read()] == ["StepCompleted"]
    assert (tail.skipped, tail.unknown) == (1, 1)
    assert tail.read() == []


def test_a_log_that_is_opened_again_loses_only_the_torn_line(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    first = EventLog(file)
    first.append(step(1))
    first.close()
    with open(file, "ab") as torn:
        torn.write(b'{"type": "StepComp')
    second = EventLog(file)
    second.append(step(2))
    second.close()
    assert [event.step for event in EventTail(file).read()] == [1, 2]  # type: ignore[union-attr]


def test_control_obeys_in_order_and_a_stop_is_final(tmp_path: Path) -> None:
    file = tmp_path / "control.jsonl"
    send(file, Command.STOP)
    inbox = ControlInbox(file)
    assert inbox.state == Command.RESUME  # the stop was meant for an engine before this one
    send(file, Command.PAUSE)
    assert inbox.state == Command.PAUSE
    with open(file, "a") as foreign:
        foreign.write('{"command": "dance"}\nrubbish\n')
    send(file, Command.STOP)
    send(file, Command.RESUME)
    assert inbox.state == Command.STOP


def test_heed_pauses_resumes_and_stops(tmp_path: Path) -> None:
    file = tmp_path / "control.jsonl"
    inbox = ControlInbox(file)
    assert list(heed(inbox)) == []
    send(file, Command.PAUSE)
    waiting = heed(inbox)
    assert isinstance(next(waiting), RunPaused)
    send(file, Command.RESUME)
    assert isinstance(next(waiting), RunResumed)
    send(file, Command.STOP)
    with pytest.raises(StopRequested):
        list(heed(inbox))
