"""Every key of the Checkpoints screen, on whole and on damaged runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, Static

from core.contract.control import Command, send
from core.contract.runs import RunFolder
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run, training, write_checkpoints, write_summary
from tests.tui.fake_workbench import allow
from tests.tui.test_train_screen import words
from tui.app import SofttuneApp
from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.columns import Order
from tui.checkpoints.dialogs import CheckpointDetail, SortChoice
from tui.checkpoints.table import CheckpointTable
from tui.screens.checkpoints import CheckpointsScreen
from tui.screens.dialogs import Confirm, Message
from tui.screens.problems import ProblemsScreen
from tui.screens.train import TrainScreen


def finished(runs: Path, name: str = "2026-11-20-101500-first", epochs: int = 3) -> RunFolder:
    """A finished run of this name, with checkpoints."""
    made = make_run(runs, training("x", steps=9 * epochs), count=5)
    os.rename(made.root, runs / name)
    folder = RunFolder(runs / name)
    folder.write_record(folder.read_record().model_copy(update={"run_id": name}))
    write_checkpoints(folder, epochs)
    return folder


def screen(app: SofttuneApp) -> CheckpointsScreen:
    (found,) = [one for one in app.screen_stack if isinstance(one, CheckpointsScreen)]
    return found


def table(app: SofttuneApp) -> CheckpointTable:
    return screen(app).query_one(CheckpointTable)


def names(app: SofttuneApp) -> list[str]:
    return [row.name for row in table(app)._rows]


def at(app: SofttuneApp) -> str:
    row = table(app).row
    return row.name if row else ""


async def opened(app: SofttuneApp, pilot: Pilot[object], count: int) -> None:
    await pilot.press("2")
    await until(pilot, lambda: app.current_mode == "checkpoints" and table(app).row_count == count)


async def filtered(app: SofttuneApp, pilot: Pilot[object], text: str, count: int) -> None:
    await pilot.press("slash")
    screen(app).query_one(Input).value = text
    await until(pilot, lambda: table(app).row_count == count)
    await pilot.press("enter")


async def shows(app: SofttuneApp, pilot: Pilot[object], kind: type[Screen[object]], text: str = "") -> None:
    await until(pilot, lambda: isinstance(app.screen, kind) and text in unwrapped(app))


def unwrapped(app: SofttuneApp) -> str:
    """The texts of a dialogue without the line ends that its width makes."""
    return "\n".join([*(str(static.content) for static in app.screen.query(Static)),
                      *(field.value for field in app.screen.query(Input))])


async def test_the_table_and_its_cursor(open_app: OpenApp, runs: Path) -> None:
    finished(runs)
    broken = runs / "2020-01-01-000000-broken"
    broken.mkdir()
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 6)
        shown = words(app)
        for expected in ("5 checkpoints of 2 runs", "? 1 damaged", "by date ▼", "▸  ✓", "damaged: there is no run.json",
                         "pass@1", "held-out", "0.312", "space mark", "q quit"):
            assert expected in shown, expected
        assert names(app) == ["last", "best", "epoch_0003", "epoch_0002", "epoch_0001", ""]
        await pilot.press("j", "down", "k")
        assert at(app) == "best"
        await pilot.press("end")
        assert at(app) == "" and "mark" not in words(app).splitlines()[-1]
        await pilot.press("space", "t", "D", "P", "e", "E", "i", "p")
        assert app.screen is screen(app) and not screen(app).marks
        await pilot.press("enter")
        await shows(app, pilot, CheckpointDetail, "Mend or remove the folder")
        await pilot.press("D", "escape", "home", "space")
        assert at(app) == "last" and "A is marked" in words(app)
        await filtered(app, pilot, "first", 5)
        assert "showing 5 of 6" in words(app) and "space marks the other" in words(app).splitlines()[1]
        await pilot.press("escape")
        await pilot.resize_terminal(160, 50)
        await until(pilot, lambda: "perplexity" in words(app) and "written" in words(app))
        assert at(app) == "last"


async def test_sorting(open_app: OpenApp, runs: Path) -> None:
    finished(runs)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("j", "o")
        await shows(app, pilot, SortChoice)
        assert "h  held-out loss" in words(app) and "d  date  ▼" in words(app)
        await pilot.press("h")
        await until(pilot, lambda: screen(app).order == Order("heldout_loss", False))
        assert names(app)[-1] == "epoch_0001" and at(app) == "best" and "▲held-out" in words(app)
        await pilot.press("O")
        assert names(app)[0] == "epoch_0001" and at(app) == "best" and "▼held-out" in words(app)
        await pilot.press("o", "k", "j", "enter")
        await until(pilot, lambda: screen(app).order == Order("heldout_loss", False))
        await pilot.press("o", "H")
        await until(pilot, lambda: screen(app).order.column == "pass_heldout")
        assert names(app)[0] == "best"
        assert "size" not in words(app)
        await pilot.press("o", "s")
        await until(pilot, lambda: "▼size" in words(app))
        await pilot.press("o", "escape")
        column = words(app).splitlines()[4].index("epoch")
        await pilot.click(CheckpointTable, offset=(column + 1, 2))
        await until(pilot, lambda: screen(app).order == Order("epoch", True))
        await pilot.click(CheckpointTable, offset=(20, 5))
        assert table(app)._at == 2
        await pilot.click(CheckpointTable, offset=(20, 5), times=2)
        await shows(app, pilot, CheckpointDetail)


async def test_filter(open_app: OpenApp, runs: Path) -> None:
    finished(runs)
    finished(runs, "2026-11-21-101500-second")
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 10)
        await pilot.press("slash", *"second best")
        await until(pilot, lambda: table(app).row_count == 1)
        assert "showing 1 of 10: “second best”" in words(app)
        await pilot.press("enter", "enter")
        await shows(app, pilot, CheckpointDetail, "2026-11-21-101500-second")
        await pilot.press("escape", "slash", *"zz")
        await until(pilot, lambda: not table(app).row_count)
        assert "No checkpoint fits" in words(app)
        await pilot.press("escape")
        await until(pilot, lambda: table(app).row_count == 10 and app.focused is table(app))
        assert not screen(app).query_one(Input).display and at(app) == "best"
        await filtered(app, pilot, "scored", 2)
        what, text = screen(app).copy_text() or ("", "")
        assert "checkpoints" in what and len(text.splitlines()) == 3
        assert text.splitlines()[0].startswith("run\tstate") and "\tbest\t" in text


class Stub(Screen[None]):
    """Stands for a screen that is pushed with checkpoints."""

    def __init__(self, *rows: CheckpointRow) -> None:
        super().__init__()
        self.rows = rows


async def test_marks_compare_and_tokens(open_app: OpenApp, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(runs)
    for module, name in (("compare", "CompareScreen"), ("tokens", "TokensScreen")):
        stub = ModuleType(module)
        setattr(stub, name, Stub)
        monkeypatch.setitem(sys.modules, f"tui.screens.{module}", stub)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("c")
        assert any("mark two checkpoints first" in text for text in told(app))
        await pilot.press("space", "c")
        assert any("mark another checkpoint first" in text for text in told(app))
        await pilot.press("j", "space", "j", "space")
        assert [key.rpartition("/")[2] for key in screen(app).marks] == ["last", "epoch_0003"]
        assert "▸B ✓" in words(app) and " A ✓" in words(app) and "c compares" in words(app)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Stub))
        assert isinstance(app.screen, Stub) and [row.name for row in app.screen.rows] == ["last", "epoch_0003"]
        app.pop_screen()
        await pilot.press("space", "home", "space")
        assert not screen(app).marks
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, Stub))
        assert isinstance(app.screen, Stub) and [row.name for row in app.screen.rows] == ["last"]


async def test_open_and_go_on_from_there(open_app: OpenApp, runs: Path) -> None:
    folder = finished(runs)
    finished(runs, "2026-11-21-101500-second")
    app = open_app()
    async with app.run_test(size=(120, 50)) as pilot:
        await opened(app, pilot, 10)
        await filtered(app, pilot, "first epoch_0002", 1)
        await pilot.press("enter")
        await shows(app, pilot, CheckpointDetail, "not scored yet")
        shown = unwrapped(app)
        for expected in ("epoch 2 of 3, step 18 of 27", "learning rate", "checkpoints/epoch_0002.pt", "E score"):
            assert expected in shown, expected
        assert "p problems" not in shown
        await pilot.press("j", "k", "p", "space")
        await until(pilot, lambda: app.screen is screen(app) and list(screen(app).marks.values()) == ["A"])
        await pilot.press("p")
        assert any("E scores it" in text for text in told(app))
        await filtered(app, pilot, "first best", 1)
        await pilot.press("enter")
        await shows(app, pilot, CheckpointDetail, "0.142 – 0.556")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, ProblemsScreen))
        await pilot.press("2", "i")
        await until(pilot, lambda: isinstance(app.screen, TrainScreen) and app.scene.run_id == folder.run_id)


async def test_publish(open_app: OpenApp, runs: Path, tmp_path: Path) -> None:
    folder = finished(runs)
    published = tmp_path / "soft_prompts" / "best_soft_prompts.pt"
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("P")
        await shows(app, pilot, Confirm, "Publish last of 2026-11-20-101500-first")
        await pilot.press("n", "P")
        await shows(app, pilot, Confirm)
        assert not published.exists()
        await pilot.press("y")
        await until(pilot, published.exists)
        assert published.read_bytes() == (Path(folder.checkpoints) / "last.pt").read_bytes()
        await pilot.press("P")
        await until(pilot, lambda: any("is published already" in text for text in told(app)))
        await pilot.press("j", "P")
        await shows(app, pilot, Confirm, "It replaces last of 2026-11-20-101500-first")
        await pilot.press("y")
        await until(pilot, lambda: any("what it replaced: soft_prompts/replaced/" in text for text in told(app)))
        assert published.read_bytes() == (Path(folder.checkpoints) / "best.pt").read_bytes()
        await pilot.press("enter")
        await shows(app, pilot, CheckpointDetail, "published as    soft_prompts/best_soft_prompts.pt")


async def test_delete_and_undelete(open_app: OpenApp, runs: Path) -> None:
    folder = finished(runs)
    best = Path(folder.checkpoints) / "best.pt"
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("u", "j", "D")
        await shows(app, pilot, Confirm, "Delete best of")
        shown = unwrapped(app)
        for expected in ("evaluations/best", "It is the best checkpoint", "stays as epoch_0003", ".trash", " B)"):
            assert expected in shown, expected
        await pilot.press("n")
        assert best.exists()
        await pilot.press("D")
        await shows(app, pilot, Confirm)
        await pilot.press("y")
        await until(pilot, lambda: "best" not in names(app))
        assert not best.exists() and at(app) == "epoch_0003"
        await pilot.press("end", "u")
        await until(pilot, lambda: "best" in names(app))
        assert at(app) == "best"
        assert best.exists() and next(row for row in table(app)._rows if row.name == "best").scored


async def test_an_active_run_grows_and_keeps_its_checkpoints(open_app: OpenApp, runs: Path) -> None:
    folder = make_run(runs, training("x", steps=27), state="running", alive=True, count=3)
    write_checkpoints(folder, 3, ())
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("D")
        await shows(app, pilot, Message, "its engine needs its checkpoints")
        await pilot.press("escape", "j", "j", "enter")
        await shows(app, pilot, CheckpointDetail, "● running")
        assert "D delete" not in words(app)
        await pilot.press("escape")
        (Path(folder.checkpoints) / "epoch_0004.pt").write_bytes(b"x")
        await until(pilot, lambda: table(app).row_count == 6)
        assert names(app)[0] == "epoch_0004" and at(app) == "epoch_0003"
        for name in ("best", "last", "epoch_0001", "epoch_0002", "epoch_0003", "epoch_0004"):
            (Path(folder.checkpoints) / f"{name}.pt").unlink()
        screen(app).look_again()
        await until(pilot, lambda: "No checkpoints yet" in words(app))
        send(Path(folder.control_file), Command.STOP)


async def test_score(open_app: OpenApp, runs: Path) -> None:
    folder = finished(runs)
    app = open_app(workbench=("--allow", "2"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("E", "n", "E")
        await shows(app, pilot, Confirm, "That takes minutes")
        await pilot.press("y")
        await until(pilot, lambda: screen(app).job is not None and "/4 problems" in words(app))
        write_summary(folder, "last", passed=9)
        assert "scoring last of 2026-11-20-101500-first" in words(app) and "x gives it up" in words(app)
        await pilot.press("D", "E", "1")
        assert sum("is being scored" in text for text in told(app)) == 2
        allow(99)
        await until(pilot, lambda: any("last: pass@1 train 0.250 (1 of 4)" in text for text in told(app)))
        await pilot.press("2")
        await until(pilot, lambda: table(app).row is not None and table(app).row.scored)
        assert screen(app).job is None and "0.562" in words(app) and "x gives" not in words(app)


async def test_a_scoring_is_given_up_or_ends_with_the_app(open_app: OpenApp, runs: Path) -> None:
    finished(runs)
    app = open_app(workbench=("--allow", "2"))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("x", "E", "y")
        await until(pilot, lambda: "x gives it up" in words(app))
        await pilot.press("x")
        await shows(app, pilot, Confirm, "Give up scoring last?")
        await pilot.press("y")
        await until(pilot, lambda: screen(app).job is None and not app.workbench.busy)
        assert "gave up scoring last" in told(app) and "gives it up" not in words(app)
        await pilot.press("E", "y")
        await until(pilot, lambda: screen(app).job is not None)
        await pilot.press("q")
        await shows(app, pilot, Confirm, "The scoring of last is not done yet.")
        await pilot.press("y")
    assert app.return_value is not None


async def test_a_scoring_that_dies_is_told(open_app: OpenApp, runs: Path) -> None:
    finished(runs)
    app = open_app(workbench=("--die", "ScoreCheckpoint"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("E", "y")
        await shows(app, pilot, Message, "could not be scored: the workbench ended with exit status 3")
        assert "CUDA error: out of memory" in words(app) and screen(app).job is None


async def test_before_the_first_run(open_app: OpenApp, runs: Path) -> None:
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "No checkpoints yet" in words(app))
        assert "I imports an adapter" in words(app) and "I import" in words(app).splitlines()[-1]
        await pilot.press("space", "c", "enter", "slash", *"oOxtpEPedDuijk", "end", "escape")
        assert app.screen is screen(app) and screen(app).copy_text() is None and not told(app)
        runs.write_text("")
        screen(app).look_again()
        await until(pilot, lambda: "cannot be read: Not a directory" in unwrapped(app))
        runs.unlink()
