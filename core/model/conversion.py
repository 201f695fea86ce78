"""GGUF weights, converted once to a cached folder of safetensors.

transformers reads GGUF by itself, but building the tokenizer from it takes some twenty seconds each time.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.contract.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OLD_SECONDS = 3600
"""A conversion takes less than a minute."""
CONVERSION = 2
"""Of the ways to convert; what the first one made has no number, and may end texts with a wrong token."""
SPECIAL_TOKENS = {
    "bos_token": "bos_token_id", "eos_token": "eos_token_id", "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
"""What a tokenizer calls them, and a GGUF file."""


def cache_folder() -> Path:
    """Where converted models are kept: $XDG_CACHE_HOME/softtune/models."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "softtune" / "models"


def converted_from_gguf(source: str, gguf_file: str, trust_remote_code: bool) -> str:
    """A folder with the float32 weights and the tokenizer of a GGUF file, converted now or found in the cache.

    Args:
        source: local folder or hub id that has the file.

    Raises:
        OSError: the file is not there or cannot be read (as transformers and the hub client raise it).
    """
    file = _gguf_path(source, gguf_file)
    earlier = cache_folder() / f"{file.stem}-{_fingerprint(file)}"
    target = earlier.with_name(f"{earlier.name}-{CONVERSION}")
    if target.is_dir():
        return str(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        lock = open(target.parent / f".{target.name}.lock", "wb")  # noqa: SIM115 - closed by the block below
        unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=".converting-"))
    except OSError as error:
        raise ModelError(f"the cache for converted models, {target.parent}, cannot be written: {error.strerror}",
                         "set XDG_CACHE_HOME to a folder that can") from None
    try:
        with lock:
            with contextlib.suppress(OSError):  # a file system without locks: then each converts for itself
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                _convert(file, unfinished, trust_remote_code)
                unfinished.rename(target)
                shutil.rmtree(earlier, ignore_errors=True)
    except OSError:
        if not target.is_dir():  # else another process converted it meanwhile
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return str(target)


def _convert(file: Path, folder: Path, trust_remote_code: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = str(file.parent)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file.name, dtype=torch.float32, trust_remote_code=trust_remote_code
    )
    _unquantized(model).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file.name)
    _set_special_tokens(tokenizer, file)
    tokenizer.save_pretrained(folder)


def _set_special_tokens(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Give a tokenizer the special tokens that its GGUF file names.

    transformers 5.17 ended a text of SmolLM2's file with the token that begins one.
    """
    from gguf import GGUFReader

    reader = GGUFReader(file)
    for name, key in SPECIAL_TOKENS.items():
        field = reader.get_field(f"tokenizer.ggml.{key}")
        if field is not None:
            token = tokenizer.convert_ids_to_tokens(int(field.contents()))
            if token is not None:  # else the file names one past its own vocabulary
                setattr(tokenizer, name, token)


def _sweep(cache: Path) -> None:
    """Remove what conversions that were killed have left: a model each."""
    for left in cache.glob(".converting-*"):
        if time.time() - left.stat().st_mtime > OLD_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _unquantized(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that transformers lets be saved: one read from GGUF is marked as quantized."""
    shape = copy.deepcopy(model.config)
    if hasattr(shape, "quantization_config"):
        del shape.quantization_config
    plain = type(model)(shape)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


def _gguf_path(source: str, gguf_file: str) -> Path:
    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(source, gguf_file))
    file = folder / gguf_file
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {gguf_file} in {source} (model.gguf_file)")
    return file


def _fingerprint(file: Path) -> str:
    """Enough of the file to tell versions apart without reading gigabytes: size, first and last MiB."""
    digest = hashlib.sha256(str(file.stat().st_size).encode())
    with open(file, "rb") as content:
        digest.update(content.read(2**20))
        content.seek(max(file.stat().st_size - 2**20, 0))
        digest.update(content.read())
    return digest.hexdigest()[:16]
