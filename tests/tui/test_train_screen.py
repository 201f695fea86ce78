"""Every key of the Train screen, and what it shows of good and of bad runs."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from core.contract import events as ev
from core.contract.config import Config
from core.contract.event_log import EventLog
from core.contract.runs import RunFolder, create_run, list_runs
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run, training
from tests.tui.test_hardware import FakeNvml
from tui.app import SofttuneApp
from tui.engine import Condition, RunLink
from tui.follower import Follower, Scene
from tui.run_view import RunView, advance
from tui.screens.base import RunScreen
from tui.screens.dialogs import Confirm, Message
from tui.screens.train import TrainScreen
from tui.status import header, status_of
from tui.widgets.plot import Plot


def train(app: SofttuneApp) -> TrainScreen:
    screen = app.screen
    assert isinstance(screen, TrainScreen)
    return screen


def words(app: SofttuneApp) -> str:
    """All that is on the screen, as plain text."""
    width, _ = app.size
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip)[:width] for strip in strips)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 50)])
async def test_a_finished_run_shows_its_numbers(open_app: OpenApp, runs: Path, size: tuple[int, int]) -> None:
    make_run(runs, count=20)
    app = open_app()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        await pilot.pause(0.3)
        shown = words(app)
        for expected in ("✓ finished", "epoch 10/10", "step 90/90", "best held-out", "tokens/s", "pass@1", "held-out",
                         "train", "●", "q quit", "? help", "r read", "follows"):
            assert expected in shown, expected
        assert sum("⠁" <= char <= "⣿" for char in shown) > 50


async def test_an_empty_folder_says_what_to_press(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause(0.2)
        shown = words(app)
        assert "no run in this folder" in shown and "s   starts training" in shown and "softtune --demo" in shown
        assert "zoom" not in shown and "x stop" not in shown
        for key in ("plus", "minus", "0", "L", "m", "v", "space", "x", "left", "right", "pageup", "pagedown"):
            await pilot.press(key)
        assert train(app).single == ""


async def test_s_starts_and_the_run_finishes(open_app: OpenApp, runs: Path) -> None:
    app = open_app(engine=("--count", "3", "--steps", "4", "--pace", "0.02"))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        assert app.scene.run_id.endswith("-demo")
        await until(pilot, lambda: not app.scene.active)


async def test_demo_starts_at_once_and_then_s_does_nothing(open_app: OpenApp, runs: Path) -> None:
    app = open_app(start=True, engine=("--count", "3", "--steps", "5000", "--pace", "0.1"))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.done_steps > 1)
        assert "s start" not in words(app) and "space pause" in words(app)
        await pilot.press("s")
        await pilot.pause(0.2)
        assert not told(app) and len(list_runs(runs)) == 1


async def test_demo_attaches_to_a_run_that_is_going_on(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, training("x", steps=3), state="running", alive=True, count=2)
    app = open_app(start=True)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.scene.active)
        assert app.scene.run_id == folder.run_id and len(list_runs(runs)) == 1


async def test_s_attaches_to_a_run_that_was_started_elsewhere(open_app: OpenApp, runs: Path) -> None:
    app = open_app()
    async with app.run_test() as pilot:
        await pilot.pause()
        folder = make_run(runs, training("x", steps=3), state="running", alive=True, count=2)
        await pilot.press("s")
        await until(pilot, lambda: app.scene.run_id == folder.run_id)
        assert len(list_runs(runs)) == 1


async def test_space_pauses_and_goes_on_and_x_stops(open_app: OpenApp) -> None:
    app = open_app(start=True, engine=("--count", "3", "--steps", "5000", "--pace", "0.1"))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.done_steps > 1)
        await pilot.press("space")
        await until(pilot, lambda: app.scene.view.paused)
        assert "‖ paused" in words(app) and "space resume" in words(app) and not told(app)
        await pilot.press("space")
        await until(pilot, lambda: not app.scene.view.paused)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "checkpoint is saved" in words(app)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, TrainScreen))
        await pilot.press("x", "y")
        await until(pilot, lambda: app.scene.view.outcome == "stopped")
        await until(pilot, lambda: "■ stopped" in words(app))


async def test_zoom_and_move(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        await pilot.press("plus")
        assert train(app).look.window(app.scene.view.train_loss) == (45.0, 90.0)
        await pilot.press("equals_sign", "left")
        assert train(app).look.window(app.scene.view.train_loss) == (56.25, 78.75)
        await pilot.press("right", "right", "right")
        assert train(app).look.window(app.scene.view.train_loss) == (67.5, 90.0)
        await pilot.press("minus", "minus", "minus")
        assert train(app).look.window(app.scene.view.train_loss) is None
        await pilot.press("plus", "0")
        assert train(app).look.share == 1.0


async def test_log_scale_and_smoothing_show_in_the_legend(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        assert "━ smoothed" in words(app) and "log scale" not in words(app).splitlines()[1]
        await pilot.press("L", "m")
        await until(pilot, lambda: "log scale" in words(app).splitlines()[1])
        assert "━ smoothed" not in words(app) and "━ train" in words(app)


async def test_view_steps_through_the_plots(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        seen = []
        for _ in range(6):
            await pilot.press("v")
            seen.append(train(app).single)
        assert seen == ["loss", "perplexity", "memory", "rate", "gradient", ""]
        assert not train(app).has_class("-single")
        await pilot.press("v")
        await pilot.pause()
        assert app.query_one("#loss", Plot).size.width == 116 and app.query_one("#now").size.height > 5
        await pilot.press("escape")
        assert train(app).single == "" and not train(app).has_class("-maximised")
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert 30 < app.query_one("#loss", Plot).size.width < 50  # beside the figures
        await pilot.press("v")
        await pilot.pause()
        assert app.query_one("#loss", Plot).size.width == 76 and app.query_one("#loss", Plot).size.height > 8
        await pilot.press("escape")
        await pilot.resize_terminal(60, 24)
        await pilot.pause()
        assert app.query_one("#loss", Plot).size.width == 56 and app.query_one("#now").size.width == 56


async def test_a_resize_in_the_middle(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        shown = len([plot for plot in app.query(Plot) if plot.display])
        await pilot.resize_terminal(80, 24)
        await pilot.pause(0.4)
        assert shown == 5 and len([plot for plot in app.query(Plot) if plot.display]) == 1
        assert "best held-out" in words(app) and "pass@1" in words(app)


async def test_the_cursor_reads_values(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        await pilot.press("left_square_bracket", "dollar_sign")
        assert train(app).look.cursor is None  # nothing to move yet
        await pilot.press("r")
        await pilot.pause()
        shown = words(app)
        assert "│ step 90" in shown and "at the cursor" in shown and "step 90, epoch 10" in shown
        await pilot.press("left", "h")
        assert train(app).look.cursor == 88
        await pilot.press("right", "l", "left_square_bracket")
        assert train(app).look.cursor == 81
        await pilot.press("right_square_bracket", "circumflex_accent")
        assert train(app).look.cursor == 1
        await pilot.press("dollar_sign", "left")
        await until(pilot, lambda: "step 89, epoch 10" in words(app))
        view = app.scene.view
        assert f"train {view.train_loss.ys[88]:.3f}" in words(app) and "held-out 0.869 at 81" in words(app)
        await pilot.press("plus", "plus", "circumflex_accent", "right")
        window = train(app).look.window(view.train_loss)
        assert window is not None and window[0] <= 2 <= window[1]
        await pilot.press("escape")
        assert train(app).look.cursor is None and train(app).look.share == 0.25
        await pilot.press("r", "r")
        assert train(app).look.cursor is None


async def test_page_keys_scroll_the_log(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        await pilot.pause(0.2)
        log = app.screen.query_one("#log")
        bottom = log.scroll_y
        assert bottom > 0 and "finished in" in words(app)
        assert "─ follows ─" in words(app)
        await pilot.press("pageup")
        assert log.scroll_y < bottom
        await until(pilot, lambda: "scrolled up: f follows again" in words(app))
        await pilot.press("pagedown")
        assert log.scroll_y == bottom
        await pilot.press("pageup", "pageup", "f")
        assert log.scroll_y == bottom
        await pilot.press("pageup", "end")
        await until(pilot, lambda: log.scroll_y == bottom and "─ follows ─" in words(app))


async def test_the_log_follows_through_a_resize_until_it_is_scrolled(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, training("x", steps=30), state="running", alive=True, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.active)
        log = app.screen.query_one("#log")
        for size in ((80, 24), (160, 50), (90, 30)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: 0 < log.scroll_y == log.max_scroll_y)
        events = EventLog(Path(folder.events_file))
        events.append(ev.Notice(what="one more line"))
        await until(pilot, lambda: "one more line" in words(app))
        await pilot.press("pageup")
        stays = log.scroll_y
        events.append(ev.Notice(what="another line"))
        events.close()
        await until(pilot, lambda: app.scene.view.log[-1].text == "another line")
        await pilot.pause(0.2)
        assert log.scroll_y == stays and "another line" not in words(app)


async def test_a_crash_is_a_readable_message(open_app: OpenApp) -> None:
    app = open_app(start=True, engine=("--count", "3", "--pace", "0.01", "--crash", "3"))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "illegal memory access" in words(app))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "the engine crashed" in words(app))
        shown = words(app)
        assert "✗ crashed" in shown and "--resume" in shown


async def test_r_goes_on_with_a_stopped_run(open_app: OpenApp, runs: Path) -> None:
    stopped = [*training("x", steps=3), ev.RunStopped(step=3, checkpoint="runs/x/checkpoints/last.pt")]
    folder = make_run(runs, stopped, state="stopped", count=2)
    app = open_app(engine=("--count", "2", "--steps", "5000", "--pace", "0.1"))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "stopped")
        await until(pilot, lambda: "R begin again" in words(app))  # there is no checkpoint to go on from
        await until(pilot, lambda: "R begins this run again, in its folder" in words(app))
        assert "R go on" not in words(app)
        Path(folder.checkpoints).mkdir()
        (Path(folder.checkpoints) / "last.pt").write_bytes(b"x")
        await until(pilot, lambda: "R go on" in words(app) and "R begin" not in words(app))
        await pilot.press("R", "R")
        await until(pilot, lambda: app.scene.view.total_steps == 5000 and app.scene.view.done_steps > 0)
        assert app.scene.active and app.scene.run_id == folder.run_id and len(list_runs(runs)) == 1
        await until(pilot, lambda: "R go on" not in words(app))
        await pilot.press("x", "y")
        await until(pilot, lambda: app.scene.view.outcome == "stopped" and app.scene.resumable)


async def test_r_begins_a_run_again_that_has_no_checkpoint(open_app: OpenApp, runs: Path) -> None:
    stopped = [ev.RunStarted(run_id="x", model="m", pid=1), ev.RunStopped(step=0)]
    folder = make_run(runs, stopped, state="stopped", count=2)
    app = open_app(engine=("--count", "2", "--steps", "4", "--pace", "0.01"))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "R begin again" in words(app))
        await pilot.press("R")
        await until(pilot, lambda: app.scene.view.outcome == "finished" and not app.scene.active)
        assert app.scene.run_id == folder.run_id and len(list_runs(runs)) == 1 and not told(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_killed_engine_is_told_with_its_last_words(
    open_app: OpenApp, runs: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr("tui.engine.oom_kills", lambda: 6)  # when the engine began
    monkeypatch.setattr("tui.deaths.oom_kills", lambda: 7)
    app = open_app(start=True, engine=("--count", "3", "--steps", "5000", "--pace", "0.1", "--say", "loading shard 2"))
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.scene.condition is not None and app.scene.condition.state == "running")
        assert app.scene.condition is not None and app.scene.condition.pid is not None
        os.kill(app.scene.condition.pid, signal.SIGKILL)

        def shown() -> str:
            return " ".join(re.sub("[│▁▂▃▄▅▆▇█]", " ", words(app)).split())  # without frames and scroll bars

        for expected in ("✗ crashed", "the engine crashed", "killed by SIGKILL",
                         "out-of-memory killer (1 process killed", "halve training.batch_size",
                         "the last lines of engine.log:", "loading shard 2"):
            await until(pilot, lambda expected=expected: expected in shown())
        await until(pilot, lambda: any(way in shown() for way in (
            "R begins this run again", "R goes on from the last checkpoint")))
        assert app.link is not None
        scene = Follower(RunLink(app.link.folder)).poll()  # as somebody sees it who was not there
        assert status_of(scene) == status_of(app.scene) and scene.condition == app.scene.condition
        what, text = train(app).copy_text() or ("", "")
        assert "state crashed: it was killed by SIGKILL" in text


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_full_disk_is_obvious(open_app: OpenApp, runs: Path, size: tuple[int, int]) -> None:
    reason = "runs/x/events.jsonl cannot be written: No space left on device"
    events = [*training("x", steps=12), ev.Notice(what=f"{reason}; the run waits"), ev.RunPaused(reason=reason)]
    folder = make_run(runs, events, state="paused", alive=True, count=2)
    app = open_app()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "‖ waiting" in words(app))
        await until(pilot, lambda: "it goes on by itself" in words(app))
        shown = words(app)
        assert "! waiting  " in shown and "space resume" not in shown and "space why it waits" in shown
        await pilot.press("space")
        await until(pilot, lambda: bool(told(app)))
        assert reason in told(app)[0] and "by itself" in told(app)[0]
        assert not Path(folder.control_file).exists()  # nothing was asked of the engine
        log = EventLog(Path(folder.events_file))
        log.append(ev.RunResumed())
        log.close()
        await until(pilot, lambda: "‖ waiting" not in words(app) and "space pause" in words(app))
        await until(pilot, lambda: "! waiting  " not in words(app))  # the log keeps its line


async def test_skipped_steps_are_counted(open_app: OpenApp, runs: Path) -> None:
    steps = [event.model_copy(update={"skipped": 3}) if isinstance(event, ev.StepCompleted) else event
             for event in training("x", steps=4)]
    make_run(runs, steps, state="running", alive=True, count=2)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "3 steps skipped" in words(app))
        assert "! not finite" in words(app)


async def test_another_run_is_looked_at_from_its_beginning(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app(engine=("--count", "3", "--steps", "5000", "--pace", "0.2"))
    async with app.run_test(size=(120, 50)) as pilot:
        await until(pilot, lambda: "! overfitting" in words(app))
        before = app.scene.run_id
        await pilot.press("plus", "r", "pageup", "s")
        await until(pilot, lambda: app.scene.run_id != before and app.scene.view.done_steps > 3)
        await until(pilot, lambda: "train 1." in words(app) or "train 0." in words(app))  # it falls while we look
        shown = words(app)
        assert train(app).look.cursor is None and train(app).look.share == 1 and "at the cursor" not in shown
        assert "no data" not in shown and "─ follows ─" in shown and "! overfitting" not in shown
        await pilot.press("plus", "plus", "left")
        window, done = train(app).look.window(app.scene.view.train_loss), app.scene.view.done_steps
        await until(pilot, lambda: app.scene.view.done_steps > done + 5)
        await until(pilot, lambda: train(app).look.window(app.scene.view.train_loss) == pytest.approx(window))


async def test_each_screen_has_one_clock(open_app: OpenApp, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[str] = []  # two at once would also measure the engine's CPU over no time at all
    whole = RunScreen.set_interval

    def watched(screen: RunScreen, seconds: float, call: Any = None, **more: Any) -> Any:
        if not more:
            clocks.append(f"{screen.TAB} {call.__name__}")
        return whole(screen, seconds, call, **more)

    monkeypatch.setattr(RunScreen, "set_interval", watched)
    app = open_app()
    async with app.run_test() as pilot:
        await until(pilot, lambda: bool(clocks))
        await pilot.press("4")
        await until(pilot, lambda: "Config tick" in clocks)
        await pilot.pause()
        assert sorted(clocks) == ["Config look", "Config tick", "Train tick"]


async def test_an_engine_that_cannot_go_on_is_a_crash(open_app: OpenApp, runs: Path) -> None:
    stopped = [*training("x", steps=3), ev.RunStopped(step=3, checkpoint="runs/x/checkpoints/last.pt")]
    folder = make_run(runs, stopped, state="stopped", count=2)
    Path(folder.checkpoints).mkdir()
    (Path(folder.checkpoints) / "last.pt").write_bytes(b"x")
    app = open_app()
    app._again = lambda folder: [sys.executable, "-c", "raise SystemExit('last.pt is no checkpoint')"]
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.resumable)
        await pilot.press("R")
        await until(pilot, lambda: "✗ crashed" in words(app) and "last.pt is no checkpoint" in words(app))
        assert "R goes on from the last checkpoint" in words(app)


async def test_diagnoses_and_the_machine_are_told(
    open_app: OpenApp, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    make_run(runs, training("x", device="cuda"), state="running", alive=True, count=2)
    app = open_app()
    async with app.run_test(size=(120, 50)) as pilot:
        await until(pilot, lambda: "64°C" in words(app))
        await until(pilot, lambda: "! overfitting  held-out loss" in words(app) and "B, CPU" in words(app))
        shown = words(app)
        assert "training.num_epochs" in shown and "! warm-up" in shown and "→ set training.warmup_steps to 3" in shown
        assert "182/450 W" in shown
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "! overfitting" in words(app) and "! warm-up" not in words(app))
        what, text = train(app).copy_text() or ("", "")
        assert what == "the figures of the run"
        for line in (f"run {app.scene.run_id}", "step 90/90", "best held-out loss 0.856 (epoch 5)", "epoch 10/10"):
            assert line in text.splitlines(), line
        assert "overfitting: held-out loss" in text


async def test_no_run_has_no_figures_to_copy(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert train(app).copy_text() is None


async def test_files_fed_by_hand(open_app: OpenApp, runs: Path) -> None:
    def step(number: int, loss: str, total: int = 0) -> str:
        return (f'{{"type":"StepCompleted","time":1e30,"step":{number},"total_steps":{total},"epoch":1,"loss":{loss},'
                '"learning_rate":"NaN","grad_norm":1e300,"tokens_per_second":0,"memory":{"device":"cuda",'
                f'"allocated":{10**30},"reserved":0,"peak":-1,"total":0,"process":0}}}}\n')

    folder = make_run(runs, [], state="running", alive=True, count=2)
    app = open_app()
    with open(folder.events_file, "a") as file:
        file.write('{"type":"TrainingPlanned","time":"NaN","train_problems":0,"heldout_problems":0,"effective_batch":0,'
                   '"steps_per_epoch":0,"total_steps":0,"num_epochs":0,"learning_rate":1e-300,"warmup_steps":0}\n')
        file.write(step(1, '"NaN"') + step(2, "1e300") + step(2, '"-Infinity"') + '{"type":"Sparkle","time":1}\n')
        file.write(f'{{"type":"RunFinished","time":{10**400},"seconds":1}}\n{{"torn": ')
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.done_steps == 2)
        for key in ("v", "L", "r", "plus", "left", "dollar_sign", "v", "v", "v", "v", "v", "m", "minus", "escape"):
            await pilot.press(key)
        await pilot.pause(0.3)
        shown = words(app)
        assert "the loss is not a number" in shown and "1 line of events.jsonl" in shown and "cannot be" not in shown


async def test_a_failed_run_says_what_to_do(open_app: OpenApp, runs: Path) -> None:
    failed = ev.RunFailed(what="the model does not fit", why="CUDA out of memory", remedy="lower training.batch_size")
    make_run(runs, [ev.RunStarted(run_id="x", model="m", pid=1), failed], state="failed", count=2)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "failed")
        await pilot.pause(0.2)
        shown = " ".join(words(app).split())
        assert "✗ failed" in shown and "does not fit" in shown and "training.batch_size" in shown


async def test_torn_lines_are_counted(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, training("x", steps=2), count=2)
    with open(folder.events_file, "a") as file:
        file.write('{"torn": \n{"type":"Newer","time":1}\n{"half')
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "2 lines of events.jsonl" in words(app))


async def test_a_folder_full_of_damage(open_app: OpenApp, runs: Path) -> None:
    (runs / "2026-01-01-000000-empty").mkdir(parents=True)
    (runs / "a-file").write_text("x")
    folder = RunFolder(runs / "2026-01-02-000000-garbage")
    folder.root.mkdir()
    Path(folder.record_file).write_bytes(b"\xff\x00")
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.2)
        shown = words(app)
        assert "2 damaged run folders" in shown and "2026-01-02-000000-garbage: run.json: Invalid" in shown
        assert "2026-01-01-000000-empty: run.json: No such file" in shown and "s   starts training" in shown


async def test_a_run_folder_that_vanishes(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, training("x", steps=2), state="running", alive=True, count=2)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.active)
        folder.root.rename(runs.parent / "elsewhere")
        await until(pilot, lambda: "? damaged" in words(app))


async def test_a_faulty_configuration_is_a_message(open_app: OpenApp, tmp_path: Path) -> None:
    app = open_app()
    (tmp_path / "bad.yml").write_text("training:\n  num_epochz: 3\n")
    app.plan = type(app.plan)(tmp_path / "bad.yml")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Message))
        assert "num_epochs" in words(app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, TrainScreen))


async def test_an_engine_that_cannot_be_started_is_a_message(open_app: OpenApp) -> None:
    app = open_app()
    app._command = lambda folder: ["/nowhere/python"]
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Message))
        assert "cannot be started" in words(app)


async def test_a_queued_run_is_starting(open_app: OpenApp, runs: Path) -> None:
    create_run(Config(), "demo", runs)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "○ starting" in words(app) and "loads its libraries" in words(app))


async def test_a_bug_in_the_follower_is_told(
    open_app: OpenApp, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(follower: Follower) -> Scene:
        raise KeyError("surprise")

    make_run(runs, count=2)
    monkeypatch.setattr(Follower, "poll", broken)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "cannot be followed: KeyError: 'surprise'" in words(app))


@pytest.mark.parametrize("width", range(24, 110))
def test_the_header_leaves_out_whole_parts(width: int, tmp_path: Path) -> None:
    view = advance(RunView(), training("2026-01-01-000000-demo", steps=20))
    scene = Scene(run_id="2026-01-01-000000-demo", view=view, condition=Condition("running"))
    shown = header(scene, 1_795_000_130.0, width).plain
    assert len(shown) <= width and not shown.rstrip().endswith(",") and "● validating" in shown
    assert shown.count("elapsed") == shown.count(":") - shown.count(" left")
