"""What was exported comes back as it left, with its split; what is damaged or something else is refused by name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.commands.runs import check_unfinished
from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.errors import CheckpointError, UsageError
from core.contract.event_log import EventTail
from core.contract.events import CompletionsSaved, Notice, RunFailed, RunFinished
from core.contract.record import Split
from core.contract.runs import create_run, find_run, list_runs
from core.export.formats import export
from core.export.imports import import_folder
from core.jobs import infer
from core.model.checkpoint import load_checkpoint
from tests.tiny import make_tiny_model
from tui.checkpoints.catalogue import CatalogueReader
from tui.engine import newest_run

from .conftest import METRICS, SPLIT, MakeCheckpoint, outcome


@pytest.mark.parametrize(("form", "dtype"), [("peft", "float32"), ("merged", "float32"), ("merged", "bfloat16")])
def test_an_export_comes_back_as_it_left(
    form: Any, dtype: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    make_tiny_model(tmp_path / "base", dtype=dtype)
    made = make_checkpoint(tmp_path / "base")
    outcome(export(made, form, tmp_path / "out", verify=False))
    path, told = outcome(import_folder(tmp_path / "out", "back"))
    first, back = load_checkpoint(made), load_checkpoint(path)
    rounded = first.soft_prompt.to(getattr(torch, dtype)).float()
    assert torch.equal(back.soft_prompt, rounded)
    assert [event.what for event in told if isinstance(event, Notice)] == (
        [] if dtype == "float32" else ["the soft prompt comes back as it was rounded to bfloat16"])
    assert (back.split, back.metrics, back.epoch, back.step) == (SPLIT, METRICS, 2, 9)
    assert back.base_model == str(tmp_path / "base") and back.config == first.config
    (run,) = list_runs()
    assert run.state == "finished" and run.record is not None and run.record.kind == "import"
    assert run.record.heldout_loss == 0.9 and run.record.split == SPLIT and back.run_id == run.folder.run_id
    tail = EventTail(run.folder.events_file)
    events = tail.read()
    assert any(isinstance(event, Notice) and event.what.endswith("its figures are those of run r") for event in events)
    assert isinstance(events[-1], RunFinished) and not tail.skipped and not tail.unknown
    (row,) = CatalogueReader().read().rows
    assert (row.name, row.epoch, row.step, row.heldout_loss) == ("best", 2, 9, 0.9)
    assert not row.faults


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "P_TUNING"])
def test_what_peft_saves_is_taken_without_a_split(
    kind: str, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PromptEncoderConfig, PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    monkeypatch.chdir(tmp_path)
    make: Callable[..., Any] = PromptTuningConfig if kind == "PROMPT_TUNING" else PromptEncoderConfig
    settings = make(task_type="CAUSAL_LM", num_virtual_tokens=6)
    rival = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model_folder), settings).eval()
    rival.save_pretrained(tmp_path / "theirs")
    path, told = outcome(import_folder(tmp_path / "theirs"))
    back = load_checkpoint(path)
    assert torch.allclose(back.soft_prompt, rival.get_prompt(1)[0].detach(), atol=1e-6)
    assert back.split == Split(train=[], heldout=[]) and back.base_model == str(tiny_model_folder)
    assert any(isinstance(event, Notice) and "no problem counts as held out" in event.what for event in told)
    assert path.parent.parent.name.endswith("-theirs")

    small = Config.model_validate({"dataset": {"max_samples": 2}, "inference": {"max_new_tokens": 2},
                                   "hardware": {"device": "cpu"}})
    done = list(infer(small, path, ControlInbox(), output=tmp_path / "completions.jsonl"))
    assert any(isinstance(event, CompletionsSaved) for event in done)
    rows = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert [row["split"] for row in rows] == ["", ""]
    refused = list(infer(small, path, ControlInbox(), split="heldout"))[-1]
    assert isinstance(refused, RunFailed) and "heldout split" in refused.what


def test_an_altered_adapter_comes_without_what_it_was_said_to_be(checkpoint: Path, tmp_path: Path) -> None:
    outcome(export(checkpoint, "peft", tmp_path / "out"))
    file = tmp_path / "out" / "adapter_model.safetensors"
    save_file({name: rows + 1 for name, rows in load_file(file).items()}, file, {"format": "pt"})
    path, told = outcome(import_folder(tmp_path / "out"))
    back = load_checkpoint(path)
    assert back.split == Split(train=[], heldout=[]) and back.metrics["heldout_loss"] is None
    assert any("is not what softtune.json tells of" in event.what for event in told if isinstance(event, Notice))


def replaced(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return change


def saved(**tensors: torch.Tensor) -> Callable[[Path], None]:
    return lambda folder: save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def cut(name: str, count: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:count])
    return change


ROWS = torch.ones(5, 64)
def pipe(name: str) -> Callable[[Path], None]:
    """A named pipe in place of a file: to read it would be to wait for ever."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


