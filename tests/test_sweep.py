"""Sweeps on the tiny model: points, ranking, pruning, failures, and nothing lost when one is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import Command, ControlInbox
from core.contract.event_log import EventTail
from core.contract.events import (
    Event,
    RunFinished,
    RunStarted,
    RunStopped,
    StepCompleted,
    SweepCompleted,
    TrialCompleted,
    TrialStarted,
)
from core.contract.runs import RunFolder, create_run
from core.contract.sweep_plan import SweepPlan, parse_sweep
from core.contract.wording import describe
from core.recorder import record
from core.sweep import Search, rank, sweep
from core.trials import Trial

SETTINGS = [
    "hardware.device=cpu", "dataset.max_samples=6", "training.num_epochs=3", "soft_prompts.num_virtual_tokens=4",
    "inference.max_new_tokens=6", "dataset.max_length=2048", "training.batch_size=2", "training.save_every_n_steps=1",
    "training.gradient_accumulation_steps=1", "evaluation.score_baseline=false",
]
RATES: dict[str, Any] = {"parameters": {"training.learning_rate": {"low": 0.001, "high": 0.5, "log": True}}}


@pytest.fixture
def config(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return load_config(overrides=[f"model.name={tiny_model_folder}", *SETTINGS])


def plan_of(config: Config, **fields: Any) -> SweepPlan:
    return parse_sweep(RATES | fields, config)


def run(
    config: Config, plan: SweepPlan, folder: RunFolder | None = None, until: Callable[[Event], bool] | None = None
) -> tuple[RunFolder, list[Event]]:
    folder = folder or create_run(config, "sweep", kind="sweep")
    control, events = ControlInbox(folder.control_file), []
    for event in record(sweep(config, plan, folder, control), folder, control):
        events.append(event)
        if until and until(event):
            control.request(Command.STOP)
    return folder, events


def of(kind: type[Any], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_points_are_tried_ranked_and_kept_as_runs(config: Config) -> None:
    folder, events = run(config, plan_of(config, trials=3, pruning=False))
    finished, (report,) = events[-1], of(SweepCompleted, events)
    assert isinstance(finished, RunFinished), finished
    losses = [trial.heldout_loss for trial in report.trials]
    rates = {trial.parameters["training.learning_rate"] for trial in report.trials}
    assert losses == sorted(losses) and len(rates) == 3
    assert finished.best_heldout_loss == losses[0]
    for trial in report.trials:
        member = RunFolder(Path(trial.config).parent)
        assert member.read_config().training.learning_rate == trial.parameters["training.learning_rate"]
        told = EventTail(member.events_file).read()
        assert isinstance(told[0], RunStarted) and isinstance(told[-1], RunFinished)
        assert told[-1].best_heldout_loss == trial.value == trial.heldout_loss
    lines = describe(report)
    assert lines[0].split()[:2] == ["rank", "trial"] and lines[1].split()[0] == "1"
    assert report.trials[0].config in lines[-1]
    assert not Path("soft_prompts").exists()


def test_the_objective_may_be_what_held_out_problems_pass(config: Config) -> None:
    _, events = run(config, plan_of(config, trials=1, objective="heldout_pass_at_1", folds=2))
    (trial,) = of(TrialCompleted, events)
    assert trial.state == "complete" and trial.score.total == 6 and trial.value == trial.score.pass_at_1
    assert trial.epoch is None and trial.heldout_loss > 0


def test_what_falls_behind_ends_there_and_the_others_go_on(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "report", lambda self, trial, epoch, loss: (trial.number, epoch) == (1, 1))
    folder, events = run(with_population(config, 2), plan_of(config, trials=2))
    trials = {trial.number: trial for trial in of(TrialCompleted, events)}
    assert (trials[0].state, trials[1].state) == ("complete", "pruned") and "median" in trials[1].reason
    steps = of(StepCompleted, events)
    assert [max(step.step for step in steps if step.member == number) for number in (0, 1)] == [6, 2]
    states = [member.read_record().state for member in folder.members()]
    assert states == ["finished", "stopped"]


def test_a_trial_is_behind_where_its_loss_is_above_the_median(config: Config) -> None:
    search = Search(plan_of(config, trials=9), create_run(config, "sweep", kind="sweep"))
    trials = [Trial(number, point, config, []) for number, point in search.next(6)]
    for trial, loss in zip(trials[:4], (1.0, 2.0, 3.0, 4.0), strict=True):
        assert not search.report(trial, 1, loss)  # there are too few to compare it with
        search.tell(TrialCompleted(number=trial.number, parameters={}, state="complete", value=loss))
    assert search.report(trials[4], 1, 2.6) and not search.report(trials[5], 1, 2.4)


def test_a_trial_that_cannot_train_fails_alone(config: Config) -> None:
    plan = parse_sweep({"sampler": "grid", "parameters": {"dataset.max_length": [16, 2048]}}, config)
    _, events = run(with_population(config, 1), plan)
    states = {trial.parameters["dataset.max_length"]: trial for trial in of(TrialCompleted, events)}
    assert states[16].state == "failed" and "dataset.max_length 16" in states[16].reason
    assert states[2048].state == "complete" and isinstance(events[-1], RunFinished)


def with_population(config: Config, most: int) -> Config:
    return config.model_copy(update={"hardware": config.hardware.model_copy(update={"max_population": most})})


def test_one_that_was_stopped_goes_on_with_the_trials_it_had_begun(config: Config) -> None:
    plan = plan_of(config, trials=4, pruning=False)
    folder, first = run(config, plan, until=lambda event: isinstance(event, StepCompleted) and event.member == 2)
    assert isinstance(first[-1], RunStopped)
    with open(folder.root / "optuna.jsonl", "ab") as journal:
        journal.write(b'{"op_code": 4, "worker')  # as a kill in the middle of a line leaves it
    begun = {event.number: event.parameters for event in of(TrialStarted, first)}
    _, second = run(config, plan, folder)
    (report,) = of(SweepCompleted, second)
    assert sorted(trial.number for trial in report.trials) == [0, 1, 2, 3]
    assert {trial.number: trial.parameters for trial in report.trials}.items() >= begun.items()
    assert {trial.state for trial in report.trials} == {"complete"}
    known = of(TrialCompleted, first)
    assert [trial for trial in of(TrialCompleted, second) if trial.number in {one.number for one in known}] == known
    resumed = EventTail(RunFolder(folder.root / "members" / "trial-0002").events_file).read()
    assert [event.resumed_from_step for event in resumed if isinstance(event, RunStarted)] == [0, 1]


@pytest.mark.slow
def test_a_killed_sweep_loses_no_trial(config: Config, tmp_path: Path) -> None:
    Path("sweep.yml").write_text(json.dumps(RATES | {"trials": 5, "pruning": False}))
    command = [sys.executable, "-P", "-m", "core", "sweep", "sweep.yml", "--json", "--name", "s"]
    for override in (f"model.name={config.model.name}", *SETTINGS):
        command += ["--set", override]
    engine = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (found := list(Path("runs").glob("*-s/events.jsonl"))) or b"TrialCompleted" not in found[0].read_bytes():
        assert time.monotonic() < deadline and engine.poll() is None
        time.sleep(0.02)
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()
    folder = RunFolder(found[0].parent)
    before = of(TrialCompleted, EventTail(folder.events_file).read())
    begun = of(TrialStarted, EventTail(folder.events_file).read())
    resume = [sys.executable, "-P", "-m", "core", "sweep", "--resume", "s", "--json"]
    again = subprocess.run(resume, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    (report,) = of(SweepCompleted, EventTail(folder.events_file).read())
    after = {trial.number: trial for trial in report.trials}
    assert sorted(after) == [0, 1, 2, 3, 4] and all(after[trial.number] == trial for trial in before)
    assert all(after[trial.number].parameters == trial.parameters for trial in begun)


def test_ranking_puts_the_best_first_whichever_way_is_better() -> None:
    trials = [TrialCompleted(number=number, parameters={}, state=state, value=value, heldout_loss=loss)  # type: ignore[arg-type]
              for number, (state, value, loss) in enumerate([
                  ("failed", None, None), ("complete", 0.5, 2.0), ("pruned", None, 1.0), ("complete", 0.25, 1.0)])]
    assert [trial.number for trial in rank(trials, maximize=True)] == [1, 3, 2, 0]
    assert [trial.number for trial in rank(trials, maximize=False)] == [3, 1, 2, 0]


def test_what_is_chosen_together_is_no_more_than_planned(config: Config) -> None:
    folder = create_run(config, "sweep", kind="sweep")
    search = Search(plan_of(config, trials=3), folder)
    assert [number for number, _ in search.next(2)] == [0, 1] == [number for number, _ in search.next(2)]
    assert [number for number, _ in search.next(9)] == [0, 1, 2]
