"""A merged model is an ordinary one: plain transformers gives the logits of the soft-prompt model, for all shapes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors

from core.contract.errors import CheckpointError, ModelError
from core.contract.exports import Manifest, check_files, read_manifest
from core.data.prompts import MIDDLE, PREFIX, SUFFIX
from core.export import merged
from core.export.formats import export
from core.export.weights import read_tensors
from core.model.checkpoint import load_checkpoint
from tests.tiny import make_tiny_model, make_tiny_tokenizer

from .conftest import MakeCheckpoint, outcome
from .test_formats import run_code_of

TEXT = "def f(x):\n    return"


def export_and_compare(checkpoint: Path, base: Path, folder: Path) -> Manifest:
    """Export, load by plain transformers, compare logits; the manifest."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    manifest, _ = outcome(export(checkpoint, "merged", folder))
    rows = load_checkpoint(checkpoint).soft_prompt
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    assert ids[0, : len(rows)].tolist() == manifest.soft_token_ids
    model, plain = (AutoModelForCausalLM.from_pretrained(place, dtype="float32").eval() for place in (folder, base))
    dtype = getattr(torch, manifest.dtype)
    scale = getattr(plain.get_input_embeddings(), "scalar_embed_scale", 1.0)
    soft = ((rows / scale).to(dtype).float() * scale)[None]
    embedded = torch.cat([soft, plain.get_input_embeddings()(ids[:, len(rows) :])], dim=1)
    with torch.no_grad():
        ours, theirs = plain(inputs_embeds=embedded).logits, model(input_ids=ids).logits
    assert torch.allclose(ours, theirs[..., : ours.shape[-1]], atol=1e-5)
    new = theirs[..., ours.shape[-1] :]
    assert (new <= ours.max(dim=-1, keepdim=True).values).all()
    assert not model.config.tie_word_embeddings
    assert set(manifest.soft_token_ids) <= set(model.generation_config.suppress_tokens)
    assert manifest.verified_problems == 3 and manifest == read_manifest(folder)
    check_files(folder, manifest)
    return manifest


