"""Editing a settings file in place: one value changes, and not one other byte."""

from __future__ import annotations

import difflib
import random
from pathlib import Path

import pytest

from core.contract.config import Config
from core.contract.config_edit import edit_settings
from core.contract.config_file import parse_config, render_config
from core.contract.errors import UsageError

ROOT = Path(__file__).parents[2]
ODD = """\
# my settings, 日本語\r
training: {batch_size: 2 , learning_rate: 1e-3}   # keep\r
\r
soft_prompts:   \r
    num_virtual_tokens:   20   # rows\r
    init_from_vocab: yes\r
\r
# the end\r
inference:\r
      text_prompt:  "say \\"hi\\""\r
      output_path: 'results/it''s.jsonl'   # quoted\r
      stop_sequences:\r
        - "\\ndef"   # the usual\r
        - 'x'\r
      # top_p: 0.9\r
"""


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[:1] in "+-"]


def test_every_setting_of_the_committed_file_changes_its_own_line_alone() -> None:
    text = (ROOT / "prompt_tuning.yml").read_text()
    for section, values in Config().model_dump().items():
        for key, value in values.items():
            new = value * 2 + 1 if type(value) in (int, float) else not value if value in (True, False) else "x: 'y'"
            after = edit_settings(text, {f"{section}.{key}": new})
            lines = changed_lines(text, after)
            assert len(lines) == 2 and lines[1].startswith(f"+   {key}: "), (key, lines)


@pytest.mark.parametrize(("name", "value", "before", "after"), [
    ("training.batch_size", 8, "{batch_size: 2 ,", "{batch_size: 8 ,"),
    ("training.num_epochs", 5, "1e-3}", "1e-3, num_epochs: 5}"),
    ("soft_prompts.num_virtual_tokens", 50, ":   20   # rows", ":   50   # rows"),
    ("soft_prompts.init_from_vocab", False, "vocab: yes", "vocab: false"),
    ("inference.text_prompt", 'a "b"', '"say \\"hi\\""', '"a \\"b\\""'),
    ("inference.output_path", "o'.jsonl", "'results/it''s.jsonl'", "'o''.jsonl'"),
    ("inference.output_path", "a\nb", "'results/it''s.jsonl'", '"a\\nb"'),
    ("inference.stop_sequences", ["a", "#"], "- \"\\ndef\"   # the usual\r\n        - 'x'", "- a\r\n        - '#'"),
    ("inference.stop_sequences", [], "\r\n        - \"\\ndef\"   # the usual\r\n        - 'x'", " []"),
])
def test_odd_styles_and_windows_line_ends_stay(name: str, value: object, before: str, after: str) -> None:
    assert ODD.count(before) == 1
    assert edit_settings(ODD, {name: value}) == ODD.replace(before, after)


def test_a_missing_key_comes_at_the_end_of_its_section_with_its_help() -> None:
    after = edit_settings(ODD, {"soft_prompts.embedding_dim": 896})
    added = (
        "    # H, the model's embedding width; null: found from the model\r\n"
        "    # a whole number, at least 1, or null\r\n"
        "    embedding_dim: 896\r\n"
    )
    assert after == ODD.replace("vocab: yes\r\n", "vocab: yes\r\n" + added)
    assert edit_settings(ODD, {"inference.top_p": 0.5}) == ODD + (
        "      # sample from the smallest set of tokens with this probability\r\n"
        "      # a number, above 0, at most 1\r\n"
        "      top_p: 0.5\r\n"
    )


def test_a_missing_section_comes_at_the_end_of_the_file() -> None:
    after = edit_settings(ODD, {"dataset.seed": 7, "hardware.device": "cpu"})
    assert after.startswith(ODD) and "\r\n\r\n# The programming problems\r\ndataset:\r\n" in after
    assert after.endswith("hardware:\r\n  # auto takes the GPU where there is one\r\n  # one of auto, cuda, cpu\r\n"
                          "  device: cpu\r\n")
    assert parse_config(after).dataset.seed == 7
    both = edit_settings("training:\n  learning_rate: 0.1\n", {"dataset.seed": 7, "training.num_epochs": 3})
    assert both.index("num_epochs: 3") < both.index("dataset:")  # whichever was asked for first


