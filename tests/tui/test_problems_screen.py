"""Every key of the Problems screen, and what models may write into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from core.contract import events as ev
from core.contract.event_log import EventLog
from core.contract.runs import RunFolder
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run, training
from tests.tui.fake_workbench import allow
from tests.tui.test_train_screen import words
from tui.app import SofttuneApp
from tui.problems.detail import View
from tui.problems.files import EvaluationRef
from tui.problems.listing import Show
from tui.problems.options import ProblemOptions
from tui.screens.problems import ProblemsScreen


def screen(app: SofttuneApp) -> ProblemsScreen:
    assert isinstance(app.screen, ProblemsScreen)
    return app.screen


def shown(app: SofttuneApp) -> list[str]:
    return [row.key[0] for row in screen(app).query_one(ProblemOptions).rows]


def task(app: SofttuneApp) -> str:
    row = screen(app).query_one(ProblemOptions).row
    return row.key[0] if row else ""


def focused(app: SofttuneApp) -> str:
    return str(app.focused.id) if app.focused else ""


async def opened(app: SofttuneApp, pilot: Pilot[object], count: int) -> None:
    await pilot.press("3")
    await until(pilot, lambda: isinstance(app.screen, ProblemsScreen) and len(shown(app)) == count)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 50)])
async def test_list_and_detail(open_app: OpenApp, runs: Path, size: tuple[int, int]) -> None:
    make_run(runs, count=20)
    app = open_app()
    async with app.run_test(size=size) as pilot:
        await opened(app, pilot, 20)
        seen = words(app)
        for expected in ("20 problems", "✓", "✗", "held-out", "HumanEval/0", "prompt and completion", "f filter",
                         "q quit"):
            assert expected in seen, expected


async def test_filters_failures_and_steps(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=20)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 20)
        sizes = {}
        while screen(app).filter not in sizes:
            sizes[screen(app).filter] = len(shown(app))
            assert screen(app).query_one(OptionList).option_count == len(shown(app))
            await pilot.press("f")
        assert sizes[Show.FAILED] + sizes[Show.PASSED] == 20 and sizes[Show.HELDOUT] == 4
        assert 0 < sizes[Show.TIMED_OUT] < sizes[Show.FAILED] and Show.FLIPPED not in sizes
        assert f"{sizes[Show.TIMED_OUT]} timed out" in words(app)

        failed = [row.key[0] for row in screen(app)._rows if row.failed]
        at = failed.index(task(app)) if task(app) in failed else -1
        await pilot.press("n", "n")
        assert task(app) == failed[at + 2]
        await pilot.press("N")
        assert task(app) == failed[at + 1]
        for _ in range(len(failed)):
            await pilot.press("n")
        assert task(app) == failed[at + 1] and "round the end: the first failed problem" in told(app)
        await pilot.press("f", "f")
        await pilot.press("N")
        assert screen(app).filter is Show.PASSED and "no problem of this list failed" in told(app)


async def test_problem_by_problem_from_anywhere(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=5)
    app = open_app()
    async with app.run_test(size=(120, 24)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("right_square_bracket", "j", "down", "k", "up", "j")
        assert task(app) == "HumanEval/2"
        await until(pilot, lambda: "HumanEval/2  truncate_number" in words(app))
        await pilot.press("enter")
        assert focused(app) == "detail-side"
        await pilot.press("j", "j", "k")
        assert screen(app).query_one("#detail-side").scroll_y == 1 and task(app) == "HumanEval/2"
        await pilot.press("left_square_bracket")
        assert task(app) == "HumanEval/1"
        await until(pilot, lambda: screen(app).query_one("#detail-side").scroll_y == 0)
        await pilot.press("escape")
        assert focused(app) == "problems"
        for _ in range(9):
            await pilot.press("right_square_bracket")
        assert task(app) == "HumanEval/4"
        what, text = screen(app).copy_text() or ("", "")
        assert what == "HumanEval/4" and "def mean_absolute_deviation" in text and "HumanEval/4:" in text


async def test_search(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=20)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 20)
        await pilot.press("slash", *"paren")
        await until(pilot, lambda: shown(app) == ["HumanEval/1", "HumanEval/6"])
        await pilot.press("enter")
        assert focused(app) == "problems"
        await pilot.press("slash", *"zz")
        await until(pilot, lambda: not shown(app))
        assert "No problem fits" in words(app)
        await pilot.press("escape")
        await until(pilot, lambda: len(shown(app)) == 20)
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
        seen = words(app)
        assert "\x1b" not in seen and "\x07" not in seen
        for literal in ("␛[2J", "[@click=app.quit]x[/]", "[b]odd[/b]", "日本語", "␛]0;t␇"):
            assert literal in seen, literal


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


def evaluate(folder: RunFolder, checkpoint: str, *passing: int) -> EvaluationRef:
    """An evaluation of six problems, of which these pass."""
    place = folder.evaluation(checkpoint)
    place.mkdir(parents=True, exist_ok=True)
    rows = [{"task_id": f"HumanEval/{n}", "completion": f"    return {n}  # {checkpoint}\n", "passed": n in passing,
             "verdict": "passed" if n in passing else "failed", "detail": "" if n in passing else "line 12: assert no",
             "split": "train"} for n in range(6)]
    (place / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvaluationRef(folder, checkpoint)


async def test_two_evaluations_side_by_side(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, count=6)
    a, b = evaluate(folder, "epoch_0001", 0, 1, 2), evaluate(folder, "epoch_0002", 1, 2, 3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 6)
        await app.open_problems(a, b, "HumanEval/3")
        await until(pilot, lambda: "gained: B passes where A failed" in words(app))
        seen = words(app)
        for expected in (f"A  {folder.run_id} · epoch_0001  ✓ 3  ✗ 3", f"B  {folder.run_id} · epoch_0002", "✗✓ +gained",
                         "✓✗ −lost", "± 2 flipped: +1 gained, −1 lost", "0 back", "A: completion", "B: completion"):
            assert expected in seen, expected
        assert task(app) == "HumanEval/3"
        assert any("# epoch_0001" in line and "# epoch_0002" in line for line in seen.splitlines())
        while screen(app).filter is not Show.FLIPPED:
            await pilot.press("f")
        assert shown(app) == ["HumanEval/0", "HumanEval/3"]
        await pilot.press("d")
        await until(pilot, lambda: "only in the canonical solution" in words(app))
        await pilot.press("d")
        await until(pilot, lambda: "− only in A   + only in B" in words(app))
        await pilot.resize_terminal(80, 24)
        await pilot.pause(0.2)
        assert task(app) == "HumanEval/3" and "+gained" in words(app)
        await pilot.press("0")
        await until(pilot, lambda: "A  2" not in words(app) and len(shown(app)) == 6)
        assert screen(app).filter is Show.ALL and screen(app).view is View.PROGRAM and "0 back" not in words(app)


async def test_one_evaluation_is_opened_and_left_with_escape(open_app: OpenApp, runs: Path) -> None:
    other = make_run(runs, count=6)
    ref = evaluate(other, "epoch_0001", 5)
    make_run(runs, training("x", steps=2), state="stopped", count=3)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 3)
        assert "2 goes to Checkpoints" in words(app)
        await pilot.press("f", "f")
        await app.open_problems(ref, None, "HumanEval/4")
        await until(pilot, lambda: task(app) == "HumanEval/4")
        assert screen(app).filter is Show.ALL and "epoch_0001  ✓ 1  ✗ 5" in words(app)
        await pilot.press("enter", "escape")
        assert screen(app).opened is not None
        await pilot.press("escape")
        await until(pilot, lambda: screen(app).opened is None and len(shown(app)) == 3)
        await app.open_problems(EvaluationRef(RunFolder(runs / "gone"), "best"), None, "")
        await until(pilot, lambda: "best of gone: not scored yet" in words(app))
        await app.open_problems(EvaluationRef(other, "epoch_0009"), None, "")
        await until(pilot, lambda: len(shown(app)) == 6)
        assert "2 goes to Checkpoints" in words(app)


async def test_a_completion_is_run_again(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, count=6)
    a, b = evaluate(folder, "epoch_0001", 0), evaluate(folder, "epoch_0002", 0)
    before = (folder.evaluation("epoch_0002") / "results.jsonl").read_bytes()
    app = open_app(workbench=("--allow", "1"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 6)
        await pilot.press("enter", "end", "r")
        await until(pilot, lambda: "run again: running the program in the sandbox" in words(app))  # at the page's top
        allow(2)
        await until(pilot, lambda: "run again: failed, not as stored" in words(app))
        assert "the stored results stay as they are" in words(app) and "✓ passed" in words(app)
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "HumanEval/1  " in words(app) and "run again" not in words(app))
        await app.open_problems(a, b, "HumanEval/2")
        await until(pilot, lambda: "B: completion" in words(app))
        await pilot.press("r")
        await until(pilot, lambda: words(app).count("run again: failed, as stored") == 2)
        assert (folder.evaluation("epoch_0002") / "results.jsonl").read_bytes() == before


async def test_a_rerun_that_is_impossible_is_explained(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, count=6)
    evaluate(folder, "best")
    app = open_app(workbench=("--die", "RunProgram"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 6)
        await pilot.press("r")
        await until(pilot, lambda: "the workbench ended with exit status 3" in words(app))
        assert "→ CUDA error: out of memory" in words(app)
        Path(folder.problems_file).unlink()
        await app.open_problems(EvaluationRef(folder, "best"), None, "HumanEval/1")
        await until(pilot, lambda: "tests" not in words(app) and task(app) == "HumanEval/1")
        await pilot.press("r")
        await until(pilot, lambda: "the tests of this problem are not known" in words(app))
        await pilot.press("e")
        assert isinstance(app.screen, ProblemsScreen) and any("not known" in said for said in told(app))


async def test_huge_and_odd_completions_are_shown(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, count=6)
    place = folder.evaluation("best")
    texts = ["x = (1, 'a')\n" * 1_500, "y" * 20_000, "\u202e日\x1b[2J\x00" * 3_000, "(" * 20_000, "\n" * 20_000,
             "a\u0301" * 10_000]
    (place / "results.jsonl").write_text("".join(json.dumps({
        "task_id": f"HumanEval/{n}", "completion": text, "passed": False, "verdict": "failed",
        "stdout": "out\n" * 1_000, "split": "train"}) + "\n" for n, text in enumerate(texts)))
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 6)
        for key in ("d", *["right_square_bracket", "d"] * 6, "enter", "end", "pagedown", "home", "d", "end"):
            await pilot.press(key)
        assert "HumanEval/5" in words(app)
        assert "\x1b" not in words(app) and "\x00" not in words(app)
