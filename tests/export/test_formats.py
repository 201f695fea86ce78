"""Exports are loaded by the tools they are for, say what softtune says, and are there as a whole or not at all."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from core.contract.errors import CheckpointError, ModelError
from core.contract.events import Notice, Progress
from core.contract.exports import check_files, read_manifest
from core.export.formats import export
from core.model.checkpoint import load_checkpoint

from .conftest import SPLIT, MakeCheckpoint, outcome


def run_code_of(card: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the code of a model card prints, run where the card is."""
    (code,) = re.findall(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    monkeypatch.chdir(card.parent)
    exec(compile(code, str(card), "exec"), {})  # our own words
    return capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers for an attribute by its old name
@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # peft, of what transformers gives it
def test_peft_loads_the_adapter_with_the_same_logits(
    checkpoint: Path, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peft import PeftModel

    manifest, _ = outcome(export(checkpoint, "peft", tmp_path / "adapter"))
    rival = PeftModel.from_pretrained(copy.deepcopy(tiny_model), str(tmp_path / "adapter")).eval()
    ids = torch.arange(20, 40)[None]
    embedded = torch.cat([load_checkpoint(checkpoint).soft_prompt[None], tiny_model.get_input_embeddings()(ids)], dim=1)
    with torch.no_grad():
        theirs = rival(input_ids=ids).logits[:, -20:]
        ours = tiny_model(inputs_embeds=embedded).logits[:, -20:]
    assert torch.allclose(theirs, ours, atol=1e-5)
    assert manifest == read_manifest(tmp_path / "adapter") and manifest.split == SPLIT
    check_files(tmp_path / "adapter", manifest)
    assert run_code_of(tmp_path / "adapter" / "README.md", monkeypatch, capsys).startswith("def add(a, b):")


def test_the_card_says_what_was_measured_and_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    outcome(export(checkpoint, "peft", tmp_path / "before"))
    evaluation = tmp_path / "runs" / "r" / "evaluations" / "best"
    evaluation.mkdir(parents=True)
    (tmp_path / "runs" / "r" / "checkpoints").mkdir()
    (tmp_path / "runs" / "r" / "checkpoints" / "best.pt").write_bytes(checkpoint.read_bytes())
    side = {"total": 1, "passed": 1, "failed": 0, "pass@1": 1.0}
    (evaluation / "summary.json").write_text(json.dumps({
        "checkpoint": "best", "all": {"total": 3, "passed": 1, "failed": 2, "pass@1": 1 / 3}, "train": side,
        "heldout": side, "isolation": "namespaces", "completions_path": "c", "results_path": "r"}))
    outcome(export(checkpoint, "peft", tmp_path / "after"))
    before, after = ((tmp_path / name / "README.md").read_text() for name in ("before", "after"))
    _, front, body = before.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "peft" and "base_model" not in yaml.safe_load(front)
    for words in ("held-out loss: 0.9000", "2 trained, 1 held out", "`HumanEval/1`", "left-padded", "run `r`"):
        assert words in body
    assert "pass@1" not in before and "pass@1" in after and "0.333" in after


def test_a_text_before_the_soft_prompt_is_told_to_be_lost_in_peft(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, tiny_model_folder: Path
) -> None:
    made = make_checkpoint(tiny_model_folder, 5, 'inference.text_prompt="# Python"',
                           "inference.text_prompt_position=before_soft")
    _, told = outcome(export(made, "peft", tmp_path / "adapter"))
    assert any(isinstance(event, Notice) and "peft puts virtual tokens first" in event.what for event in told)
    assert "trained behind the text '# Python'" in (tmp_path / "adapter" / "README.md").read_text()


def test_a_folder_in_use_is_not_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("keep me")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder in (used, tmp_path / "link"):
        for form in ("peft", "merged"):
            with pytest.raises(CheckpointError, match="not an empty folder"):
                outcome(export(checkpoint, form, folder))  # type: ignore[arg-type]


def test_nothing_is_left_of_an_export_that_fails_or_is_given_up(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(tmp_path.iterdir())
    for stage in ("completing", "verifying"):
        events = export(checkpoint, "merged", tmp_path / "new")
        next(event for event in events if isinstance(event, Progress) and event.stage == stage)
        events.close()
        assert set(tmp_path.iterdir()) == before
    with pytest.raises(KeyboardInterrupt):
        events = export(checkpoint, "merged", tmp_path / "new")
        next(event for event in events if isinstance(event, Progress) and event.stage == "writing")
        events.throw(KeyboardInterrupt)
    monkeypatch.setattr("core.export.folder.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(CheckpointError, match="the export takes .* free"):
        outcome(export(checkpoint, "merged", tmp_path / "new"))
    assert set(tmp_path.iterdir()) == before


def test_a_checkpoint_that_tells_nonsense_of_itself_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "metrics": {"heldout_loss": torch.ones(2)}}, checkpoint)
    with pytest.raises(CheckpointError, match="x.pt: metrics.heldout_loss"):
        outcome(export(checkpoint, "peft", tmp_path / "new"))


def test_too_little_memory_names_the_way_without_loading(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.model.loading.free_bytes", lambda _: 1000)
    with pytest.raises(ModelError, match="--no-verify"):
        outcome(export(checkpoint, "merged", tmp_path / "new"))
    manifest, _ = outcome(export(checkpoint, "merged", tmp_path / "new", verify=False))
    assert manifest.verified_problems == 0
    assert "not verified" in (tmp_path / "new" / "README.md").read_text()
