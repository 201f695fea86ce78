"""The scratch copy: typing, running, the file, the way back; and what an editor must not hand to a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot

from core.contract.runs import RunFolder
from tests.tui.conftest import OpenApp, until
from tests.tui.fake_run import make_run, training
from tests.tui.fake_workbench import allow
from tests.tui.test_problems_screen import focused, opened, task
from tests.tui.test_train_screen import words
from tui.app import SofttuneApp
from tui.problems.editor import CompletionEditor
from tui.problems.files import EvaluationRef, Problem
from tui.problems.listing import Attempt, Row
from tui.problems.scratch import Scratch, StandIns
from tui.run_view import ProblemState
from tui.screens.problems import ProblemsScreen
from tui.screens.scratch import ScratchScreen
from tui.visible import visible

HOSTILE = "    return '\x1b[2J' + \"\x85\u2028\u202e\ud800\"  # ␛\r\n\tx = '\x00\x7f'\n"


def run_with(runs: Path, completion: str) -> RunFolder:
    """A run of two problems with this completion of the first."""
    folder = make_run(runs, training("x", steps=2), state="stopped", count=2)
    place = folder.evaluation("best")
    place.mkdir(parents=True)
    (place / "results.jsonl").write_text(json.dumps({
        "task_id": "HumanEval/0", "completion": completion, "passed": False, "verdict": "failed", "detail": "line 9: no"
    }) + "\n")
    return folder


def scratch_screen(app: SofttuneApp) -> ScratchScreen:
    assert isinstance(app.screen, ScratchScreen)
    return app.screen


async def editing(app: SofttuneApp, pilot: Pilot[object]) -> CompletionEditor:
    """Open the first problem's scratch copy."""
    await opened(app, pilot, 2)
    await pilot.press("e")
    await until(pilot, lambda: isinstance(app.screen, ScratchScreen) and scratch_screen(app).scratch.loaded)
    return scratch_screen(app).query_one(CompletionEditor)


async def test_edit_run_and_come_back(open_app: OpenApp, runs: Path) -> None:
    folder = run_with(runs, "    return 1\n")
    results = folder.evaluation("best") / "results.jsonl"
    before, file = results.read_bytes(), folder.root / "scratch" / "best" / "HumanEval_0.py"
    app = open_app(workbench=("--allow", "1"))
    async with app.run_test(size=(120, 40)) as pilot:
        editor = await editing(app, pilot)
        assert focused(app) == "scratch-code" and editor.line_number_start == 12
        seen = words(app)
        for expected in ("has_close_elements", "as stored", "HumanEval_0.py", "stored  ✗ failed", "F5 run", "prompt",
                         "12      return 1", "METADATA", "nothing stored"):
            assert expected in seen, expected
        assert "e type" not in seen and "q quit" not in seen  # they are letters now
        await pilot.press("end", *"  # wrong q1")
        assert editor.completion == "    return 1  # wrong q1\n" and "edited" in words(app) and not file.exists()
        await pilot.press("f5")
        await until(pilot, lambda: "running the program in the sandbox" in words(app))
        allow(2)
        await until(pilot, lambda: "✗ scratch copy: failed" in words(app))
        assert "line 12: assert candidate([1.0]) == 2" in words(app) and "scratch copy: traceback" in words(app)
        assert "again" in words(app)  # what it printed
        assert file.read_text().endswith('"""\n    return 1  # wrong q1\n') and "from typing" in file.read_text()

        await pilot.press("escape")
        assert focused(app) == "scratch-result"
        await pilot.press("j", "k", "e")
        assert focused(app) == "scratch-code"
        await pilot.press(*" right")
        assert "the text has changed since" in words(app)
        await pilot.press("escape", "r")
        await until(pilot, lambda: "✓ scratch copy: passed" in words(app))
        assert scratch_screen(app).copy_text() == ("scratch copy of HumanEval/0", file.read_text())
        await pilot.press("u")
        await until(pilot, lambda: editor.completion == "    return 1\n" and "as stored" in words(app))
        await pilot.press("u")
        await until(pilot, lambda: editor.completion == "    return 1  # wrong q1 right\n")
        await pilot.press("escape")
        assert isinstance(app.screen, ProblemsScreen) and task(app) == "HumanEval/0"
        assert "✗ failed" in words(app) and results.read_bytes() == before

        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ScratchScreen))
        kept = scratch_screen(app).query_one(CompletionEditor)
        assert kept.completion == "    return 1  # wrong q1 right\n" and "✓ scratch copy: passed" in words(app)
        await pilot.press("escape", "question_mark")
        await until(pilot, lambda: "Scratch copy: keys" in words(app))
        await pilot.pause()
        assert "run the text against the tests, in the sandbox" in words(app)
        await pilot.press("escape", "2")
        await until(pilot, lambda: app.current_mode == "checkpoints")
        await app.open_problems(EvaluationRef(folder, "best"), None, "HumanEval/1")
        await until(pilot, lambda: isinstance(app.screen, ProblemsScreen) and task(app) == "HumanEval/1")


