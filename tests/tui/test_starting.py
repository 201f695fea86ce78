"""Two UIs that start or resume at the same moment: one engine, and both follow it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.contract import events as ev
from core.contract.config import Config
from core.contract.control import Command, send
from core.contract.errors import UsageError
from core.contract.liveness import locked
from core.contract.runs import RunFolder, list_runs
from tests.tui.conftest import OpenApp, reap, told, until
from tests.tui.fake_run import __file__ as fake_engine
from tests.tui.fake_run import make_run, training
from tests.tui.test_train_screen import words
from tui import engine
from tui.engine import RunLink
from tui.plan_words import Plan
from tui.starting import START_LOCK, Claim

RACER = """
import asyncio, json, sys
from functools import partial
from pathlib import Path
from core.contract.config import Config
from core.contract.runs import RunFolder
from tui import engine
from tui.engine import RunLink
from tui.starting import Claim

runs, resumed, fake = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def command(folder):
    return [sys.executable, fake, str(folder.root), "--pace", "0.1", "--steps", "500", "--count", "2"]

start = (partial(engine.resume, RunFolder(runs / resumed), command) if resumed
         else partial(engine.start, Config(), "race", runs, command))
print("ready", flush=True)
sys.stdin.readline()
claim = Claim(runs)
begun = claim.take(lambda: start)
own = isinstance(begun, RunLink)
if own:
    asyncio.run(claim.hold(begun))
print(json.dumps({"own": own, "run_id": (begun if own else begun.folder).run_id}), flush=True)
"""


def race(runs: Path, resumed: str = "") -> list[dict[str, object]]:
    """Two processes that start, or resume, as soon as they are both ready; what came of each."""
    racers = [subprocess.Popen([sys.executable, "-c", RACER, str(runs), resumed, fake_engine], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    found = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    for summary in list_runs(runs):
        send(Path(summary.folder.control_file), Command.STOP)
    return found


def test_two_that_resume_start_one_engine(runs: Path) -> None:
    stopped = [*training("x", steps=3), ev.RunStopped(step=3, checkpoint="runs/x/checkpoints/last.pt")]
    folder = make_run(runs, stopped, state="stopped", count=2)
    found = race(runs, folder.run_id)
    assert sorted(one["own"] for one in found) == [False, True]
    assert {one["run_id"] for one in found} == {folder.run_id}


def test_two_that_start_make_one_run(runs: Path) -> None:
    found = race(runs)
    assert sorted(one["own"] for one in found) == [False, True]
    assert len({one["run_id"] for one in found}) == len(list_runs(runs)) == 1


async def test_the_one_who_loses_attaches_and_says_so(open_app: OpenApp, runs: Path) -> None:
    stopped = [*training("x", steps=3), ev.RunStopped(step=3, checkpoint="runs/x/checkpoints/last.pt")]
    folder = make_run(runs, stopped, state="stopped", count=2)
    apps = [open_app(engine=("--count", "2", "--steps", "5000", "--pace", "0.1")) for _ in range(2)]
    async with apps[0].run_test(size=(120, 40)) as one, apps[1].run_test(size=(120, 40)) as other:
        for app, pilot in zip(apps, (one, other), strict=True):
            await until(pilot, lambda app=app: app.scene.resumable)
        for app in apps:
            app.action_resume_training()
        for app, pilot in zip(apps, (one, other), strict=True):
            await until(pilot, lambda app=app: app.scene.view.total_steps == 5000 and app.scene.view.done_steps > 1)
            await until(pilot, lambda app=app: "● training" in words(app))
        own = [app.link is not None and app.link.own for app in apps]
        assert sorted(own) == [False, True]
        assert told(apps[own.index(False)]) == [f"attached to {folder.run_id}, which was started elsewhere"]
        assert not told(apps[own.index(True)])
    assert [summary.state for summary in list_runs(runs)] == ["running"]


def test_nothing_is_written_where_nothing_can_be_started(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("training:\n  num_epochz: 3\n")
    plan = Plan(tmp_path / "bad.yml")

    def ready() -> object:
        plan.load()
        raise AssertionError

    with pytest.raises(UsageError, match="num_epochz"):
        Claim(runs).take(ready)  # type: ignore[arg-type]
    assert not runs.exists()


def test_what_cannot_be_started_keeps_nobody_else_from_starting(runs: Path) -> None:
    claim = Claim(runs)
    with pytest.raises(Exception, match="cannot be started"):
        claim.take(lambda: lambda: engine.start(Config(), "x", runs, lambda folder: ["/nowhere/python"]))
    with locked(runs / START_LOCK, "held", ""):
        pass


async def test_the_lock_is_let_go_of_when_the_engine_has_died(runs: Path) -> None:
    folder = make_run(runs, training("x", steps=3), state="stopped", count=2)

    def start() -> RunLink:
        return engine.resume(RunFolder(folder.root), lambda folder: [sys.executable, "-c", "raise SystemExit(1)"])

    claim = Claim(runs)
    link = claim.take(lambda: start)
    assert isinstance(link, RunLink)
    with pytest.raises(UsageError, match="held"), locked(runs / START_LOCK, "held", ""):
        pass
    await claim.hold(link)
    with locked(runs / START_LOCK, "held", ""):
        pass
    reap(link)
