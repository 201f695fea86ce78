"""W&B and Trackio by stand-ins, which are held against the real ones where those are installed."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest

from core.trackers import trackio, wandb
from core.trackers.tracker import TrackedRun
from tests.trackers.stand_ins import USED, Trackio, Wandb
from tests.trackers.told import a_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackedRun:
    monkeypatch.chdir(tmp_path)
    return TrackedRun(str(a_run("none").root), grouped=False, first_step=1, resumed=False)


def member_of(run: TrackedRun, name: str) -> TrackedRun:
    root = Path(run.folder) / "members" / name
    root.mkdir(parents=True)
    (root / "config.yml").write_text((Path(run.folder) / "config.yml").read_text())
    return TrackedRun(str(root), grouped=True, first_step=1, resumed=False)


@pytest.mark.parametrize(("outcome", "code"), [("finished", 0), ("stopped", 130), ("failed", 1)])
def test_wandb_has_a_run_by_our_id_that_ends_as_ours_did(
    outcome: str, code: int, run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", module := Wandb())  # type: ignore[arg-type]
    shown = wandb.open_run(run)
    shown.scalars(0, {"heldout/loss": 2.0})
    shown.scalars(1, {"train/loss": 1.0})
    shown.summary({"heldout/best_loss": 2.0})
    shown.close(outcome)  # type: ignore[arg-type]
    said = module.settings
    assert (said["id"], said["name"], said["group"], said["project"]) == (run.id, run.id, None, "softtune")
    assert said["resume"] == "allow" and said["dir"] == "logs/tracking" and Path(said["dir"]).is_dir()
    assert said["config"] == run.config().model_dump()
    assert module.run.rows == [(0, {"heldout/loss": 2.0}), (1, {"train/loss": 1.0})]
    assert module.run.summary == {"heldout/best_loss": 2.0, "outcome": outcome} and module.run.exit_code == code


def test_wandb_takes_scores_that_come_after_its_last_row(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", module := Wandb(step=5))  # type: ignore[arg-type]  # a resumed run's
    wandb.open_run(run).scalars(4, {"pass@1/all": 0.5})
    assert module.run.rows == [(5, {"pass@1/all": 0.5})]


def test_wandb_shows_members_in_their_runs_group(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", module := Wandb())  # type: ignore[arg-type]
    wandb.open_run(member_of(run, "fold-01"))
    said = module.settings
    assert (said["id"], said["name"], said["group"]) == (f"{run.id}-fold-01", "fold-01", run.id)


def test_trackio_has_several_runs_at_a_time(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", module := Trackio())  # type: ignore[arg-type]
    first, second = (trackio.open_run(member_of(run, name)) for name in ("fold-01", "fold-02"))
    first.scalars(1, {"train/loss": 1.0})
    first.summary({"device": "CPU", "seconds": 9.0})
    assert not first._run.finished and not second._run.finished
    first.close("finished")
    assert first._run.finished and not second._run.finished
    assert first._run.rows == [(1, {"train/loss": 1.0}), (1, {"seconds": 9.0})]  # it has no place for words
    assert [(said["name"], said["group"], said["resume"]) for said in module.settings] == [
        (f"{run.id}-{name}", run.id, "allow") for name in ("fold-01", "fold-02")]


@pytest.mark.parametrize("name", USED)
@pytest.mark.filterwarnings("ignore")
def test_the_real_ones_have_what_is_used(name: str) -> None:
    module = pytest.importorskip(name)
    for path, used in USED[name].items():
        item = module if "." not in path else importlib.import_module(module.Run.__module__).Run
        parameters = inspect.signature(getattr(item, path.rpartition(".")[2])).parameters
        assert used <= parameters.keys(), path
    if name == "wandb":
        module.Settings(console="off", finish_timeout=15.0, finish_timeout_raises=True)
        assert isinstance(module.Run.step, property)
