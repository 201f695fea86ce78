"""Keys that work on every screen, and the way into the app."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.contract.control import Command
from core.contract.run_csv import run_csv
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run, training
from tests.tui.test_train_screen import words
from tui import __main__ as start
from tui.app import Parting, SofttuneApp, parting_words
from tui.plan_words import Plan
from tui.preferences import Preferences
from tui.screens.dialogs import Confirm, Help, ThemeChoice
from tui.screens.train import TrainScreen


async def test_number_keys_switch(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        modes = {"2": "checkpoints", "3": "problems", "4": "config", "5": "playground", "1": "train"}
        for key, mode in modes.items():
            await pilot.press(key)
            assert app.current_mode == mode
            await pilot.press(key)
            assert app.current_mode == mode


@pytest.mark.parametrize("mode", ["1", "2", "3", "4", "5"])
async def test_help_lists_what_the_screen_binds(open_app: OpenApp, runs: Path, mode: str) -> None:
    make_run(runs, training("x", steps=2), state="running", alive=True, count=3)
    app = open_app()
    async with app.run_test(size=(120, 50)) as pilot:
        await until(pilot, lambda: app.scene.active)
        await pilot.press(mode)
        bound = [active.binding for active in app.screen.active_bindings.values() if active.binding.tooltip]
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        await pilot.pause()
        shown = words(app)
        for binding in bound:
            if not binding.system:
                assert binding.tooltip in shown, binding
        assert "^q" not in shown
        await pilot.press("question_mark")
        assert not isinstance(app.screen, Help)


async def test_help_lists_what_does_not_work_now(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(120, 50)) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        await pilot.pause()
        for expected in ("pause between two micro-batches", "go on after a pause", "stop training", "undo the zoom"):
            assert expected in words(app), expected


async def test_every_hint_can_be_pressed(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(160, 50)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        assert "x stop" not in words(app) and "space" not in words(app).splitlines()[-1]
        for key in ("x", "space"):
            await pilot.press(key)
        assert len(app.screen_stack) == 1


async def test_a_click_on_a_hint_presses_its_key(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.2)
        column = words(app).splitlines()[-1].index("? help")
        await pilot.click("HintBar", offset=(column + 3, 0))
        await until(pilot, lambda: isinstance(app.screen, Help))


async def test_a_click_on_a_tab_shows_its_screen(open_app: OpenApp, runs: Path) -> None:
    app = open_app()
    async with app.run_test(size=(160, 40)) as pilot:
        for width, tab, mode in ((160, "3 Problems", "problems"), (80, " 4 ", "config")):
            await pilot.resize_terminal(width, 40)
            await pilot.pause(0.2)
            column = words(app).splitlines()[0].index(tab)
            await pilot.click("#header", offset=(column + 1, 0))
            await pilot.pause()
            assert app.current_mode == mode


async def test_the_last_screen_is_remembered(open_app: OpenApp, runs: Path, tmp_path: Path) -> None:
    runs.mkdir()
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        assert app.current_mode == "train"
        await pilot.press("4", "q")
    assert Preferences(tmp_path / "config" / "softtune").screen == "config"
    app = open_app()
    async with app.run_test(size=(120, 40)):
        assert app.current_mode == "config"
    runs.rmdir()  # in a folder without runs, the welcome comes first
    app = open_app()
    async with app.run_test(size=(120, 40)):
        assert app.current_mode == "train"
    (tmp_path / "config" / "softtune" / "ui.yml").write_text("screen: nowhere\ntheme: [1]\n")
    app = open_app()
    async with app.run_test(size=(120, 40)):
        assert app.current_mode == "train"


async def test_quitting_asks_where_something_would_be_lost(
    open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainScreen, "would_lose", lambda self: "an unsaved poem", raising=False)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("q")
        await pilot.pause()
        assert "an unsaved poem" in words(app)
        await pilot.press("n")
        assert app.is_running and not isinstance(app.screen, Confirm)
        await pilot.press("q", "y")
    assert app.return_value == Parting("")


async def test_a_theme_is_tried_kept_and_remembered(open_app: OpenApp, tmp_path: Path) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        before = app.theme
        await pilot.press("T")
        await until(pilot, lambda: isinstance(app.screen, ThemeChoice))
        await pilot.press("j")
        assert app.theme != before
        await pilot.press("escape")
        assert app.theme == before
        await pilot.press("T", "down", "down", "k", "enter")
        await until(pilot, lambda: not isinstance(app.screen, ThemeChoice))
        kept = app.theme
        assert kept != before
    assert Preferences(tmp_path / "config" / "softtune").theme == kept
    again = open_app()
    async with again.run_test():
        assert again.theme == kept


async def test_broken_themes_are_told_once(open_app: OpenApp, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "softtune" / "themes"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text("name: [red]odd")
    (folder / "odder.yaml").write_text("primary: 3")
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.2)
        assert len(told(app)) == 1 and "odd.yaml" in told(app)[0] and "odder.yaml" in told(app)[0]


async def test_the_palette_runs_commands(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.2)
        await pilot.press("colon")
        await until(pilot, lambda: "Search for commands" in words(app))
        await pilot.press(*"problems")
        await pilot.pause(0.5)
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.current_mode == "problems")


async def test_the_palette_writes_the_run_as_csv(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        await pilot.press("colon")
        await until(pilot, lambda: "Search for commands" in words(app))
        await pilot.press(*"csv")
        await until(pilot, lambda: "write this run as CSV" in words(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: bool(told(app)))
    path = folder.root / "curves.csv"
    assert str(path) in told(app)[0] and path.read_text() == run_csv(folder)


async def test_a_tracker_that_is_not_installed_is_told_and_nothing_starts(
    open_app: OpenApp, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tracked.yml"
    file.write_text("logging:\n  tracker: wandb\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    app = open_app()
    app.plan = Plan(file)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: "logging.tracker: wandb is not installed" in words(app))
        assert "pip install 'softtune[wandb]'" in words(app)
    assert not runs.exists() or not any(runs.glob("*/run.json"))


async def test_q_leaves_the_engine_running(open_app: OpenApp) -> None:
    app = open_app(start=True, engine=("--count", "3", "--steps", "5000", "--pace", "0.1"))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.done_steps > 0)
        await pilot.press("q")
    assert app.return_value == Parting(app.scene.run_id)
    assert app.link is not None and app.link.condition().active
    assert app.scene.run_id in parting_words(app.return_value)
    app.link.send(Command.STOP)


async def test_q_after_the_end_says_nothing(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        await pilot.press("q")
    assert parting_words(app.return_value) == "" and parting_words(None) == ""


async def test_monochrome_is_readable(open_app: OpenApp, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    make_run(runs, count=6)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.outcome == "finished")
        assert app.no_color and "✓ finished" in words(app)
        await pilot.press("3")
        await until(pilot, lambda: "▸" in words(app))


@pytest.mark.parametrize(("arguments", "terminal", "app"), [
    ([], True, True), ([], False, False), (["--demo"], True, True), (["--demo"], False, False),
    (["my.yml"], True, True),
    (["train"], True, False), (["doctor", "--json"], True, False), (["--help"], True, False), (["-h"], True, False),
    (["--version"], True, False), (["import", "x"], True, False),
])
def test_what_opens_the_app(arguments: list[str], terminal: bool, app: bool) -> None:
    assert start.wants_app(arguments, terminal) is app


def test_everything_else_becomes_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    class Replaced(Exception):
        pass

    def execv(program: str, arguments: list[str]) -> None:
        called.append([program, *arguments])
        raise Replaced

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(sys, "argv", ["softtune", "train", "--set", "a.b=c"])
    with pytest.raises(Replaced):
        start.main()
    assert called == [[sys.executable, sys.executable, "-P", "-m", "core", "train", "--set", "a.b=c"]]


def test_over_ssh_there_are_fewer_frames() -> None:
    environ = {"SSH_CONNECTION": "x", "TEXTUAL_FPS": "30"}
    start.prepare_terminal(environ)
    assert environ["TEXTUAL_FPS"] == "30" and environ["TEXTUAL_ANIMATIONS"] == "none"
    here: dict[str, str] = {}
    start.prepare_terminal(here)
    assert here == {}


@pytest.mark.parametrize("arguments", [["missing.yml"], []])
def test_a_faulty_configuration_ends_with_2_before_anything_opens(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (tmp_path / "prompt_tuning.yml").write_text("training:\n  batch_size: many\n  lerning_rate: 1\n")
    assert start.open_app(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and ("missing.yml" if arguments else "batch_size") in said.err
    assert not runs.exists()


def test_a_faulty_configuration_does_not_hide_a_finished_run(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(runs, [], count=2)
    (tmp_path / "prompt_tuning.yml").write_text("training:\n  batch_size: many\n")
    opened: list[str] = []
    monkeypatch.setattr(SofttuneApp, "run", lambda app: opened.append("opened"))
    assert start.open_app([]) == 0 and opened == ["opened"]
    assert start.open_app(["prompt_tuning.yml"]) == 2 and "batch_size" in capsys.readouterr().err


def test_an_unknown_option_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        start.open_app(["--sett", "x"])
    assert ended.value.code == 2 and "usage: softtune [CONFIG] [--demo]" in capsys.readouterr().err


def modules() -> list[str]:
    root = Path(start.__file__).parent
    return sorted(".".join(path.relative_to(root.parent).with_suffix("").parts) for path in root.rglob("*.py"))


def test_no_module_of_the_ui_loads_the_engine() -> None:
    """One clean interpreter imports them one by one; each is blamed for what it brings in."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers', 'numpy', 'plotext')\n"
        "           or m.startswith('core.') and not m.startswith('core.contract')]\n"
        "    assert not bad, (name, bad)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program, *modules()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
