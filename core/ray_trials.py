"""Trials of a sweep as tasks on a Ray cluster: one a GPU, or a CPU; what they tell and write comes back as it happens.

A task makes the trial's run folders in a scratch folder of its own and sends every event and every file that it writes
there; the sweep puts them into the same places as if it had trained here. So a task that is lost begins again from the
last checkpoint that arrived. What settings name by an absolute path, and a model that is a folder, has to be there on
every machine.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from core.contract.config import Config
from core.contract.control import ControlInbox, heed
from core.contract.errors import UsageError
from core.contract.event_log import event_line
from core.contract.events import (
    Event,
    EventBase,
    Notice,
    RunStopped,
    TrialCompleted,
    TrialStarted,
    parse_event,
)
from core.contract.files import write_whole
from core.contract.runs import MEMBERS, RunFolder
from core.contract.sweep_plan import SweepPlan
from core.jobs import load
from core.population import MemberLogs, Seat, prepare
from core.storage import until_written
from core.trials import Judge, Trial, open_trial, try_trials

TRIES = 3
"""Times that a trial is begun whose task is lost."""
POLL_SECONDS = 0.2
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Work:
    """All that a task needs, as plain data."""

    run_id: str
    config: str
    """JSON."""
    plan: str
    number: int
    parameters: dict[str, Any]
    files: dict[str, bytes]
    """What the trial's members have already, by their paths under members/."""
    problems: bytes | None
    """The file of dataset.path, where that is a relative one."""


class Item(NamedTuple):
    """A thing that a task sends."""

    kind: Literal["event", "file", "epoch", "result"]
    name: str
    """Of the member (event) or the path under members/ (file)."""
    content: bytes


class Cluster(Protocol):
    """Where tasks run."""

    slots: int
    """How many run at once."""

    def start(self, work: Work) -> Any:
        """Begin a task; a handle for it."""

    def wait(self, handles: Sequence[Any], seconds: float) -> tuple[Any, Item | None] | None:
        """The next item of any of the tasks, and whose; no item where that one has ended; None for nothing yet.

        Raises:
            TaskLost: one of them died.
        """

    def cancel(self, handle: Any) -> None:
        """End a task at once."""


class TaskLost(Exception):
    """A task died: its machine is gone, or it was killed."""

    def __init__(self, handle: Any, why: str) -> None:
        self.handle, self.why = handle, why
        super().__init__(why)


# On a worker


def do(work: Work) -> Iterator[Item]:
    """Try one trial in a scratch folder, sending what it tells and writes."""
    with tempfile.TemporaryDirectory(prefix="softtune-trial-") as scratch:
        folder = RunFolder(Path(scratch) / "runs" / work.run_id)
        members = folder.root / MEMBERS
        for name, content in work.files.items():
            write_whole(members / name, content)
        config = Config.model_validate_json(work.config)
        if work.problems is not None and config.dataset.path is not None:
            os.chdir(scratch)  # a worker does one task at a time
            write_whole(Path(config.dataset.path), work.problems)
        plan, control, outbox = SweepPlan.model_validate_json(work.plan), ControlInbox(), list[Item]()
        trial = open_trial(config, plan, folder, work.number, work.parameters)
        sent: dict[str, int] = {}
        with _Sending(control, outbox) as logs:
            loaded = yield from _drained(load(trial.config, control), outbox, logs)
            for _ in try_trials([trial], _Listening(plan, outbox), loaded, logs, control):
                outbox += _new_files(members, sent)
                yield from outbox
                outbox.clear()
        outbox += _new_files(members, sent)
        yield from outbox


def _task(work: Work) -> Iterator[Item]:
    """`do`, for Ray, which sends values into a generator: a `yield from` of a list has no use for them."""
    for item in do(work):  # noqa: UP028
        yield item


class _Sending(MemberLogs):
    """Logs that also put what they write into an outbox."""

    def __init__(self, control: ControlInbox, outbox: list[Item]) -> None:
        super().__init__(control)
        self._outbox = outbox

    def written(self, seat: Seat, event: Event) -> Iterator[Event]:
        self._outbox.append(Item("event", seat.folder.root.name, event_line(event).encode()))
        yield from super().written(seat, event)


