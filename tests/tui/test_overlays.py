"""Other runs over the one that is shown: which can be chosen, their letters, their curves, the choice on the screen."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from textual.widgets import OptionList

from core.contract import events as ev
from core.contract.config import Config
from core.contract.errors import SofttuneError
from core.contract.runs import create_run
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run, training
from tests.tui.test_train_screen import train, words
from tui.run_view import RunView, advance
from tui.screens.overlay_choice import OverlayChoice
from tui.train.look import Look
from tui.train.overlays import LETTERS, Letters, choices, read_other
from tui.train.pictures import pictures
from tui.widgets.plot_canvas import draw


def test_a_run_keeps_its_letter() -> None:
    letters = Letters()
    assert letters.given(["one", "two"]) == {"one": "a", "two": "b"}
    assert letters.given(["two"]) == {"two": "b"}
    assert letters.given(["three", "two", "one"]) == {"three": "c", "two": "b", "one": "a"}
    given = letters.given(["four", "five", "two"])
    assert given["four"] == "d" and given["two"] == "b" and given["five"] in "ac"
    assert len(letters.given(list("pqrstuv"))) == len(LETTERS)


def test_what_can_be_chosen(runs: Path) -> None:
    shown = make_run(runs, training("x", steps=2), count=2)
    other = make_run(runs, training("x", steps=9), count=2)
    fresh = create_run(Config(), "fresh", runs)
    (runs / "2026-01-01-000000-broken").mkdir()
    found = {choice.run_id: choice for choice in choices(runs, shown.run_id)}
    assert shown.run_id not in found and found[other.run_id].barred == ""
    assert "no step" in found[fresh.run_id].barred and "run.json" in found["2026-01-01-000000-broken"].barred
    assert choices(runs / "nowhere", "") == []


def test_the_curves_of_another_run(runs: Path) -> None:
    folder = make_run(runs, training("x", steps=27), count=2)
    other = read_other(folder, "b")
    assert len(other.smooth_loss) == 27 and len(other.heldout_loss) == 4 and other.best is not None
    assert other.style == "$plot-other-2" and other.name == folder.run_id[5:]
    with pytest.raises(SofttuneError, match="no loss"):
        read_other(create_run(Config(), "fresh", runs), "a")


def test_they_are_drawn_below_the_own_ones_with_their_letter(runs: Path) -> None:
    other = read_other(make_run(runs, training("x", steps=27, seed=5), count=2), "c")
    view = advance(RunView(), training("y", steps=18))
    plots = pictures(view, Look(), [other])
    for name in ("loss", "perplexity"):
        picture = plots[name][0]
        assert [trace.mark for trace in picture.traces[:2]] == ["c", "c"] and picture.traces[-1].name == "held-out"
        assert draw(picture, 80, 14).plain.count("c") >= 2  # where this run has no point of its own
    assert plots["memory"][0].traces == pictures(view, Look())["memory"][0].traces


def test_losses_that_are_no_numbers_are_said_to_be() -> None:
    steps = [event for event in training("y", steps=3) if isinstance(event, ev.StepCompleted)]
    view = advance(RunView(), [step.model_copy(update={"loss": math.nan}) for step in steps])
    assert "no loss so far is a finite number" in draw(pictures(view, Look())["loss"][0], 60, 12).plain
    assert "appears with the first step" in draw(pictures(RunView(), Look())["loss"][0], 60, 12).plain


async def test_o_lays_a_run_over_the_shown_one(open_app: OpenApp, runs: Path) -> None:
    others = [make_run(runs, training("x", steps=18, seed=seed), count=2) for seed in range(5)]
    (runs / "2026-01-01-000000-broken").mkdir()
    make_run(runs, training("x", steps=27), count=2)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.view.done_steps == 27)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, OverlayChoice))
        await pilot.pause()
        shown = words(app)
        assert "? damaged" in shown and "✗ run.json" in shown and "✓ finished" in shown and "[ ]" in shown
        await pilot.press("space", "j", "space", "k", "space")  # the first one is left out again
        assert words(app).count("[x]") == 1
        await pilot.press("space", "j", "j", "space", "j", "space", "j", "space")
        await until(pilot, lambda: "4 are chosen already" in words(app))
        await pilot.press("c", "up", "up", "up", "up", "space", "enter")
        await until(pilot, lambda: len(train(app).others) == 1)
        await pilot.pause()
        newest = train(app).others[0]
        assert newest.run_id == others[-1].run_id and newest.letter == "a"
        shown = words(app)
        assert "a held-out" in shown and newest.name in shown and "loss  a  " in shown.splitlines()[1]
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, OverlayChoice))
        await pilot.press("down", "escape")
        assert train(app).others == (newest,)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, OverlayChoice) and app.screen.query_one(OptionList).has_focus)
        await pilot.press("c", "enter")
        await until(pilot, lambda: train(app).others == ())


async def test_a_run_that_cannot_be_read_is_told(open_app: OpenApp, runs: Path) -> None:
    empty = make_run(runs, training("x", steps=2), count=2)
    Path(empty.events_file).write_text('{"type": "Newer", "time": 1}\n')
    make_run(runs, training("x", steps=3), count=2)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.scene.view.done_steps == 3)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, OverlayChoice))
        await pilot.press("space", "enter")
        await until(pilot, lambda: len(told(app)) == 1)
        assert "no loss to show" in told(app)[0] and train(app).others == ()
