"""On a machine that grants only the weak sandbox: the app asks once, with no as the answer to every other key."""

from __future__ import annotations

from pathlib import Path

from core.contract.config import Config
from core.contract.config_file import render_config
from core.contract.errors import WeakSandboxError
from tests.tui import test_checkpoints_screen as checkpoints
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run
from tests.tui.test_checkpoints_screen import finished, shows
from tests.tui.test_problems_screen import evaluate, opened
from tests.tui.test_train_screen import words
from tui.consent import QUESTION
from tui.plan_words import Plan
from tui.screens.dialogs import Confirm
from tui.screens.problems import ProblemsScreen
from tui.screens.scratch import ScratchScreen

ALLOWING = render_config(Config.model_validate({"evaluation": {"allow_weak_sandbox": True}}))


async def test_a_program_is_run_in_the_weak_sandbox_once_the_user_says_so(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, count=6)
    evaluate(folder, "best", 0)
    Path(folder.config_file).write_text(ALLOWING)  # what a run says of it is not heeded
    app = open_app(workbench=("--weak",))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 6)
        for refusing in ("n", "escape", "q"):
            await pilot.press("r")
            await shows(app, pilot, Confirm, QUESTION)
            await shows(app, pilot, Confirm, "can read your files, write and delete where you can, and use the network")
            await pilot.press(refusing)
            await until(pilot, lambda: "✗ run again: this machine grants only the weak sandbox" in words(app))
            assert f"→ {WeakSandboxError.setting}: true runs them all the same; softtune doctor" in words(app)
        await pilot.press("r")
        await shows(app, pilot, Confirm, "Yes holds until softtune is closed")
        await pilot.press("y")
        await until(pilot, lambda: "run again: failed, not as stored" in words(app))
        assert "isolation: process" in words(app) and "peak 14 MB" in words(app)
        await pilot.press("right_square_bracket", "r")
        await until(pilot, lambda: "HumanEval/1  " in words(app) and "run again: failed, as stored" in words(app))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ScratchScreen) and app.screen.scratch.loaded)
        await pilot.press("f5")
        await until(pilot, lambda: "✗ scratch copy: failed" in words(app))
    assert not [path for path in runs.parent.rglob("*.yml") if path != Path(folder.config_file).absolute()]

    again = open_app(workbench=("--weak",))  # and the answer is forgotten
    async with again.run_test(size=(120, 40)) as pilot:
        await opened(again, pilot, 6)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(again.screen, ScratchScreen) and again.screen.scratch.loaded)
        await pilot.press("f5")
        await shows(again, pilot, Confirm, QUESTION)
        await pilot.press("n")
        await until(pilot, lambda: "✗ scratch copy: this machine" in words(again))


async def test_two_programs_are_one_question(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, count=6)
    a, b = evaluate(folder, "epoch_0001", 0), evaluate(folder, "epoch_0002", 0)
    app = open_app(workbench=("--weak",))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 6)
        await app.open_problems(a, b, "HumanEval/2")
        await until(pilot, lambda: "B: completion" in words(app))
        await pilot.press("r")
        await shows(app, pilot, Confirm, QUESTION)
        await pilot.pause(0.3)  # the other one is refused too
        await pilot.press("y")
        await until(pilot, lambda: words(app).count("run again: failed, as stored") == 2)
        assert isinstance(app.screen, ProblemsScreen)


async def test_scoring_a_checkpoint_asks_before_it_completes(open_app: OpenApp, runs: Path) -> None:
    finished(runs)
    app = open_app(workbench=("--weak",))
    async with app.run_test(size=(120, 40)) as pilot:
        await checkpoints.opened(app, pilot, 5)
        await pilot.press("E", "y")
        await shows(app, pilot, Confirm, QUESTION)
        await pilot.press("n")
        await until(pilot, lambda: any("grants only the weak sandbox" in said for said in told(app)))
        assert checkpoints.screen(app).job is None and app.screen is checkpoints.screen(app)
        await pilot.press("E", "y")
        await shows(app, pilot, Confirm, QUESTION)
        await pilot.press("y")
        await until(pilot, lambda: any("pass@1" in said for said in told(app)))


async def test_the_settings_of_the_next_run_are_leave(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, count=6)
    evaluate(folder, "best", 0)
    Path("prompt_tuning.yml").write_text(ALLOWING)
    app = open_app(workbench=("--weak",))
    app.plan = Plan()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 6)
        await pilot.press("r")
        await until(pilot, lambda: "run again: failed, not as stored" in words(app))
        Path("prompt_tuning.yml").write_text("evaluation:\n  allow_weak_sandbox: perhaps\n")
        await pilot.press("right_square_bracket", "r")
        await shows(app, pilot, Confirm, QUESTION)