@dataclass
class _Listening:
    """A judge that leaves the judging to the sweep."""

    plan: SweepPlan
    outbox: list[Item]

    def report(self, trial: Trial, epoch: int, loss: float) -> bool:
        """Send the loss."""
        self.outbox.append(Item("epoch", str(epoch), repr(loss).encode()))
        return False

    def tell(self, completed: TrialCompleted) -> None:
        """Send what the trial came to."""
        self.outbox.append(Item("result", "", completed.model_dump_json(by_alias=True).encode()))


def _drained(events: Any, outbox: list[Item], logs: MemberLogs) -> Any:
    """The value of a generator of events that concern the worker alone."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value
        yield from outbox
        outbox.clear()


def _new_files(members: Path, sent: dict[str, int]) -> list[Item]:
    """The files that were written since the last time; events and records are the sweep's to write."""
    items = []
    for path in sorted(members.glob("*/checkpoints/*.pt")) + sorted(members.glob("*/evaluations/*/*.json*")):
        name, stamp = str(path.relative_to(members)), path.stat().st_mtime_ns
        if sent.get(name) != stamp:
            sent[name] = stamp
            items.append(Item("file", name, path.read_bytes()))
    return items


# In the sweep


@dataclass
class _Task:
    """A trial that is tried somewhere."""

    trial: Trial
    handle: Any
    tries: int = 1
    epochs: dict[int, float] = field(default_factory=dict)


def try_remotely(
    points: Any, judge: Judge, config: Config, folder: RunFolder, logs: MemberLogs, cluster: Cluster,
    control: ControlInbox,
) -> Iterator[Event]:
    """Try trials on a cluster, as many at once as it has slots for, until there are none left.

    Args:
        points: called with how many may run: the numbers and parameters of those that are not done, begun ones first.
    """
    tasks: dict[Any, _Task] = {}
    try:
        while True:
            yield from heed(control)
            running = {task.trial.number for task in tasks.values()}
            for number, parameters in points(cluster.slots):
                if number not in running and len(tasks) < cluster.slots:
                    trial = open_trial(config, judge.plan, folder, number, parameters)
                    yield TrialStarted(number=number, parameters=parameters)
                    for seat in trial.seats:
                        yield from prepare(seat, control)
                    handle = cluster.start(_work(trial, judge.plan, config, folder))
                    tasks[handle] = _Task(trial, handle)
            if not tasks:
                return
            try:
                found = cluster.wait(list(tasks), POLL_SECONDS)
            except TaskLost as lost:
                yield from _again(lost, tasks, judge, config, folder, logs, cluster)
                continue
            if found is None:
                continue
            handle, item = found
            if item is None:
                task = tasks.pop(handle)
                if not task.trial.ended:
                    tasks[handle] = task
                    lost = TaskLost(handle, "it ended without a result")
                    yield from _again(lost, tasks, judge, config, folder, logs, cluster)
                continue
            yield from _take(item, tasks[handle], judge, folder, logs, control)
            if tasks[handle].trial.ended and item.kind == "epoch":  # it was pruned
                cluster.cancel(handle)
                del tasks[handle]
    finally:
        for handle in tasks:
            cluster.cancel(handle)


def _work(trial: Trial, plan: SweepPlan, config: Config, folder: RunFolder) -> Work:
    members = folder.root / MEMBERS
    files = {}
    for seat in trial.seats:
        for path in [*seat.folder.checkpoints.glob("*.pt"), *seat.folder.root.glob("evaluations/*/*.json*"),
                     seat.folder.config_file, seat.folder.record_file]:
            files[str(path.relative_to(members))] = path.read_bytes()
    file = Path(config.dataset.path) if config.dataset.path else None
    problems = file.read_bytes() if file and not file.is_absolute() else None
    if Path(config.model.name).is_dir():
        model = config.model.model_copy(update={"name": str(Path(config.model.name).resolve())})
        config = config.model_copy(update={"model": model})
    return Work(folder.run_id, config.model_dump_json(), plan.model_dump_json(), trial.number, trial.parameters, files,
                problems)


