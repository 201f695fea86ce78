"""Every key of the Sweep screen; and a cross-validation on the Train screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from core.contract.event_log import EventLog
from core.contract.runs import RunFolder
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run, training, write_checkpoints
from tests.tui.fake_sweep import RATE, make_crossvalidation, make_sweep, outcome, points
from tests.tui.test_train_screen import train, words
from tui.app import SofttuneApp
from tui.plan_words import Plan
from tui.screens.dialogs import Confirm, Message
from tui.screens.overlay_choice import OverlayChoice
from tui.screens.sweep import SweepScreen
from tui.screens.train import TrainScreen
from tui.sweep.table import TrialTable
from tui.widgets.plot import Plot


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep is looked at more often, so that no test waits for a second."""
    monkeypatch.setattr("tui.screens.sweep.READ_SECONDS", 0.1)


def screen(app: SofttuneApp) -> SweepScreen:
    (found,) = [one for one in app.screen_stack if isinstance(one, SweepScreen)]
    return found


def table(app: SofttuneApp) -> TrialTable:
    return screen(app).query_one(TrialTable)


def numbers(app: SofttuneApp) -> list[int]:
    return [trial.number for trial in table(app)._rows]


async def opened(app: SofttuneApp, pilot: Pilot[object], count: int) -> None:
    await pilot.press("6")
    await until(pilot, lambda: app.current_mode == "sweep" and table(app).row_count == count)


async def test_without_a_sweep_it_says_how_to_start_one(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, training("x", steps=2), count=2)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("6")
        await until(pilot, lambda: "softtune sweep sweep.yml" in words(app))
        assert "learning_rate: {low: 0.001, high: 0.1, log: true}" in words(app)
        await pilot.press("enter", "u", "z", "o", "O", "v", "L", "i", "left_square_bracket", "y")
        assert app.screen is screen(app) and "nothing to copy" in told(app)[0]
        make_sweep(runs / "2026-11-24-a")
        await until(pilot, lambda: table(app).row_count == 16)
        assert table(app).has_focus


async def test_the_table_its_cursor_and_the_slices(open_app: OpenApp, runs: Path) -> None:
    make_sweep(runs / "2026-11-24-101500-older", done=3)
    make_sweep(runs / "2026-11-25-101500-newer", objective="heldout_pass_at_1")
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 16)
        shown = words(app)
        for expected in ("16 of 16 trials done", "highest held-out pass@1", "0.273", "0.151 – 0.442", "pruned",
                         "failed", "▸      1", "trial 7  rank 1", "trial 7: 0.0517", "1 of 2 sweeps  [ older"):
            assert expected in shown, expected
        assert sum(plot.display for plot in app.screen.query(Plot)) == 3
        await pilot.press("j", "down")
        assert screen(app).trial is not None and screen(app).trial.number == 5
        assert "trial 5: 0.01859" in words(app)
        builds = [plot.builds for plot in app.screen.query(Plot)]
        await pilot.press("k", "end")
        assert "no validation gave a finite loss" in words(app)
        assert [plot.builds for plot in app.screen.query(Plot)] == builds  # a cursor alone draws nothing anew
        await pilot.press("o")
        assert numbers(app)[0] == 0 and "▲trial" in words(app) and screen(app).trial.number == 10
        await pilot.press("O")
        assert numbers(app)[0] == 15
        await pilot.click(TrialTable, offset=(8, 2))
        assert screen(app).order.column == "rank"
        await pilot.press("v")
        assert [plot.display for plot in app.screen.query(Plot)] == [True, False, False, False]
        await pilot.press("v", "v", "v", "L")
        await until(pilot, lambda: words(app).count("log scale") == 4)
        await pilot.press("y")
        assert "the table of trials" in told(app)[0]
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: table(app).row_count == 3 and "2 of 2 sweeps  ] newer" in words(app))
        await pilot.press("left_square_bracket", "right_square_bracket")
        await until(pilot, lambda: table(app).row_count == 16)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: sum(plot.display for plot in app.screen.query(Plot)) == 2)
        assert "varies learning_rate, num_virtual_tokens, schedule" in words(app) and "q quit" in words(app)


async def test_trials_come_in_while_it_runs(open_app: OpenApp, runs: Path) -> None:
    folder = make_sweep(runs / "2026-11-25-101500-s", state="running", done=2, running=1)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 3)
        log = EventLog(Path(folder.events_file))
        log.append(outcome(2, points()[2]))
        log.close()
        await until(pilot, lambda: "3 of 16 trials done" in words(app))