@pytest.mark.parametrize(("text", "expected"), [
    ("", "# The optimiser and its schedule\ntraining:\n  # decoupled weight decay (sgd: added to the gradient)\n"
         "  # a number, at least 0, below 1\n  weight_decay: 0.5\n"),
    ("training:\n  weight_decay: 0.1", "training:\n  weight_decay: 0.5"),
    ("training:\n  weight_decay:\n", "training:\n  weight_decay: 0.5\n"),
    ("training: {weight_decay}", "training: {weight_decay: 0.5}"),
    ("training: {}", "training: {weight_decay: 0.5}"),
    ("{dataset: {seed: 1}}", "{dataset: {seed: 1}, training: {weight_decay: 0.5}}"),
    ("training:\n  weight_decay: !!float &w 0.1\n", "training:\n  weight_decay: &w 0.5\n"),
    ("x: &w 0.1\ntraining:\n  weight_decay: *w # c\n", "x: &w 0.1\ntraining:\n  weight_decay: 0.5 # c\n"),
    ("training:\n  weight_decay: >\n    0.1\n\n# c\n", "training:\n  weight_decay: 0.5\n\n# c\n"),
    ("training:\n  weight_decay:\n    a: 1\n  # c\n", "training:\n  weight_decay: 0.5\n  # c\n"),
    ("training:\n  weight_decay: 1\n  weight_decay: 2\n", "training:\n  weight_decay: 1\n  weight_decay: 0.5\n"),
    ("\ufefftraining:\n  weight_decay: 1\n", "\ufefftraining:\n  weight_decay: 0.5\n"),
])
def test_where_a_value_may_stand(text: str, expected: str) -> None:
    assert edit_settings(text, {"training.weight_decay": 0.5}) == expected


@pytest.mark.parametrize("text", [
    "training:\n  batch_size: 2", "training:\n", "training: # none\n   # batch_size: 3\n\ndataset:\n  seed: 1\n",
    "training: null\ndataset:\n  seed: 1", "---\n# c\n", "training: ~ # c\n", "dataset:\n  seed: 1\ntraining:\n",
    "training:\n  batch_size: 1 # a\n  # b\n\n# c\n",
])
def test_keys_that_are_missing_are_added_wherever_the_section_is(text: str) -> None:
    after = edit_settings(text, {"training.num_epochs": 3, "training.warmup_steps": 1, "evaluation.workers": 2})
    config = parse_config(after)
    assert (config.training.num_epochs, config.training.warmup_steps, config.evaluation.workers) == (3, 1, 2)
    kept = [line for line in text.splitlines() if line and "null" not in line and "~" not in line]
    assert [line for line in after.splitlines() if line in kept] == kept


@pytest.mark.parametrize("text", [
    "a: [", "- 1", "text", "training: 3", "x: &a {seed: 1}\ntraining: *a\n",
    "x: &a 3\ntraining:\n  y: &b 1\n  num_epochs: &c 2\nevaluation:\n  workers: *c\n", "training:\n  seed: 1\n...\n",
])
def test_what_cannot_be_changed_in_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        edit_settings(text, {"training.num_epochs": 5, "dataset.seed": 3})
    assert "by hand" in caught.value.remedy


def test_nothing_changes_where_nothing_is_changed() -> None:
    assert edit_settings("a: [", {}) == "a: ["


def test_many_changes_at_once_read_back() -> None:
    dice = random.Random(3)
    every = [(section, key) for section, values in Config().model_dump().items() for key in values]
    other = Config.model_validate({
        "training": {"batch_size": 2, "learning_rate": 1e-5}, "inference": {"text_prompt": "\n é: #", "top_p": 0.1},
        "dataset": {"path": "a b.jsonl", "max_samples": 9}, "model": {"gguf_file": "x"}, "hardware": {"device": "cpu"},
    }).model_dump()
    for _ in range(12):
        lines = render_config(Config()).splitlines(keepends=True)
        gone = {key for _, key in dice.sample(every, 6)}
        text = "".join(line for line in lines if line.strip().partition(":")[0] not in gone)
        chosen = dice.sample(every, 12)
        after = edit_settings(text, {f"{section}.{key}": other[section][key] for section, key in chosen})
        found = parse_config(after).model_dump()
        assert all(found[section][key] == other[section][key] for section, key in chosen)