@pytest.mark.parametrize(("tied", "virtual_tokens", "dtype"), [
    (True, 5, "float32"), (True, 40, "bfloat16"), (False, 5, "bfloat16"), (False, 40, "float32"),
])  # 5 rows fit into the spare ones of the vocabulary, 40 do not
def test_logits_are_those_of_the_soft_prompt_model(
    tied: bool, virtual_tokens: int, dtype: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    make_tiny_model(tmp_path / "base", tied=tied, dtype=dtype)
    made = make_checkpoint(tmp_path / "base", virtual_tokens)
    manifest = export_and_compare(made, tmp_path / "base", tmp_path / "merged")
    assert manifest.dtype == dtype


def test_every_other_weight_is_copied_bit_by_bit_into_shards(
    checkpoint: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.export.weights.SHARD_BYTES", 100_000)
    export_and_compare(checkpoint, tiny_model_folder, tmp_path / "merged")
    shards = sorted((tmp_path / "merged").glob("model-*.safetensors"))
    assert len(shards) > 2 and (tmp_path / "merged" / "model.safetensors.index.json").exists()
    first = read_tensors([tiny_model_folder / "model.safetensors"])
    last = read_tensors(shards)
    assert set(last) - set(first) == {"lm_head.weight"}

    def content(tensor: Any) -> bytes:
        (span,) = tensor.parts
        return bytes(span.file.read_bytes()[span.start : span.start + span.length])

    for name in set(first) - {"model.embed_tokens.weight"}:
        assert content(first[name]) == content(last[name])
    assert content(first["model.embed_tokens.weight"]) == content(last["lm_head.weight"])


def test_weights_in_torchs_own_format_are_rewritten_first(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    base = tmp_path / "base"
    make_tiny_model(base, tied=False)
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    export_and_compare(make_checkpoint(base), base, tmp_path / "merged")


def test_an_embedding_that_scales_its_rows_gets_them_divided(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    from transformers import GemmaConfig, GemmaForCausalLM

    base = tmp_path / "base"
    end = make_tiny_tokenizer(base)
    torch.manual_seed(0)
    GemmaForCausalLM(GemmaConfig(
        vocab_size=500, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, eos_token_id=end, pad_token_id=end, bos_token_id=end,
    )).save_pretrained(base)
    export_and_compare(make_checkpoint(base, 3, scale=2.0), base, tmp_path / "merged")


@pytest.mark.parametrize("settings", [
    ["inference.prompt_style=infilling"],
    ['inference.text_prompt="# Python 3\\n"', "inference.text_prompt_position=before_soft"],
])
def test_what_stood_around_the_problem_and_ended_it_does_so_in_a_merged_model(
    settings: list[str], make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    base = tmp_path / "base"
    make_tiny_model(base)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": [PREFIX, SUFFIX, MIDDLE]})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", pair="<|endoftext|> $A $B:1", special_tokens=[("<|endoftext|>", 0)])
    tokenizer.save_pretrained(base)
    GenerationConfig(eos_token_id=0, pad_token_id=0, repetition_penalty=3.0, temperature=0.1, do_sample=True
                     ).save_pretrained(base)
    manifest, _ = outcome(export(make_checkpoint(base, 12, *settings), "merged", tmp_path / "merged"))
    assert manifest.verified_problems == 3 and max(manifest.soft_token_ids) > 511
    known = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert "repetition_penalty" not in known and known["eos_token_id"] == (
        [0] if len(settings) > 1 else [0, *tokenizer.convert_tokens_to_ids([PREFIX, SUFFIX, MIDDLE])])


def test_without_auto_prepend_the_literal_tokens_do_the_same(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer

    (tmp_path / "plain").mkdir()
    said = []
    for name, auto in (("auto", True), ("plain", False)):
        manifest, _ = outcome(export(checkpoint, "merged", tmp_path / name, auto_prepend=auto))
        assert manifest.auto_prepend == auto and manifest.verified_problems == 3
        said.append(run_code_of(tmp_path / name / "README.md", monkeypatch, capsys))
    assert said[0] == said[1]
    auto, plain = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("auto", "plain"))
    wanted = auto(TEXT)["input_ids"]
    assert plain(TEXT)["input_ids"] == wanted[5:]
    assert plain(f"{manifest.literal_prefix}{TEXT}{manifest.literal_suffix}")["input_ids"] == wanted
    for tokenizer in (auto, plain):
        chat = [{"role": "system", "content": "Be nice."}, {"role": "user", "content": TEXT}]
        assert tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] == wanted


def test_a_difference_is_told_by_problem_and_token_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(tmp_path.iterdir())
    honest = merged.own_tokens

    def other(*given: Any, **known: Any) -> Any:
        own = yield from honest(*given, **known)
        own.tokens[1][2] += 1
        return own

    monkeypatch.setattr(merged, "own_tokens", other)
    with pytest.raises(CheckpointError, match="differs from softtune at token 2 of"):
        outcome(export(checkpoint, "merged", tmp_path / "new"))
    assert set(tmp_path.iterdir()) == before


def test_a_soft_prompt_of_a_merged_model_can_be_merged_again(
    checkpoint: Path, make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.export.weights.SHARD_BYTES", 100_000)
    outcome(export(checkpoint, "merged", tmp_path / "once"))
    manifest, _ = outcome(export(make_checkpoint(tmp_path / "once", 3), "merged", tmp_path / "twice"))
    assert manifest.soft_tokens == ["<|soft2_0|>", "<|soft2_1|>", "<|soft2_2|>"] and manifest.verified_problems == 3
    assert manifest.literal_prefix is not None and manifest.literal_prefix.endswith("<|soft_4|>")


def test_damaged_bases_and_rows_out_of_range_are_refused(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "half", dtype="float16")
    with pytest.raises(CheckpointError, match="too large for F16"):
        outcome(export(make_checkpoint(tmp_path / "half", scale=1e6), "merged", tmp_path / "new"))
    weights = tmp_path / "half" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    made = make_checkpoint(tmp_path / "half")
    with pytest.raises(ModelError, match="is damaged or no safetensors file"):
        outcome(export(made, "merged", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_the_tokenizers_files_are_for_older_versions_too(checkpoint: Path, tmp_path: Path) -> None:
    outcome(export(checkpoint, "merged", tmp_path / "merged"))
    known = json.loads((tmp_path / "merged" / "tokenizer_config.json").read_text())
    assert known["tokenizer_class"] == "PreTrainedTokenizerFast" and "extra_special_tokens" not in known
    assert known["additional_special_tokens"][0] == "<|soft_0|>"
    shutil.rmtree(tmp_path / "merged")