DAMAGE = [
    (replaced(peft_type="LORA"), "is a LORA adapter"),
    (replaced(peft_type="PREFIX_TUNING"), "is a PREFIX_TUNING adapter"),
    (replaced(peft_type="MULTITASK_PROMPT_TUNING"), "is a MULTITASK_PROMPT_TUNING adapter"),
    (replaced(token_dim=3), "says"), (replaced(num_virtual_tokens="many"), "says|not a prompt-tuning adapter"),
    (replaced(base_model_name_or_path=None), "does not name the base model"),
    (saved(prompt_embeddings=ROWS * float("nan")), "not finite"),
    (saved(prompt_embeddings=torch.ones(4, 64)), "holds"), (saved(rows=ROWS), "holds rows and not prompt_embeddings"),
    (saved(prompt_embeddings=ROWS, prefix=ROWS + 1), "not prompt_embeddings alone"),
    (saved(prompt_embeddings=ROWS.to(torch.int32)), "holds"),
    (cut("adapter_model.safetensors", 900), "not a prompt-tuning adapter"),
    (cut("adapter_config.json", 20), "not a prompt-tuning adapter"),
    (lambda folder: (folder / "adapter_config.json").unlink(), "not a prompt-tuning adapter"),
    (lambda folder: (folder / "adapter_model.safetensors").unlink(), "not a prompt-tuning adapter"),
    (cut("softtune.json", 50), "softtune.json is damaged"),
    (replaced(num_virtual_tokens="aaaa", num_transformer_submodules=10**18), "have to be whole numbers"),
    (replaced(num_virtual_tokens=0), "have to be whole numbers"), (replaced(num_virtual_tokens=True), "whole numbers"),
    (replaced(base_model_name_or_path="\x1b[2Jx"), "does not name the base model"),
    (replaced(peft_type="\x1b[2JLORA"), r"is a '\\x1b\[2JLORA' adapter"),
    (pipe("adapter_config.json"), "not a prompt-tuning adapter"), (pipe("adapter_model.safetensors"), "is no file"),
]


def test_damaged_and_other_adapters_are_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    outcome(export(checkpoint, "peft", tmp_path / "whole"))
    for number, (damage, words) in enumerate(DAMAGE):
        folder = tmp_path / f"adapter-{number}"
        shutil.copytree(tmp_path / "whole", folder)
        damage(folder)
        with pytest.raises(CheckpointError, match=words):
            outcome(import_folder(folder))
    for folder, words in ((tmp_path / "nowhere", "there is no folder"),
                          (tmp_path / "model", "is a whole model, and not one that softtune exported")):
        if folder.name == "model":
            make_tiny_model(folder)
        with pytest.raises(CheckpointError, match=words):
            outcome(import_folder(folder))
    assert not (tmp_path / "runs").exists()


def test_a_damaged_merged_model_is_refused_by_the_files_name(checkpoint: Path, tmp_path: Path) -> None:
    outcome(export(checkpoint, "merged", tmp_path / "out", verify=False))
    weights = tmp_path / "out" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="model.safetensors is not what was exported"):
        outcome(import_folder(tmp_path / "out"))
    assert not (tmp_path / "runs").exists()


def test_an_import_is_not_taken_for_a_training_run(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(export(checkpoint, "peft", tmp_path / "out"))
    with pytest.raises(UsageError, match="--name 'a b' is not usable"):
        outcome(import_folder(tmp_path / "out", "a b"))
    outcome(import_folder(tmp_path / "out"))
    newest = newest_run()
    assert newest is not None and newest.record is not None and newest.record.kind == "import"
    trained = create_run(Config(), "trained")
    trained.root.rename(trained.root.with_name("2020-01-01-000000-trained"))
    older = newest_run()
    assert older is not None and older.folder.run_id == "2020-01-01-000000-trained"
    assert find_run("last").run_id == older.folder.run_id
    last = find_run("out")
    with pytest.raises(UsageError, match=f"{last.run_id} was imported"):
        check_unfinished(last, last.read_config(), last.read_record())