def _take(
    item: Item, task: _Task, judge: Judge, folder: RunFolder, logs: MemberLogs, control: ControlInbox
) -> Iterator[Event]:
    """Put what a task has sent where it belongs."""
    seats = {seat.folder.root.name: seat for seat in task.trial.seats}
    match item.kind:
        case "file":
            path = folder.root / MEMBERS / item.name
            yield from until_written(lambda: write_whole(path, item.content), control)
        case "event":
            event = parse_event(item.content)
            if isinstance(event, EventBase) and item.name in seats:
                yield from logs.of(seats[item.name], iter([event]))  # type: ignore[list-item]
        case "epoch":
            epoch, loss = int(item.name), float(item.content)
            if epoch in task.epochs or task.trial.ended:
                return
            task.epochs[epoch] = loss
            last = epoch >= task.trial.config.training.num_epochs
            if judge.report(task.trial, epoch, loss) and not last:
                reason = f"after epoch {epoch} its held-out loss was above the median of the others"
                yield from _ended(task.trial, judge, logs, TrialCompleted(
                    number=task.trial.number, parameters=task.trial.parameters, state="pruned", heldout_loss=loss,
                    epoch=epoch, reason=reason))
        case "result":
            completed = TrialCompleted.model_validate_json(item.content)
            yield from _ended(task.trial, judge, logs, completed)


def _ended(trial: Trial, judge: Judge, logs: MemberLogs, completed: TrialCompleted) -> Iterator[Event]:
    if trial.ended:
        return
    trial.ended = True
    completed = completed.model_copy(update={"config": str(trial.seats[0].folder.config_file)})
    judge.tell(completed)
    if completed.state == "pruned":
        for seat in trial.seats:
            yield from logs.written(seat, RunStopped(step=0))
    yield completed


def _again(
    lost: TaskLost, tasks: dict[Any, _Task], judge: Judge, config: Config, folder: RunFolder, logs: MemberLogs,
    cluster: Cluster,
) -> Iterator[Event]:
    """Begin a trial again whose task was lost, from the last checkpoint that arrived; give it up after some tries."""
    task = tasks.pop(lost.handle)
    if task.trial.ended:
        return
    name = f"trial {task.trial.number}"
    if task.tries >= TRIES:
        yield from _ended(task.trial, judge, logs, TrialCompleted(
            number=task.trial.number, parameters=task.trial.parameters, state="failed",
            reason=f"its task was lost {TRIES} times: {lost.why}"))
        return
    yield Notice(what=f"the task of {name} was lost: {lost.why}", remedy="it goes on from the checkpoint that arrived")
    handle = cluster.start(_work(task.trial, judge.plan, config, folder))
    tasks[handle] = _Task(task.trial, handle, task.tries + 1, task.epochs)


class RayCluster:
    """A Ray cluster, by its address ("auto" for the one of this machine)."""

    def __init__(self, address: str, config: Config) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError("--ray needs the package ray", "pip install 'softtune[ray]'") from None
        self._ray = ray
        _check_somebody_answers(address)
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _no_cluster(address, str(error).splitlines()[0]) from None
        resources = ray.cluster_resources()
        on_gpu = config.hardware.device != "cpu" and resources.get("GPU", 0) >= 1
        self.slots = max(1, int(resources.get("GPU" if on_gpu else "CPU", 1)))
        needs = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
        self._task = ray.remote(num_returns="streaming", max_retries=0, **needs)(_task)

    def start(self, work: Work) -> Any:
        """Begin a task."""
        return self._task.remote(work)

    def wait(self, handles: Sequence[Any], seconds: float) -> tuple[Any, Item | None] | None:
        """See `Cluster`."""
        ready, _ = self._ray.wait(list(handles), timeout=seconds)
        for handle in ready:
            try:
                return handle, self._ray.get(next(handle))
            except StopIteration:
                return handle, None
            except self._ray.exceptions.RayError as error:
                raise TaskLost(handle, str(error).strip().splitlines()[-1]) from None
        return None

    def cancel(self, handle: Any) -> None:
        """End a task at once."""
        with contextlib.suppress(self._ray.exceptions.RayError, TypeError, ValueError):
            self._ray.cancel(handle, force=False, recursive=True)


def _check_somebody_answers(address: str) -> None:
    """Raise UsageError where nobody listens at HOST:PORT: Ray itself keeps trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str, why: str) -> UsageError:
    return UsageError(f"--ray {address}: no Ray cluster answers: {why}",
                      "ray start --head starts one, and prints its address")
