"""Every key of the Compare screen, and what it shows of runs that are whole, unscored, torn, or of one run."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from textual.pilot import Pilot

from core.contract.config import Config
from core.contract.config_file import render_config
from core.contract.runs import RunFolder
from core.contract.workbench import CosinesMapped
from tests.tui.conftest import OpenApp, until
from tests.tui.fake_run import make_run, training, write_checkpoints
from tests.tui.test_train_screen import words
from tui.app import SofttuneApp
from tui.checkpoints.catalogue import CatalogueReader, CheckpointRow
from tui.compare.inquiry import Inquiry
from tui.compare.sections import Section
from tui.screens.checkpoints import CheckpointsScreen
from tui.screens.compare import CompareScreen
from tui.screens.dialogs import Help
from tui.screens.problems import ProblemsScreen
from tui.screens.tokens import TokensScreen
from tui.widgets.flip_list import FlipList
from tui.widgets.heatmap import Heatmap
from tui.widgets.plot import Plot

FIRST, SECOND = "2026-11-20-101500-first", "2026-11-21-101500-second"


def run_of(runs: Path, name: str, passes: str, checkpoint: str = "best", steps: int = 18) -> RunFolder:
    """A run with checkpoints; `passes` has a letter for each problem: "p" passed, "f" failed, "-" not there. Every
    fifth problem is held out."""
    made = make_run(runs, training(name, steps=steps), count=10)
    os.rename(made.root, runs / name)
    folder = RunFolder(runs / name)
    folder.write_record(folder.read_record().model_copy(update={"run_id": name}))
    write_checkpoints(folder, 2, scored=())
    score(folder, checkpoint, passes)
    return folder


def score(folder: RunFolder, checkpoint: str, passes: str) -> None:
    rows = [json.dumps({"task_id": f"HumanEval/{n}", "completion": "    return 1\n", "passed": letter == "p",
                        "verdict": "passed" if letter == "p" else "timed out",
                        "split": "heldout" if n % 5 == 4 else "train"}) for n, letter in enumerate(passes)
            if letter != "-"]
    place = folder.evaluation(checkpoint)
    place.mkdir(parents=True, exist_ok=True)
    (place / "results.jsonl").write_text("".join(row + "\n" for row in rows))


def two_runs(runs: Path) -> None:
    """B gains /4 (held out), /1, /2 and loses /0."""
    run_of(runs, FIRST, "pffffppppp")
    second = run_of(runs, SECOND, "fppfpppppp")
    config = Config()
    training_settings = config.training.model_copy(update={"learning_rate": 0.05})
    Path(second.config_file).write_text(render_config(config.model_copy(update={"training": training_settings})))


def row(runs: Path, run: str, name: str = "best") -> CheckpointRow:
    return next(one for one in CatalogueReader(runs).read().rows if one.key == f"{run}/{name}")


def screen(app: SofttuneApp) -> CompareScreen:
    (found,) = [one for one in app.screen_stack if isinstance(one, CompareScreen)]
    return found


def task(app: SofttuneApp) -> str:
    flip = screen(app).query_one(FlipList).flip
    return flip.task_id if flip else ""


async def opened(app: SofttuneApp, pilot: Pilot[object], a: CheckpointRow, b: CheckpointRow) -> None:
    await pilot.press("2")
    await app.push_screen(CompareScreen(a, b))
    await until(pilot, lambda: screen(app).comparison.complete and not screen(app)._reading)
    await until(pilot, lambda: "reading" not in words(app))


async def test_the_overview_and_moving_in_the_flips(open_app: OpenApp, runs: Path) -> None:
    two_runs(runs)
    app = open_app()
    async with app.run_test(size=(120, 44)) as pilot:
        await opened(app, pilot, row(runs, FIRST), row(runs, SECOND))
        await until(pilot, lambda: "▸▲ gained" in words(app))
        shown = words(app)
        for expected in (
            f" A  {FIRST}  best", f" B  {SECOND}  best", "2 Checkpoints", "held-out loss", "6 of 10", "8 of 10",
            "2 held-out: no evidence that B is better: 1 gained, 0 lost", "(exact McNemar)",
            "all 10 (8 of them training data): no evidence that B is better", "held-out: 1 gained, 0 lost",
            "training: 2 gained, 1 lost", "A ✗ timed out", "B ✓ passed", "training.learning_rate", "0.05",
            "● A held-out", "○ B held-out", "enter open", "j k move", "tab section", "▲ better",
        ):
            assert expected in shown, expected
        assert task(app) == "HumanEval/4" and "h l" not in shown.splitlines()[-1]
        await pilot.press("j", "down")
        assert task(app) == "HumanEval/2"
        await pilot.press("pagedown")
        assert task(app) == "HumanEval/0"
        await pilot.press("k")
        assert task(app) == "HumanEval/2"
        await pilot.press("up", "x")
        await until(pilot, lambda: f" A  {SECOND}" in words(app) and "▸▼ lost" in words(app))
        assert task(app) == "HumanEval/1" and "▼ worse" in words(app)
        await pilot.press("pageup")
        assert task(app) == "HumanEval/4"
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "metrics" in words(app) and "problems that flipped" not in words(app))
        assert "2 held-out: no evidence" in words(app) and "held-out loss" in words(app)
        await pilot.press("tab")
        await until(pilot, lambda: "problems that flipped" in words(app))
        assert task(app) == "HumanEval/4"


async def test_enter_opens_the_problem_and_2_comes_back(open_app: OpenApp, runs: Path) -> None:
    two_runs(runs)
    app = open_app()
    async with app.run_test(size=(160, 44)) as pilot:
        await opened(app, pilot, row(runs, FIRST), row(runs, SECOND))
        await until(pilot, lambda: task(app) == "HumanEval/4")
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(app.screen, ProblemsScreen))
        await until(pilot, lambda: "HumanEval/1  separate_paren_groups" in words(app))
        assert FIRST in words(app) and SECOND in words(app)
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        assert task(app) == "HumanEval/1"
        await pilot.click(FlipList, offset=(20, 5))
        await until(pilot, lambda: isinstance(app.screen, ProblemsScreen))
        await pilot.press("2", "escape")
        await until(pilot, lambda: isinstance(app.screen, CheckpointsScreen))


async def test_sections_log_scale_and_copying(open_app: OpenApp, runs: Path) -> None:
    two_runs(runs)
    app = open_app()
    async with app.run_test(size=(120, 30)) as pilot:
        await opened(app, pilot, row(runs, FIRST), row(runs, SECOND))
        assert screen(app).query_one("#compare-curves").display and screen(app).query_one(FlipList).flip is not None
        seen = []
        for key in ("tab", "v", "v", "tab", "tab", "shift+tab", "v"):
            await pilot.press(key)
            seen.append(screen(app).section)
        assert seen == [Section.PROBLEMS, Section.SETTINGS, Section.CURVES, Section.COSINES, Section.OVERVIEW,
                        Section.COSINES, Section.OVERVIEW]
        what, text = screen(app).copy_text() or ("", "")
        assert what == "the comparison" and f"A: {FIRST}/best" in text and "gained\tHumanEval/4\theld-out" in text
        assert "training.learning_rate\tA 0.01\tB 0.05" in text
        await pilot.press("v", "v", "v")
        assert "log scale" not in words(app).splitlines()[4]
        await pilot.press("L")
        await until(pilot, lambda: "log scale" in words(app).splitlines()[4])
        assert screen(app).query_one(Plot).size.width > 90
        await pilot.press("shift+tab")
        assert "L log scale" not in words(app)
        await pilot.click("#compare-sections", offset=(4, 0))
        await until(pilot, lambda: screen(app).section is Section.OVERVIEW)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        assert "Compare: keys" in words(app)


async def test_the_cosine_map(open_app: OpenApp, runs: Path) -> None:
    two_runs(runs)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, row(runs, FIRST), row(runs, SECOND))
        assert not app.workbench.busy and screen(app).cosines.inquiry is None and screen(app).copy_text()
        await pilot.press("shift+tab")
        await until(pilot, lambda: "A 1 · B 1   cosine 1.000" in words(app))
        assert "██" in words(app) and "nearest in B to A 1" in words(app) and "j k h l move" in words(app)
        await pilot.press("j", "down", "l", "right", "right", "h", "left", "k")
        await until(pilot, lambda: "A 2 · B 2   cosine 1.000" in words(app))
        await pilot.press("right")
        await until(pilot, lambda: "A 2 · B 3   cosine" in words(app))
        here = screen(app).query_one(Heatmap).cursor
        await pilot.press("x", "up", "down")
        await until(pilot, lambda: "A 3 · B 2   cosine" in words(app))
        assert here == (1, 2) and screen(app).query_one(Heatmap).cursor == (2, 1)
        await pilot.click(Heatmap, offset=(9, 5))
        await until(pilot, lambda: "A 5 · B 3   cosine" in words(app))
        what, text = screen(app).copy_text() or ("", "")
        assert what == "the cosine map" and len(text.splitlines()) == 21
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "a cell is 2 × 1 tokens" in words(app))
        assert "A 5 · B 3   cosine" in words(app) and "0.75+" in words(app)
        pane = screen(app).cosines
        pane._heard(Inquiry(answer=CosinesMapped(request=9, cosines=[[0.1, 0.2, 0.3]])))  # asked for before the `x`
        assert [list(cosines) for cosines in pane.matrix] == [[0.1], [0.2], [0.3]]
        await pilot.press("x")
        assert [list(cosines) for cosines in pane.matrix] == [[0.1, 0.2, 0.3]]


@pytest.mark.parametrize("option", ["--refuse", "--die"])
async def test_a_refused_map_is_readable_and_can_be_tried_again(open_app: OpenApp, runs: Path, option: str) -> None:
    two_runs(runs)
    app = open_app(workbench=(option, "MapCosines"))
    said = "the checkpoint is damaged" if option == "--refuse" else "exit status 3"
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, row(runs, FIRST), row(runs, SECOND))
        assert "try again" not in words(app)
        await pilot.press("shift+tab")
        await until(pilot, lambda: f"✗ the {'checkpoint' if option == '--refuse' else 'workbench'}" in words(app))
        assert said in words(app) and "→ " in words(app) and "r try again" in words(app)
        before = screen(app).cosines.inquiry
        await pilot.press("r")
        await until(pilot, lambda: screen(app).cosines.inquiry is not before and screen(app).cosines.refused)


async def test_tokens_of_either_side(open_app: OpenApp, runs: Path) -> None:
    two_runs(runs)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, row(runs, FIRST), row(runs, SECOND))
        for key, run in (("t", FIRST), ("b", SECOND)):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, TokensScreen))
            assert isinstance(app.screen, TokensScreen) and app.screen.row.run.run_id == run
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, CompareScreen))


async def test_one_run_and_what_was_not_scored(open_app: OpenApp, runs: Path) -> None:
    folder = run_of(runs, FIRST, "pffff")
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, row(runs, FIRST), row(runs, FIRST, "epoch_0001"))
        shown = words(app)
        assert "B was not scored" in shown and "E scores a checkpoint" in shown and "not scored" in shown
        assert "A and B are of one run" in shown and "● held-out" in shown and "enter open" not in shown
        await pilot.press("j", "k", "enter", "x", "h", "l", "r", "L")
        assert isinstance(app.screen, CompareScreen)
        await pilot.press("escape")
        await opened(app, pilot, row(runs, FIRST), row(runs, FIRST))
        await until(pilot, lambda: "A and B are the same checkpoint" in words(app))
        await pilot.press("escape")
        score(folder, "epoch_0001", "-----pp")
        score(folder, "epoch_0002", "fffff")
        await opened(app, pilot, row(runs, FIRST), row(runs, FIRST, "epoch_0001"))
        await until(pilot, lambda: "no problem in common" in words(app))
        assert "only A has 5 problems" in words(app)


async def test_torn_results_and_runs_without_events(open_app: OpenApp, runs: Path) -> None:
    two_runs(runs)
    for name in (FIRST, SECOND):
        folder = RunFolder(runs / name)
        Path(folder.events_file).unlink()
        with open(folder.evaluation("best") / "results.jsonl", "a") as file:
            file.write('{"task_id": "HumanEval/9", "pas')
    Path(RunFolder(runs / SECOND).config_file).write_text("training: [")
    app = open_app()
    async with app.run_test(size=(120, 44)) as pilot:
        await opened(app, pilot, row(runs, FIRST), row(runs, SECOND))
        shown = " ".join(words(app).split())
        assert "A: 1 line of results.jsonl torn" in shown and "neither run has events" in shown
        assert "✗ B: " in shown and "config.yml" in shown


async def test_keys_do_not_wait_for_the_files(
    open_app: OpenApp, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_runs(runs)
    app, release = open_app(), asyncio.Event()

    async def slow(function: object, *arguments: object) -> object:
        await release.wait()
        return function(*arguments)  # type: ignore[operator]

    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2")
        a, b = row(runs, FIRST), row(runs, SECOND)
        monkeypatch.setattr("tui.screens.compare.asyncio.to_thread", slow)
        await app.push_screen(CompareScreen(a, b))
        await until(pilot, lambda: "reading the results" in words(app) and "reading the settings" in words(app))
        assert "held-out loss" in words(app)
        await pilot.press("x", "j", "tab", "tab", "tab")
        await until(pilot, lambda: "reading the events" in words(app))
        release.set()
        await until(pilot, lambda: screen(app).comparison.complete and not screen(app)._reading)
        assert screen(app).comparison.a.row is b and screen(app).comparison.pairing.of("all").lost == 3
