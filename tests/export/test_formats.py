"""Exports are loaded by the tools they are for, and say what softtune says."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.contract.config_file import load_config
from core.contract.errors import CheckpointError, UsageError
from core.contract.record import Split
from core.export.formats import export, import_adapter
from core.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture
def checkpoint(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    config = load_config(overrides=[f"model.name={tiny_model_folder}", "hardware.device=cpu"])
    rows = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)) * 0.2
    metrics = {"train_loss": 1.0, "heldout_loss": 0.9, "heldout_perplexity": 2.46}
    split = Split(train=["a"], heldout=["b"])
    made = Checkpoint(rows, config.model.name, 2, 9, metrics, config.model_dump(), split, "r")
    save_checkpoint(made, tmp_path / "x.pt")
    return tmp_path / "x.pt"


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers for an attribute by its old name
def test_peft_loads_the_adapter_with_the_same_logits(checkpoint: Path, tiny_model: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    export(checkpoint, "peft", tmp_path / "adapter")
    rival = PeftModel.from_pretrained(copy.deepcopy(tiny_model), str(tmp_path / "adapter")).eval()
    ids = torch.arange(20, 40)[None]
    embedded = torch.cat([load_checkpoint(checkpoint).soft_prompt[None], tiny_model.get_input_embeddings()(ids)], dim=1)
    with torch.no_grad():
        theirs = rival(input_ids=ids).logits[:, -20:]
        ours = tiny_model(inputs_embeds=embedded).logits[:, -20:]
    assert torch.allclose(theirs, ours, atol=1e-5)
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "1 held out" in card and "heldout loss: 0.9000" in card


def test_an_adapter_comes_back_as_it_left(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, "peft", tmp_path / "adapter")
    back = load_checkpoint(import_adapter(tmp_path / "adapter"))
    first = load_checkpoint(checkpoint)
    assert torch.equal(back.soft_prompt, first.soft_prompt) and back.base_model == first.base_model
    with pytest.raises(UsageError, match="exists already"):
        import_adapter(tmp_path / "adapter")


def test_other_adapters_are_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, "peft", tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    settings = json.loads(file.read_text())
    for change, words in (({"peft_type": "LORA"}, "is a LORA adapter"), ({"token_dim": 3}, "says"),
                          ({"base_model_name_or_path": None}, "does not name the base model")):
        file.write_text(json.dumps(settings | change))
        with pytest.raises(CheckpointError, match=words):
            import_adapter(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="not a prompt-tuning adapter"):
        import_adapter(tmp_path / "nowhere")


@pytest.mark.parametrize("virtual_tokens", [5, 40])  # into spare rows, and past the end of the vocabulary
def test_a_merged_model_is_an_ordinary_one(
    virtual_tokens: int, checkpoint: Path, tiny_model: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = load_checkpoint(checkpoint)
    rows = torch.randn(virtual_tokens, 64, generator=torch.Generator().manual_seed(2)) * 0.2
    save_checkpoint(Checkpoint(rows, made.base_model, 1, 1, made.metrics, made.config, made.split, "r"), checkpoint)
    export(checkpoint, "merged", tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="float32").eval()
    ids = tokenizer("def f(x):", return_tensors="pt")["input_ids"]
    plain = ids[:, virtual_tokens:]
    embedded = torch.cat([rows[None], tiny_model.get_input_embeddings()(plain)], dim=1)
    with torch.no_grad():
        ours, theirs = tiny_model(inputs_embeds=embedded).logits, model(input_ids=ids).logits
    assert torch.allclose(ours, theirs[..., : ours.shape[-1]], atol=1e-5)
    assert not model.config.tie_word_embeddings and len(model.generation_config.suppress_tokens) == virtual_tokens


def test_a_folder_in_use_is_not_overwritten_and_a_failed_check_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine.txt").write_text("keep me")
    for name in ("peft", "merged"):
        with pytest.raises(CheckpointError, match="not an empty folder"):
            export(checkpoint, name, used)
    monkeypatch.setattr("core.export.merged._own_completions", lambda *_: [[1, 2, 3]] * 8)
    before = set(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="differs from softtune at token"):
        export(checkpoint, "merged", tmp_path / "new")
    assert set(tmp_path.iterdir()) == before