async def test_the_curves_of_a_trial(open_app: OpenApp, runs: Path) -> None:
    folder = make_sweep(runs / "2026-11-25-101500-s", members=16)
    make_run(runs, training("x", steps=2), count=2)  # is followed first, and is no sweep
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 16)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, TrainScreen) and app.scene.view.done_steps == 27)
        assert app.scene.run_id == f"{folder.run_id}/members/trial-0007" and not app.scene.resumable
        await until(pilot, lambda: "101500-s/trial-0007" in words(app).splitlines()[0])
        await opened(app, pilot, 16)
        await pilot.press("i")
        await until(pilot, lambda: app.scene.run_id == folder.run_id and app.scene.view.sweep is not None)


async def test_a_trial_that_is_at_work_is_only_looked_at(open_app: OpenApp, runs: Path) -> None:
    whole = make_run(runs, training("x", steps=3), state="running", alive=True, count=2)
    member = RunFolder(whole.root / "members" / "trial-0000")
    member.root.parent.mkdir()
    made = make_run(runs / "apart", training("x", steps=3), state="running", alive=True, count=2)
    made.root.rename(member.root)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.active)
        await app.open_run(member.run_id)
        await until(pilot, lambda: app.scene.run_id == member.run_id and app.scene.active)
        await pilot.press("space", "x")
        assert isinstance(app.screen, TrainScreen) and not Path(member.control_file).exists()
        assert "x stop" not in words(app)
        await pilot.press("q")
    assert app.return_value is not None and app.return_value.run_id == whole.run_id


async def test_using_a_config_and_taking_it_back(open_app: OpenApp, runs: Path) -> None:
    make_sweep(runs / "2026-11-25-101500-s")
    path, before = runs.parent / "prompt_tuning.yml", "# mine\ntraining:\n  learning_rate: 0.01\n"
    path.write_text(before)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 16)
        await pilot.press("u")
        await until(pilot, lambda: isinstance(app.screen, Confirm) and f"{RATE}  0.01 → 0.05" in words(app))
        await pilot.press("n", "u")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert path.read_text() == before
        await pilot.press("y")
        await until(pilot, lambda: "z takes it back" in "".join(told(app)))
        assert path.read_text().startswith("# mine") and "num_virtual_tokens: 50" in path.read_text()
        assert app.plan == Plan(Path("prompt_tuning.yml"))
        await pilot.press("u")
        await until(pilot, lambda: "has the settings of trial 7 already" in "".join(told(app)))
        written = path.read_text()
        path.write_text(written + "# more\n")
        await pilot.press("z")
        await until(pilot, lambda: isinstance(app.screen, Message) and "changed by another program" in words(app))
        assert path.read_text() == written + "# more\n"
        path.write_text(written)
        await pilot.press("escape", "z")
        await until(pilot, lambda: "as it was before" in "".join(told(app)))
        assert path.read_text() == before and app.plan == Plan(demo=True)
        path.write_text("training: 1\n")
        await pilot.press("u")
        await until(pilot, lambda: isinstance(app.screen, Message) and "were not taken" in words(app))


async def test_a_cross_validation_on_the_train_screen(open_app: OpenApp, runs: Path) -> None:
    folder = make_crossvalidation(runs / "2026-11-25-101500-cv")
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished" and app.scene.folds == 5)
        await pilot.pause()
        shown = words(app)
        for expected in ("fold-01 of 5 folds", "fold 5      4   0.900    4/33  0.121", "pooled", "16/165  0.097  0.061",
                         "alone", "tuned prompt is better"):
            assert expected in shown, expected
        assert max(app.scene.view.train_loss.ys) < 2  # the other fold's are not mixed in
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, OverlayChoice) and "[ ] fold-05" in words(app))
        await pilot.press("j", "space", "enter")
        await until(pilot, lambda: len(train(app).others) == 1)
        (other,) = train(app).others
        assert other.run_id == f"{folder.run_id}/members/fold-02" and other.name == "fold-02"


async def test_checkpoints_of_members(open_app: OpenApp, runs: Path) -> None:
    folder = make_crossvalidation(runs / "2026-11-25-101500-cv", count=2)
    for member in folder.members():
        write_checkpoints(member, 1, ())
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "shows those of trials and folds too" in words(app))
        await pilot.press("m")
        await until(pilot, lambda: "6 checkpoints of 1 runs" in words(app) or "6 checkpoints of 1 run" in words(app))
        assert "fold-01" in words(app)
        await pilot.press("m")
        await until(pilot, lambda: "No checkpoints yet" in words(app))
