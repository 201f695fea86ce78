"""A run beside its tracker: what is sent, and that nothing the tracker does is the run's harm."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from core.contract import events as ev
from core.contract.event_log import EventLog
from core.contract.runs import RunFolder
from core.recorder import record
from core.trackers import process, tracking
from core.trackers.__main__ import obey
from core.trackers.tracker import TrackedRun
from core.trackers.tracking import tracked
from tests.trackers.told import a_run, score, step, training, validation


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Sent:
    """A process that notes what it is sent, and obeys with a package that notes what it is told."""

    def __init__(self, name: str = "") -> None:
        self.fault = ""
        self.lines: list[str] = []
        self.begun: dict[str, TrackedRun] = {}
        self.told: defaultdict[str, list[Any]] = defaultdict(list)

    def send(self, *message: Any) -> None:
        self.lines.append(json.dumps(message))

    def finish(self, seconds: float) -> None:
        lines, self.lines = self.lines, []
        obey(self, lines)  # type: ignore[arg-type]

    def open_run(self, run: TrackedRun) -> Any:
        self.begun[run.id] = run
        told = self.told[run.id]

        class Run:
            def scalars(self, step: int, figures: dict[str, float]) -> None:
                told.append((step, figures))

            def summary(self, figures: dict[str, Any]) -> None:
                told.append(figures)

            def close(self, outcome: str) -> None:
                told.append(outcome)

        return Run()

    def points(self, run: str, name: str) -> list[tuple[int, float]]:
        return [(one[0], one[1][name]) for one in self.told[run] if isinstance(one, tuple) and name in one[1]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    noted = Sent()
    monkeypatch.setattr(tracking, "TrackerProcess", lambda name: noted)
    return noted


def shown(folder: RunFolder, events: list[ev.Event]) -> list[ev.Event]:
    return list(tracked(iter(events), folder.read_config(), folder))


def test_without_a_tracker_nothing_is_begun(sent: Sent) -> None:
    folder = a_run("none")
    events = list(training(folder.run_id))
    assert shown(folder, events) == events and not sent.begun


def test_a_run_is_shown_step_by_step_and_ends_as_it_did(sent: Sent) -> None:
    folder = a_run("wandb")
    events = list(training(folder.run_id))
    assert shown(folder, events) == events
    assert sent.points(folder.run_id, "train/loss") == [(n, 1 / n) for n in (1, 2, 3, 4)]
    assert [step for step, _ in sent.points(folder.run_id, "heldout/loss")] == [0, 2, 4]
    assert sent.points(folder.run_id, "train/epoch_loss") == [(2, 0.5), (4, 0.5)]
    assert sent.points(folder.run_id, "pass@1/heldout") == [(4, 0.5)]
    assert sent.told[folder.run_id][-2:] == [{"seconds": 9.0, "verdict": "no better"}, "finished"]
    run = sent.begun[folder.run_id]
    assert run.group is None and not run.resumed and run.config() == folder.read_config()


@pytest.mark.parametrize(("last", "outcome"), [(ev.RunStopped(step=2), "stopped"), (ev.RunFailed(what="x"), "failed")])
def test_how_a_run_ended_is_told(last: ev.Event, outcome: str, sent: Sent) -> None:
    folder = a_run("wandb")
    shown(folder, [*training(folder.run_id, until=2), last])
    assert sent.told[folder.run_id][-1] == outcome


def test_a_job_that_is_left_in_its_middle_is_told_as_stopped(sent: Sent) -> None:
    folder = a_run("wandb")
    events = tracked(training(folder.run_id), folder.read_config(), folder)
    assert [next(events) for _ in range(3)]
    events.close()  # type: ignore[attr-defined]
    assert sent.told[folder.run_id][-1] == "stopped"


@pytest.mark.parametrize(("tracker", "losses", "heldout"), [("tensorboard", [2, 3, 4], [2, 4]), ("wandb", [4], [4])])
def test_a_resumed_run_goes_on_with_each_step_once(
    tracker: str, losses: list[int], heldout: list[int], sent: Sent
) -> None:
    folder = a_run(tracker)
    log = EventLog(folder.events_file)
    for event in training(folder.run_id, until=3):  # killed there; last.pt is of step 1
        log.append(event)
    log.close()
    shown(folder, list(training(folder.run_id, resumed=1)))
    assert sent.begun[folder.run_id].resumed and sent.begun[folder.run_id].first_step == 2
    assert [number for number, _ in sent.points(folder.run_id, "train/loss")] == losses
    assert [number for number, _ in sent.points(folder.run_id, "heldout/loss")] == heldout


def test_scores_of_a_run_that_had_trained_to_its_end_are_at_its_last_step(sent: Sent) -> None:
    folder = a_run("wandb")
    shown(folder, list(training(folder.run_id, resumed=4)))
    assert sent.points(folder.run_id, "pass@1/all") == [(4, 0.3)]


def test_members_are_runs_of_their_own_in_a_group(sent: Sent) -> None:
    folder = a_run("wandb", "crossvalidation")
    names = ["fold-01", "fold-02"]
    for name in names:
        RunFolder(folder.member(name).root).root.mkdir(parents=True)
        (folder.member(name).root / "config.yml").write_text(folder.config_file.read_text())
    folds = [
        ev.FoldScore(fold=number, run_id=folder.member(name).run_id, train_problems=4, heldout_problems=4, epoch=1,
                     heldout_loss=0.7, score=score(number, 4)) for number, name in enumerate(names, start=1)
    ]
    told = [event for number in (1, 2) for at, name in enumerate(names) for event in (
        step(number, member=at, name=name), validation(number, member=at, name=name))]
    shown(folder, [
        ev.RunStarted(run_id=folder.run_id, model="tiny", pid=1), *told,
        ev.CrossValidated(folds=folds, heldout_loss=0.7, perplexity=2.0, score=score(3, 8)), ev.RunFinished(seconds=1),
    ])
    assert list(sent.begun) == [folder.run_id, f"{folder.run_id}-fold-01", f"{folder.run_id}-fold-02"]
    assert {run.group for run in sent.begun.values()} == {folder.run_id}
    assert sent.points(f"{folder.run_id}-fold-02", "train/loss") == [(1, 1.0), (2, 0.5)]
    assert sent.points(folder.run_id, "train/loss") == [] and sent.points(folder.run_id, "heldout/loss") == [(2, 0.7)]
    assert {"heldout/loss_taken": 0.7}.items() <= sent.told[f"{folder.run_id}-fold-01"][-2].items()
    assert all(told[-1] == "finished" for told in sent.told.values())


def test_a_trial_ends_with_its_result_and_stays_ended(sent: Sent) -> None:
    folder = a_run("wandb", "sweep")
    pruned = ev.TrialCompleted(number=1, parameters={"training.learning_rate": 0.1}, state="pruned", heldout_loss=3.0)
    shown(folder, [
        ev.RunStarted(run_id=folder.run_id, model="tiny", pid=1),
        pruned.model_copy(update={"number": 0}),  # of an earlier engine
        *(step(1, member=number, name=f"trial-000{number}") for number in (1, 2)), pruned,
        step(2, member=1, name="trial-0001"), step(2, member=2, name="trial-0002"), ev.RunStopped(step=0),
    ])
    ended, open_ = (sent.told[f"{folder.run_id}-trial-000{number}"] for number in (1, 2))
    assert [one[0] for one in ended if isinstance(one, tuple)] == [1] and ended[-1] == "stopped"
    assert ended[-2]["trial/training.learning_rate"] == 0.1
    assert [one[0] for one in open_ if isinstance(one, tuple)] == [1, 2] and open_[-1] == "stopped"
    assert len(sent.begun) == 3


def package_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the tracker's process find a package `wandb` whose init does this."""
    source = f"import os, sys, time\nSettings = dict\ndef init(**settings):\n    {does}\n"
    (folder / "wandb.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(tracking, "CLOSING_SECONDS", dict.fromkeys(tracking.CLOSING_SECONDS, 20.0))


@pytest.mark.parametrize(("does", "why"), [
    ("raise RuntimeError('no network\\n here')", "no network here"), ("sys.exit(3)", "3"),
    ("os._exit(4)", "its process ended with status 4"), ("print('noise'); raise KeyError('api_key')", "'api_key'"),
])
def test_a_tracker_that_fails_is_told_of_once_and_the_run_is_recorded(
    does: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_that(does, tmp_path, monkeypatch)
    folder = a_run("wandb")
    events = list(training(folder.run_id))
    got = list(record(tracked(iter(events), folder.read_config(), folder), folder))
    (notice,) = (event for event in got if isinstance(event, ev.Notice))
    assert notice.what == f"wandb is left out from here on: {why}" and notice.setting == "logging.tracker"
    assert "WANDB_MODE=offline" in notice.remedy
    assert [event for event in got if event is not notice] == events and got[-1] == events[-1]
    assert folder.read_record().state == "finished"


def test_a_tracker_that_hangs_is_left_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package_that("open('pid', 'w').write(str(os.getpid())); time.sleep(600)", tmp_path, monkeypatch)
    monkeypatch.setattr(tracking, "CLOSING_SECONDS", dict.fromkeys(tracking.CLOSING_SECONDS, 2.5))
    folder = a_run("wandb")
    got = shown(folder, list(training(folder.run_id)))
    (notice,) = (event for event in got if isinstance(event, ev.Notice))
    assert "it was not done 2.5 s after the run was" in notice.what and isinstance(got[-1], ev.RunFinished)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.01)
    raise AssertionError("its process is still there")


ENGINE = """
import dataclasses, pathlib, sys, time
from core.trackers.process import TrackerProcess
from core.trackers.tracker import TrackedRun
child = TrackerProcess("wandb")
child.send("begin", "", dataclasses.asdict(TrackedRun(sys.argv[1], False, 1, False)))
while not child.fault and not pathlib.Path("started").exists():
    time.sleep(0.01)
child.finish(0)
child._thread.join()
"""


@pytest.mark.parametrize("own_session", [False, True])
def test_a_service_that_a_package_has_started_holds_nothing_of_the_engines(
    own_session: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_that(
        f"import subprocess; it = subprocess.Popen(['sleep', '600'], start_new_session={own_session})\n"
        "    open('pid', 'w').write(str(it.pid)); print('said', flush=True); open('started', 'w'); time.sleep(600)",
        tmp_path, monkeypatch,
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    engine = [sys.executable, "-P", "-c", ENGINE, str(a_run("wandb").root)]
    try:
        ended = subprocess.run(engine, capture_output=True, timeout=60)  # its pipes are read until nobody holds them
        assert ended.returncode == 0 and b"said" in ended.stderr
        if not own_session:
            assert ends(int((tmp_path / "pid").read_text()))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def ends(pid: int) -> bool:
    """Whether a process is gone, or is about to be; one that nobody waits for counts."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_a_tracker_that_does_not_keep_up_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package_that("time.sleep(600)", tmp_path, monkeypatch)
    monkeypatch.setattr(process, "MOST_WAITING", 3)
    folder = a_run("wandb")
    shown_in = tracking.Tracking(folder.read_config(), folder)
    shown_in.tell(ev.RunStarted(run_id=folder.run_id, model="tiny", pid=1))
    for _ in range(9):
        shown_in.tell(ev.RunFailed(what="x" * 200_000))  # more than a pipe holds
    (notice,) = shown_in.faults()
    assert "does not keep up: 3 messages wait" in notice.what and list(shown_in.faults()) == []
    shown_in.close()
    thread = shown_in._process._thread
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive(), "its process was not ended"
