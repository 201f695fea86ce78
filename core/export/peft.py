"""Soft prompts as adapters of the `peft` package: a PROMPT_TUNING folder, written and read without peft itself.

On disk: `adapter_model.safetensors` with the one key `prompt_embeddings` [V, H], and `adapter_config.json`.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from core.contract.config import Config, ModelSettings
from core.contract.errors import CheckpointError
from core.contract.record import Split
from core.model.checkpoint import Checkpoint

WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "README.md"
KEY = "prompt_embeddings"


def export_peft(checkpoint: Checkpoint, folder: Path, shape: Any) -> None:
    """Write an adapter that `PeftModel.from_pretrained(base, folder)` loads.

    Args:
        folder: made here; it must not exist yet, or be empty.
        shape: the base model's transformers config (layers, heads).

    Raises:
        CheckpointError: the folder is in use.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is not an empty folder", "name a new one; nothing was overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    text = shape.get_text_config()
    settings = {
        "peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": checkpoint.num_virtual_tokens,
        "token_dim": checkpoint.embedding_dim, "num_layers": text.num_hidden_layers,
        "num_attention_heads": text.num_attention_heads, "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM", "base_model_name_or_path": checkpoint.base_model, "inference_mode": True,
    }
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as unfinished:
        whole = Path(unfinished) / "adapter"
        whole.mkdir()
        save_file({KEY: checkpoint.soft_prompt.contiguous()}, whole / WEIGHTS, metadata={"format": "pt"})
        (whole / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
        (whole / CARD).write_text(model_card(checkpoint))
        if folder.exists():
            folder.rmdir()
        os.rename(whole, folder)


def import_peft(folder: Path) -> Checkpoint:
    """A checkpoint of a PROMPT_TUNING adapter.

    What the adapter does not know (training, split, metrics) is left empty.

    Raises:
        CheckpointError: it is not such an adapter, or its files do not agree.
    """
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = settings["peft_type"]
        if kind != "PROMPT_TUNING":
            raise CheckpointError(f"{folder} is a {kind} adapter", "only PROMPT_TUNING adapters hold a soft prompt")
        rows = load_file(folder / WEIGHTS)[KEY]
        stated = (settings["num_virtual_tokens"], settings["token_dim"])
        base = settings["base_model_name_or_path"]
        if not isinstance(base, str) or not base:
            raise ValueError("base_model_name_or_path does not name the base model")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is not a prompt-tuning adapter: {type(error).__name__}: {error}",
                              f"it needs {CONFIG} and {WEIGHTS}") from None
    if tuple(rows.shape) != stated or not torch.isfinite(rows).all():
        raise CheckpointError(f"{folder}: {WEIGHTS} holds {tuple(rows.shape)}, {CONFIG} says {stated}",
                              "export the adapter again")
    config = Config().model_copy(update={"model": ModelSettings(name=base)})
    metrics = {"train_loss": None, "heldout_loss": None, "heldout_perplexity": None}
    nobody = Split(train=[], heldout=[])
    return Checkpoint(rows, config.model.name, 0, 0, metrics, config.model_dump(), nobody, "imported")


def model_card(checkpoint: Checkpoint) -> str:
    """What a stranger needs to know: base model, data, split, metrics, how to use."""
    known = {name.replace("_", " "): value for name, value in checkpoint.metrics.items() if value is not None}
    measured = [f"- {name}: {value:.4f}" for name, value in known.items()]
    return "\n".join([
        "---", f"base_model: {checkpoint.base_model}", "library_name: peft", "---", "",
        f"# Soft prompt for {checkpoint.base_model}", "",
        f"{checkpoint.num_virtual_tokens} virtual tokens of width {checkpoint.embedding_dim}, trained by softtune on "
        f"{len(checkpoint.split.train)} HumanEval-style problems, with {len(checkpoint.split.heldout)} held out; "
        f"run {checkpoint.run_id}, epoch {checkpoint.epoch}.", "", *measured, "", "```python",
        "from peft import PeftModel", "from transformers import AutoModelForCausalLM", "",
        f'base = AutoModelForCausalLM.from_pretrained("{checkpoint.base_model}")',
        'model = PeftModel.from_pretrained(base, "this folder")', "```", "",
        "Left-padded batches put the soft prompt before the padding in peft: run prompts one at a time there.", "",
    ])
