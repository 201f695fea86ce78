"""sweep.yml: what it may say, and what is told of what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.contract.config import Config
from core.contract.errors import UsageError
from core.contract.sweep_plan import Range, changed, parse_sweep, read_sweep

RATES = {"training.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}


def test_ranges_values_and_variants_become_points() -> None:
    plan = parse_sweep({"parameters": RATES | {"soft_prompts.num_virtual_tokens": [10, 20]}, "variants": {
        "plain": {}, "residual": {"soft_prompts.reparameterisation": "residual"}}}, Config())
    assert list(plan.space()) == ["variant", "training.learning_rate", "soft_prompts.num_virtual_tokens"]
    point = {"variant": "residual", "training.learning_rate": 0.05, "soft_prompts.num_virtual_tokens": 10}
    own = changed(Config(), plan.settings(point))
    assert own.soft_prompts.reparameterisation == "residual" and own.training.learning_rate == 0.05
    assert isinstance(plan.parameters["training.learning_rate"], Range)
    assert not plan.parameters["training.learning_rate"].whole and Range(low=1, high=3).whole


def test_a_variant_may_set_a_list() -> None:
    stops = ["\nclass", "\n#"]
    plan = parse_sweep({"variants": {"few": {"inference.stop_sequences": stops}, "as before": {}}}, Config())
    assert changed(Config(), plan.settings({"variant": "few"})).inference.stop_sequences == stops
    assert parse_sweep(plan.model_dump(), Config()) == plan


def test_a_grid_has_every_point() -> None:
    plan = parse_sweep({"sampler": "grid", "parameters": {"training.num_epochs": [1, 2], "training.batch_size": [4, 8]},
                        "variants": {"a": {}, "b": {"training.weight_decay": 0.5}}}, Config())
    assert len(plan.grid()) == 8 and plan.grid()[0] == {
        "variant": "a", "training.num_epochs": 1, "training.batch_size": 4}


@pytest.mark.parametrize("content, words", [
    ({}, "nothing to vary"),
    ({"parameters": {}, "trails": 3}, "did you mean trials"),
    ({"parameters": RATES, "trials": 0}, "trials"),
    ({"parameters": RATES, "objective": "loss"}, "objective"),
    ({"parameters": {"training.learnin_rate": [0.1]}}, "did you mean training.learning_rate"),
    ({"parameters": {"training.learning_rate": [0.1, 11]}}, "training.learning_rate"),
    ({"parameters": {"training.learning_rate": {"low": 0.1, "high": 99.0}}}, "training.learning_rate"),
    ({"parameters": {"training.learning_rate": {"low": 0.1, "high": 0.01}}}, "low has to be below high"),
    ({"parameters": {"training.weight_decay": {"low": 0.0, "high": 0.01, "log": True}}}, "low above 0"),
    ({"parameters": {"training.learning_rate": []}}, "no values"),
    ({"parameters": RATES, "sampler": "grid"}, "a grid needs a list"),
    ({"variants": {"a": {"training.epochs": 3}}}, "did you mean training.num_epochs"),
    ({"variants": {"a": {"inference.stop_sequences": [3]}}}, "inference.stop_sequences"),
    ({"variants": {"a": {"training.learning_rate": [0.1]}}}, "training.learning_rate"),
    ({"variants": {"a": {"training.learning_rate": {"low": 1}}}}, "1 fault(.|\n)*learning_rate: .*one value"),
    ({"parameters": {"inference.stop_sequences": [["a"], ["b"]]}}, "1 fault(.|\n)*stop_sequences: .*give a range"),
    ({"parameters": {"training.learning_rate": {"low": 1, "high": "x", "step": 2}}}, "1 fault(.|\n)*give a range"),
    ({"parameters": RATES, "folds": 1}, "folds"),
])
def test_what_is_wrong_is_named(content: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_sweep(content, Config())


@pytest.mark.parametrize("text, words", [
    ("a: [", "cannot be read"), ("- 1", "no settings of a sweep"), (None, "no file"),
])
def test_files_that_are_no_sweep(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "sweep.yml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_sweep(path, Config())
