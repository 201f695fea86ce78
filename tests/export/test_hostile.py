"""Folders, names and manifests that nobody would make in good faith, or that are only odd."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.contract.deployment import recipes, write_recipes
from core.contract.errors import CheckpointError, UsageError
from core.contract.exports import check_files, read_manifest
from core.export.folder import being_made, remove_unfinished
from core.export.formats import export
from core.model.checkpoint import load_checkpoint, save_checkpoint
from tests.export.conftest import MakeCheckpoint, outcome
from tests.tiny import make_tiny_model

ESCAPE = "\x1b[2J"


def test_new_tokens_never_take_the_ids_of_others(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """A vocabulary with a gap: its size is then less than its largest id, and new ids are counted from its size."""
    make_tiny_model(tmp_path / "gap")
    file = tmp_path / "gap" / "tokenizer.json"
    known = json.loads(file.read_text())
    vocabulary = known["model"]["vocab"]
    known["model"]["vocab"] = {name: at + 6 if at >= len(vocabulary) - 3 else at for name, at in vocabulary.items()}
    file.write_text(json.dumps(known))
    with pytest.raises(CheckpointError, match="the tokenizer's ids have gaps"):
        outcome(export(make_checkpoint(tmp_path / "gap"), "merged", tmp_path / "out", verify=False))
    assert not (tmp_path / "out").exists()


def test_a_folder_by_a_roundabout_name_is_made_and_the_present_one_is_not_replaced(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub" / "x").mkdir(parents=True)
    outcome(export(checkpoint, "peft", Path("sub/x/../x")))
    assert read_manifest(tmp_path / "sub" / "x").format == "peft"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(CheckpointError, match="the folder that this runs in"):
        outcome(export(checkpoint, "peft", Path(".")))
    outcome(export(checkpoint, "peft", Path("x" * 250)))
    assert (tmp_path / "here" / ("x" * 250)).is_dir()


def test_what_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".out.export-1-abc"
    other.mkdir()
    with being_made(tmp_path / "out") as whole:
        remove_unfinished(tmp_path / "out")
        assert other.exists() and not whole.exists()
        whole.mkdir(parents=True)


def test_a_checkpoint_of_two_base_models_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    made = load_checkpoint(checkpoint)
    other = json.loads(json.dumps(made.config))
    other["model"]["name"] = "somebody/else"
    made.config.update(other)
    save_checkpoint(made, checkpoint)
    with pytest.raises(CheckpointError, match="names two base models"):
        outcome(export(checkpoint, "peft", tmp_path / "out"))


CHANGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda known: known.update(files={}), "does not tell of config.json"),
    (lambda known: known["files"].pop("model.safetensors"), "does not tell of any weights"),
    (lambda known: known["files"].update({"a\0b": {"size": 0, "sha256": ""}}), "is damaged"),
    (lambda known: known["files"].update({"../x": {"size": 0, "sha256": ""}}), "is no file of this folder"),
    (lambda known: known["files"].update({f"{ESCAPE}x": {"size": 0, "sha256": ""}}), "is damaged"),
    (lambda known: known["files"].update({"pipe": {"size": 0, "sha256": ""}}), "pipe is no file"),
    (lambda known: known.update(base_model=ESCAPE), "is damaged: base_model"),
    (lambda known: known.update(dtype="x; rm -rf /"), "is damaged: dtype"),
    (lambda known: known.update(epoch=-5), "is damaged: epoch"),
    (lambda known: known.update(step=10**40), "is damaged: step"),
]


def test_manifests_that_lie_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    outcome(export(checkpoint, "merged", tmp_path / "out", verify=False))
    os.mkfifo(tmp_path / "out" / "pipe")
    file = tmp_path / "out" / "softtune.json"
    whole = file.read_text()
    for change, words in CHANGES:
        known = json.loads(whole)
        change(known)
        file.write_text(json.dumps(known))
        with pytest.raises(CheckpointError, match=words) as caught:
            check_files(tmp_path / "out", read_manifest(tmp_path / "out"))
        assert ESCAPE not in str(caught.value)
    file.write_text(whole)
    (tmp_path / "out" / "serve").write_text("mine")
    with pytest.raises(UsageError, match="serve is no folder"):
        write_recipes(tmp_path / "out", recipes(tmp_path / "out", read_manifest(tmp_path / "out")))
