"""Trials as tasks elsewhere: what they write arrives, what is lost is begun again, and a real Ray of two workers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import ControlInbox
from core.contract.errors import UsageError
from core.contract.event_log import EventTail
from core.contract.events import Event, Notice, RunFinished, RunStarted, StepCompleted, SweepCompleted, TrialCompleted
from core.contract.runs import RunFolder, create_run
from core.contract.sweep_plan import SweepPlan, parse_sweep
from core.model.checkpoint import load_checkpoint
from core.ray_trials import Item, RayCluster, TaskLost, Work, do
from core.recorder import record
from core.sweep import Search, sweep
from tests.test_sweep import RATES, SETTINGS, of


class FakeCluster:
    """Two slots of this process; tasks take turns, and the first of a trial in `lose` dies after so many items."""

    def __init__(self, lose: dict[int, int] | None = None) -> None:
        self.slots, self.lose = 2, lose or {}
        self.tasks: dict[str, tuple[Work, Iterator[Item]]] = {}
        self.sent: Counter[str] = Counter()
        self.works: list[Work] = []
        self.cancelled: list[str] = []
        self.most = 0

    def start(self, work: Work) -> str:
        self.works.append(work)
        handle = f"task-{len(self.works)}"
        self.tasks[handle] = work, do(work)
        self.most = max(self.most, len(self.tasks))
        return handle

    def wait(self, handles: Sequence[str], seconds: float) -> tuple[str, Item | None] | None:
        handle = min(handles, key=lambda one: self.sent[one])
        work, items = self.tasks[handle]
        if self.lose.get(work.number) == self.sent[handle]:
            del self.lose[work.number], self.tasks[handle]
            raise TaskLost(handle, "its machine is gone")
        self.sent[handle] += 1
        try:
            return handle, next(items)
        except StopIteration:
            del self.tasks[handle]
            return handle, None

    def cancel(self, handle: str) -> None:
        self.cancelled.append(handle)
        self.tasks.pop(handle)[1].close()  # type: ignore[attr-defined]


@pytest.fixture
def config(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return load_config(overrides=[f"model.name={tiny_model_folder}", *SETTINGS])


def run(
    config: Config, plan: SweepPlan, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster
) -> tuple[RunFolder, list[Event]]:
    monkeypatch.setattr("core.sweep.RayCluster", lambda address, config: cluster)
    folder = create_run(config, "sweep", kind="sweep")
    control = ControlInbox(folder.control_file)
    return folder, list(record(sweep(config, plan, folder, control, ray="somewhere"), folder, control))


def losses_here(config: Config, plan: SweepPlan) -> dict[float, float | None]:
    folder = create_run(config, "here", kind="sweep")
    events = list(record(sweep(config, plan, folder, ControlInbox()), folder))
    return {trial.parameters["training.learning_rate"]: trial.heldout_loss for trial in of(TrialCompleted, events)}


GRID = {"sampler": "grid", "parameters": {"training.learning_rate": [0.01, 0.3]}, "pruning": False}


def test_what_tasks_tell_and_write_is_as_if_it_were_here(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, cluster = parse_sweep(GRID, config), FakeCluster(lose={1: 12})
    folder, events = run(config, plan, monkeypatch, cluster)
    assert isinstance(events[-1], RunFinished), events[-1]
    (report,) = of(SweepCompleted, events)
    found = {trial.parameters["training.learning_rate"]: trial.heldout_loss for trial in report.trials}
    assert found == pytest.approx(losses_here(config, plan), rel=1e-5)
    assert cluster.most == 2 and [work.number for work in cluster.works] == [0, 1, 1]
    assert [event.what for event in of(Notice, events) if "lost" in event.what] == [
        "the task of trial 1 was lost: its machine is gone"]
    for trial in report.trials:
        member = RunFolder(Path(trial.config).parent)
        told = EventTail(member.events_file).read()
        assert isinstance(told[-1], RunFinished) and member.read_record().state == "finished"
        assert {event.step for event in of(StepCompleted, told)} == {1, 2, 3, 4, 5, 6}
        best = load_checkpoint(member.checkpoints / "best.pt")
        assert best.metrics["heldout_loss"] == pytest.approx(trial.heldout_loss) and best.run_id == member.run_id
    began = of(RunStarted, EventTail(RunFolder(folder.root / "members" / "trial-0001").events_file).read())
    assert began[0].resumed_from_step == 0 < began[1].resumed_from_step


def test_a_pruned_task_is_cancelled(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "report", lambda self, trial, epoch, loss: (trial.number, epoch) == (1, 1))
    cluster = FakeCluster()
    _, events = run(config, parse_sweep(RATES | {"trials": 2}, config), monkeypatch, cluster)
    assert {trial.number: trial.state for trial in of(TrialCompleted, events)} == {0: "complete", 1: "pruned"}
    assert cluster.cancelled == ["task-2"]


def test_a_trial_whose_tasks_are_all_lost_fails_alone(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    class Losing(FakeCluster):
        def wait(self, handles: Sequence[str], seconds: float) -> tuple[str, Item | None] | None:
            for handle in handles:
                if self.tasks[handle][0].number == 0:
                    del self.tasks[handle]
                    raise TaskLost(handle, "killed")
            return super().wait(handles, seconds)

    _, events = run(config, parse_sweep(RATES | {"trials": 2}, config), monkeypatch, Losing())
    trials = {trial.number: trial for trial in of(TrialCompleted, events)}
    assert trials[0].state == "failed" and "lost 3 times: killed" in trials[0].reason
    assert trials[1].state == "complete"


def test_no_cluster_is_told(config: Config) -> None:
    with pytest.raises(UsageError, match="--ray 127.0.0.1:1: no Ray cluster answers"):
        RayCluster("127.0.0.1:1", config)


@pytest.mark.slow
def test_a_ray_of_two_workers(config: Config, tmp_path: Path) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    start = [ray, "start", "--head", "--num-cpus=2", "--port=0", "--include-dashboard=false", "--disable-usage-stats"]
    subprocess.run(start, check=True, capture_output=True, timeout=120)
    try:
        Path("sweep.yml").write_text(json.dumps(GRID))
        command = [sys.executable, "-P", "-m", "core", "sweep", "sweep.yml", "--ray", "auto", "--json", "--name", "r"]
        for override in (f"model.name={config.model.name}", *SETTINGS):
            command += ["--set", override]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run([ray, "stop", "--force"], capture_output=True, timeout=120)
    (found,) = Path("runs").glob("*-r")
    events = EventTail(found / "events.jsonl").read()
    (report,) = of(SweepCompleted, events)
    assert [trial.state for trial in report.trials] == ["complete"] * 2
    losses = {trial.parameters["training.learning_rate"]: trial.heldout_loss for trial in report.trials}
    assert losses == pytest.approx(losses_here(config, parse_sweep(GRID, config)), rel=1e-4)
    steps = of(StepCompleted, events)
    assert {step.member for step in steps[: len(steps) // 2]} >= {0, 1}  # two at once
    for trial in report.trials:
        assert (Path(trial.config).parent / "checkpoints" / "best.pt").exists()
