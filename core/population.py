"""Several runs in one process: they share the model and its passes, and each has a run folder of its own.

A cross-validation or a sweep is made of such members. What they tell goes to the log of each, as if it ran alone, and
through the job that has them, signed with their numbers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from core.contract.config import Config
from core.contract.control import ControlInbox, StopRequested
from core.contract.errors import SofttuneError
from core.contract.estimate import activation_bytes, score_bytes, shape_of
from core.contract.events import (
    Event,
    MemberEvent,
    ModelLoaded,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
)
from core.contract.runs import RunFolder
from core.data.dataset import Dataset, SplitBy, prepare_dataset
from core.data.humaneval import split_problems
from core.failure import failure
from core.jobs import model_loaded
from core.model.loading import LoadedModel
from core.model.memory import free_bytes
from core.recorder import Recorder
from core.storage import until_written
from core.training.checkpoints import load_last
from core.training.loop import Trainer
from core.training.member import Member
from core.training.setup import announce, build_member, choose_passes, told_of

T = TypeVar("T")


@dataclass
class Seat:
    """One of several runs: its number among them, from 0, its folder, its settings, and the problems it holds out."""

    number: int
    folder: RunFolder
    config: Config
    split_by: SplitBy = split_problems
    """Which of its problems it holds out."""
    dataset: Dataset | None = field(default=None, repr=False)
    member: Member | None = field(default=None, repr=False)
    """Once it has begun; it stays, as far as it came."""

    @property
    def prepared(self) -> Dataset:
        """Its problems, once it has begun."""
        assert self.dataset is not None
        return self.dataset

    @property
    def trained(self) -> Member:
        """Its soft prompt, once it has begun."""
        assert self.member is not None
        return self.member


class MemberLogs:
    """The logs of several runs; as a context manager it ends what is open as the block ends: stopped, or failed."""

    def __init__(self, control: ControlInbox) -> None:
        self._control = control
        self._models: set[tuple[str, float]] = set()
        self._open: dict[int, tuple[Seat, Recorder]] = {}

    def of(self, seat: Seat, events: Generator[Event, None, T] | Iterator[Event]) -> Generator[Event, None, T | None]:
        """Write what one of them tells into its log, and pass it on, signed; the value is that of `events`."""
        iterator = iter(events)
        while True:
            try:
                event = next(iterator)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            yield from self.written(seat, event)
            if not isinstance(event, RunStarted | RunFinished):  # the job that has it has its own
                yield _signed(event, seat)

    def routed(self, seats: Sequence[Seat], events: Iterable[Event]) -> Iterator[Event]:
        """Pass events on; those of a member go to its log too, those of nobody to none."""
        numbered = {seat.number: seat for seat in seats}
        for event in events:
            if isinstance(event, MemberEvent) and event.member in numbered:
                seat = numbered[event.member]
                yield from self.written(seat, event.model_copy(update={"member": 0}))
                event = _signed(event, seat)
            yield event

    def written(self, seat: Seat, event: Event) -> Iterator[Event]:
        """Write one event into the log of a seat; what is yielded tells of waiting for a disk."""
        if seat.number not in self._open:
            self._open[seat.number] = seat, Recorder(seat.folder, self._control)
        _, recorder = self._open[seat.number]
        yield from recorder.written(event)
        if isinstance(event, RunFinished | RunStopped | RunFailed):
            recorder.close()
            del self._open[seat.number]

    def is_news(self, event: ModelLoaded) -> bool:
        """Whether that model was not told of yet."""
        key = event.model, event.seconds
        news = key not in self._models
        self._models.add(key)
        return news

    def __enter__(self) -> MemberLogs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for seat, recorder in self._open.values():
            last = seat.folder.checkpoints / "last.pt"
            step = seat.member.standing.step if seat.member else 0
            stopped = RunStopped(step=step, checkpoint=str(last) if last.exists() else None)
            failed = isinstance(error, Exception) and not isinstance(error, StopRequested)
            with contextlib.closing(recorder):
                recorder.add(failure(error, "") if failed else stopped)  # type: ignore[arg-type]
        self._open.clear()


def train_together(
    seats: Sequence[Seat], loaded: LoadedModel, logs: MemberLogs, control: ControlInbox
) -> Iterator[Event]:
    """Train runs to their ends, from where each was left, as many at a time as there is room for."""
    for seat in seats:
        yield from prepare(seat, control)
    for together in populations(seats, loaded):
        yield from train_population(together, loaded, logs, control)


def prepare(seat: Seat, control: ControlInbox) -> Iterator[Event]:
    """Read the problems of a seat."""
    if seat.dataset is None:
        read = partial(prepare_dataset, seat.config, seat.folder, seat.split_by)
        seat.dataset = yield from until_written(read, control)


def train_population(
    together: Sequence[Seat], loaded: LoadedModel, logs: MemberLogs, control: ControlInbox
) -> Iterator[Event]:
    """Train runs in the same passes; of what they tell before it, that of the first stands for all."""
    for seat in together:
        for event in logs.of(seat, _begin(seat, loaded)):
            if logs.is_news(event) if isinstance(event, ModelLoaded) else seat is together[0]:
                yield event  # all of it is in their own logs
    first = together[0].config.training
    passes = choose_passes(loaded, first.batch_size, first.label_smoothing)
    for seat in together:
        for event in logs.of(seat, told_of(passes, loaded)):
            if seat is together[0]:
                yield event
    trainer = Trainer([seat.trained for seat in together], passes, loaded.precision.device, control)
    yield from logs.routed(together, trainer.fit())


def _signed(event: Event, seat: Seat) -> Event:
    if not isinstance(event, MemberEvent):
        return event
    return event.model_copy(update={"member": seat.number, "name": seat.folder.root.name})


def _begin(seat: Seat, loaded: LoadedModel) -> Iterator[Event]:
    """Make the soft prompt of a seat, or go on with it."""
    last, notices = load_last(seat.folder)
    seat.member = build_member(
        seat.config, loaded, seat.prepared, seat.folder, last, number=seat.number, publish=False
    )
    step = last.step if last else 0
    yield RunStarted(run_id=seat.folder.run_id, model=seat.config.model.name, pid=os.getpid(), resumed_from_step=step)
    yield from notices
    yield model_loaded(loaded, seat.member.soft_prompt.weight, seat.member.trainable_parameters)
    yield from announce(seat.config, seat.prepared, seat.member)


def populations(seats: Sequence[Seat], loaded: LoadedModel) -> list[list[Seat]]:
    """Seats that train in the same passes: what a pass has only one of is equal, and memory has room for all."""
    alike: dict[tuple[Any, ...], list[Seat]] = {}
    for seat in seats:
        training = seat.config.training
        key = (seat.config.soft_prompts.num_virtual_tokens, training.batch_size, training.label_smoothing)
        alike.setdefault(key, []).append(seat)
    together = []
    for group in alike.values():
        most = group[0].config.hardware.max_population or population_limit(group[0].config, loaded)
        together += [group[start : start + most] for start in range(0, len(group), most)]
    return together


def population_limit(config: Config, loaded: LoadedModel) -> int:
    """How many soft prompts memory has room for in one pass, by the estimate of it; 1 for a model it does not know.

    On a CPU rows go one after the other, however many prompts there are, and all that each adds is itself.
    """
    shape = shape_of(loaded.model.config.to_dict())
    if loaded.precision.device.type != "cuda":
        return 64
    if shape is None:
        return 1
    arithmetic = (loaded.precision.autocast or loaded.precision.weights).itemsize
    a_row = config.dataset.max_length * (activation_bytes(shape, arithmetic) + score_bytes(shape, arithmetic) // 4)
    return max(1, free_bytes(loaded.precision.device) // 2 // (a_row * config.training.batch_size))


def trained_or_raise(seats: Sequence[Seat]) -> None:
    """Raise SofttuneError where one of them was given up."""
    for seat in seats:
        if seat.trained.failure:
            error = seat.trained.failure
            raise SofttuneError(f"{seat.folder.root.name}: {error.what}", error.remedy)
