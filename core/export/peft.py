"""Soft prompts as adapters of the `peft` package: prompt-tuning folders, written and read without peft itself.

On disk: `adapter_model.safetensors` with the one key `prompt_embeddings` [V, H], and `adapter_config.json`.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from core.contract.errors import CheckpointError
from core.contract.files import read_regular
from core.model.checkpoint import Checkpoint

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
KEY = "prompt_embeddings"
LARGEST = 1_000_000
READABLE = ("PROMPT_TUNING", "P_TUNING")
"""Kinds of adapters whose file holds a soft prompt; P_TUNING's holds what its encoder came to in the end."""


def write_adapter(checkpoint: Checkpoint, shape: Any, folder: Path) -> None:
    """Write an adapter that `PeftModel.from_pretrained(base, folder)` loads into an empty folder.

    Args:
        shape: the base model's transformers config (layers, heads).
    """
    text = shape.get_text_config()
    settings = {
        "peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": checkpoint.num_virtual_tokens,
        "token_dim": checkpoint.embedding_dim, "num_layers": text.num_hidden_layers,
        "num_attention_heads": text.num_attention_heads, "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM", "base_model_name_or_path": checkpoint.base_model, "inference_mode": True,
    }
    (folder / WEIGHTS).write_bytes(save({KEY: checkpoint.soft_prompt.contiguous()}, metadata={"format": "pt"}))
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def read_adapter(folder: Path) -> tuple[torch.Tensor, str]:
    """The soft prompt [V, H] of an adapter in float32, and the name of its base model.

    Raises:
        CheckpointError: it is another kind of adapter, or its files do not agree.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}", "name the folder of an adapter, or of a merged export")
    try:
        settings = json.loads(read_regular(folder / SETTINGS))
        kind = settings["peft_type"]
        if kind not in READABLE:
            shown = kind if isinstance(kind, str) and kind.isidentifier() else repr(kind)[:80]
            raise CheckpointError(f"{folder} is a {shown} adapter",
                                  f"only {' and '.join(READABLE)} adapters hold a soft prompt")
        sizes = [settings["num_virtual_tokens"], settings.get("num_transformer_submodules") or 1, settings["token_dim"]]
        if any(type(size) is not int or not 1 <= size <= LARGEST for size in sizes):
            raise ValueError(f"num_virtual_tokens and token_dim have to be whole numbers from 1 to {LARGEST:,}")
        stated = (sizes[0] * sizes[1], sizes[2])
        base = settings["base_model_name_or_path"]
        if not isinstance(base, str) or not base or not base.isprintable():
            raise ValueError("base_model_name_or_path does not name the base model")
        if not stat.S_ISREG((folder / WEIGHTS).stat().st_mode):
            raise ValueError(f"{WEIGHTS} is no file")
        tensors = load_file(folder / WEIGHTS)
        if list(tensors) != [KEY]:
            raise ValueError(f"{WEIGHTS} holds {', '.join(sorted(tensors)[:3]) or 'nothing'} and not {KEY} alone")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is not a prompt-tuning adapter: {type(error).__name__}: {error}",
                              f"it needs {SETTINGS} and {WEIGHTS}") from None
    rows = tensors[KEY]
    if tuple(rows.shape) != stated or not rows.is_floating_point():
        raise CheckpointError(f"{folder}: {WEIGHTS} holds {tuple(rows.shape)}, {SETTINGS} says {stated}",
                              "export the adapter again")
    if not torch.isfinite(rows).all():
        raise CheckpointError(f"{folder}: {WEIGHTS} holds numbers that are not finite", "export the adapter again")
    return rows.float(), base
