"""Every key of the Problems screen, and what models may write into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from core.contract import events as ev
from core.contract.runs import EventLog
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run, training
from tests.tui.test_train_screen import words
from tui.app import SofttuneApp
from tui.problem_list import Show, Status
from tui.screens.problems import ProblemsScreen


def screen(app: SofttuneApp) -> ProblemsScreen:
    assert isinstance(app.screen, ProblemsScreen)
    return app.screen


def task(app: SofttuneApp) -> str:
    row = screen(app)._row()
    return row.key[0] if row else ""


async def opened(app: SofttuneApp, pilot: Pilot[object], count: int) -> None:
    await pilot.press("3")
    await until(pilot, lambda: isinstance(app.screen, ProblemsScreen) and len(screen(app)._shown) == count)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 50)])
async def test_list_and_detail(open_app: OpenApp, runs: Path, size: tuple[int, int]) -> None:
    make_run(runs, count=20)
    app = open_app()
    async with app.run_test(size=size) as pilot:
        await opened(app, pilot, 20)
        shown = words(app)
        for expected in ("20 problems", "✓", "✗", "held-out", "HumanEval/0", "prompt and completion", "f filter",
                         "q quit"):
            assert expected in shown, expected


async def test_filter_cycle(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=20)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 20)
        sizes = {}
        for _ in Show:
            sizes[screen(app).filter] = len(screen(app)._shown)
            assert screen(app).query_one(OptionList).option_count == len(screen(app)._shown)
            await pilot.press("f")
        assert sizes[Show.FAILED] + sizes[Show.PASSED] == 20 and sizes[Show.HELDOUT] == 4
        await pilot.press("f")
        assert "showing" in words(app) and screen(app).filter is Show.FAILED


async def test_next_and_previous_failure(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=20)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 20)
        failed = [row.key[0] for row in screen(app)._rows if row.status is Status.FAILED and row.key[0] != task(app)]
        await pilot.press("n")
        assert task(app) == failed[0]
        await pilot.press("n")
        assert task(app) == failed[1]
        await pilot.press("N")
        assert task(app) == failed[0]
        for _ in range(25):
            await pilot.press("n")
        assert task(app) == failed[-1]
        assert "no failed problem further down" in told(app)


async def test_problem_by_problem_from_anywhere(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=5)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("right_square_bracket", "right_square_bracket")
        assert task(app) == "HumanEval/2"
        await until(pilot, lambda: "HumanEval/2  truncate_number" in words(app))
        await pilot.press("enter")
        assert app.focused is not None and app.focused.id == "detail-side"
        await pilot.press("left_square_bracket")
        assert task(app) == "HumanEval/1"
        await pilot.press("escape")
        assert app.focused is not None and app.focused.id == "problems"
        for _ in range(9):
            await pilot.press("right_square_bracket")
        assert task(app) == "HumanEval/4"


async def test_search(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=20)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 20)
        await pilot.press("slash", *"paren")
        await until(pilot, lambda: set(screen(app)._shown) == {"HumanEval/1#0", "HumanEval/6#0"})
        await pilot.press("enter")
        assert app.focused is not None and app.focused.id == "problems"
        await pilot.press("slash", *"zz")
        await until(pilot, lambda: not screen(app)._shown)
        assert "No problem fits" in words(app)
        await pilot.press("escape")
        await until(pilot, lambda: len(screen(app)._shown) == 20)
        assert not screen(app).has_class("-searching")
        assert f"{task(app)}  " in words(app).partition("prompt and completion")[0]
        assert "No problem fits" not in words(app)


async def test_verdicts_arrive_live_and_the_cursor_stays(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, training("x", steps=2), state="running", alive=True, count=6)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 6)
        await pilot.press("right_square_bracket")
        assert "pending" in words(app)
        log = EventLog(Path(folder.events_file))
        log.append(ev.CompletionGenerated(task_id="HumanEval/1", completion="    return []\n", tokens=3,
                                          finish_reason="stop", done=1, total=6))
        log.append(ev.ProblemEvaluated(task_id="HumanEval/1", passed=False, verdict="failed", seconds=0.1, done=1,
                                       detail="AssertionError: x", total=6))
        log.close()
        await until(pilot, lambda: "AssertionError: x" in words(app))
        assert task(app) == "HumanEval/1" and "✗ failed" in words(app) and "1 failed" in words(app)


async def test_hostile_output_is_shown_literally(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, training("x", steps=2), count=1)
    place = folder.evaluation("best")
    place.mkdir(parents=True)
    hostile = "    \x1b[2J\x1b[41m [red]no[/red] [@click=app.quit]x[/] \x07\ud800 日本語 \u202e\n" + "w" * 20_000
    (place / "results.jsonl").write_text(json.dumps({
        "task_id": "HumanEval/0", "completion": hostile, "passed": False, "verdict": "[b]odd[/b]",
        "detail": "\x1b]0;t\x07", "stdout": "\x1b[31m", "traceback": "[/]",
    }) + "\n")
    app = open_app()
    async with app.run_test(size=(120, 60)) as pilot:
        await opened(app, pilot, 1)
        await until(pilot, lambda: "[red]no[/red]" in words(app))
        shown = words(app)
        assert "\x1b" not in shown and "\x07" not in shown
        for literal in ("␛[2J", "[@click=app.quit]x[/]", "[b]odd[/b]", "日本語", "␛]0;t␇"):
            assert literal in shown, literal


async def test_before_the_first_run(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 0)
        assert "No problems yet" in words(app)
        for key in ("n", "N", "f", "left_square_bracket", "right_square_bracket", "enter", "slash", "escape"):
            await pilot.press(key)
        await pilot.press("1")
        await until(pilot, lambda: app.current_mode == "train")


async def test_a_resize_keeps_the_problem(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=9)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 9)
        await pilot.press("right_square_bracket", "right_square_bracket", "right_square_bracket")
        await pilot.resize_terminal(80, 24)
        await pilot.pause(0.3)
        assert task(app) == "HumanEval/3" and "/3" in words(app)