async def test_the_file_outlives_the_app(open_app: OpenApp, runs: Path) -> None:
    folder = run_with(runs, "    return 1\n")
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await editing(app, pilot)
        await pilot.press("x")
    assert (folder.root / "scratch" / "best" / "HumanEval_0.py").read_text().endswith("x    return 1\n")
    again = open_app()
    async with again.run_test(size=(80, 24)) as pilot:
        editor = await editing(again, pilot)
        await until(pilot, lambda: editor.completion == "x    return 1\n")
        assert "edited" in words(again)
        await pilot.press("tab", "escape", "u", "escape", "e")
        await until(pilot, lambda: isinstance(again.screen, ScratchScreen))
        assert scratch_screen(again).scratch.text == "    return 1\n"


async def test_a_folder_that_cannot_be_written_and_a_workbench_that_refuses(open_app: OpenApp, runs: Path) -> None:
    folder = run_with(runs, "    return 1\n")
    (folder.root / "scratch").write_text("in the way")
    app = open_app(workbench=("--refuse", "RunProgram"))
    async with app.run_test(size=(120, 40)) as pilot:
        await editing(app, pilot)
        await pilot.press("x", "f5")
        await until(pilot, lambda: "the edits are not kept in a file" in words(app))
        await until(pilot, lambda: "✗ scratch copy: the checkpoint is damaged" in words(app))
        assert "→ use another" in words(app)


async def test_hostile_completions_are_edited_as_signs_and_run_as_they_are(open_app: OpenApp, runs: Path) -> None:
    run_with(runs, HOSTILE)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        editor = await editing(app, pilot)
        seen = words(app)
        assert not [char for char in seen if char != "\n" and (ord(char) < 32 or 0x7F <= ord(char) < 0xA0)]
        assert "‮" not in seen and "U+001B" in seen  # the legend: the picture of ESC is taken by the text itself
        assert editor.completion == HOSTILE and not scratch_screen(app).scratch.edited
        await pilot.press("r")
        assert editor.completion == "r" + HOSTILE
        await pilot.press("f5")
        await until(pilot, lambda: "scratch copy: the completion has" in words(app))


async def test_typing_in_20000_characters(open_app: OpenApp, runs: Path) -> None:
    run_with(runs, "    " + "y" * 20_000 + "\n" + "x = 1\n" * 1_000)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        editor = await editing(app, pilot)
        for key in ("a", "b", "end", "c", "down", "d", "home"):
            await pilot.press(key)
        assert editor.completion.startswith("ab    yy") and len(editor.completion) == 26_009


@pytest.mark.parametrize("text", [HOSTILE, "", "plain\n", "\r" * 3,
                                  "".join(map(chr, range(0x2400, 0x2500))) + "\x1b\x07"], ids=range(5))
def test_stand_ins_are_shown_and_taken_back(text: str) -> None:
    signs = StandIns(text)
    shown = signs.shown(text)
    assert signs.original(shown) == text and len(shown) == len(text)
    assert all(char in "\n\t" or visible(char) == char for char in shown)
    pasted = "\x1b]0;title\x07 and \u200b"
    assert signs.original(signs.shown(pasted)) == pasted and visible(signs.shown(pasted)) == signs.shown(pasted)


@pytest.mark.parametrize(("task_id", "checkpoint", "expected"), [
    ("HumanEval/12", "best", "best/HumanEval_12-1.py"), ("../../etc/x", "", "run/_.._etc_x-1.py"),
    ("a\x1b b", "..", "_/a__b-1.py"),
])
def test_the_file_stays_in_its_folder(task_id: str, checkpoint: str, expected: str) -> None:
    ref = EvaluationRef(RunFolder(Path("runs/x")), checkpoint)
    row = Row((task_id, 1), Problem(task_id), "", Attempt(ProblemState(completion="")))
    assert Scratch.of(ref, row, row.a).file == Path("runs/x/scratch") / expected


def test_a_file_of_something_else_is_not_taken_up(tmp_path: Path) -> None:
    row = Row(("a/0", 0), Problem("a/0", "def f():\n"), "", Attempt(ProblemState(completion="    return 1")))
    scratch = Scratch.of(EvaluationRef(RunFolder(tmp_path), "best"), row, row.a)
    assert scratch.read() is None and scratch.write() == "" and not scratch.file.exists()
    scratch.file.parent.mkdir(parents=True)
    scratch.file.write_text("def g():\n    return 2")
    assert scratch.read() is None
    scratch.text = "    return '\ud800'"
    assert scratch.write() == "" and scratch.read() == scratch.text
