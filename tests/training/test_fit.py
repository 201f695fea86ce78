"""Which passes a model trains with: the trial that our own have to stand, and what is told where they do not."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from core.contract.config import DEMO, Config
from core.contract.events import Notice
from core.model.loading import LoadedModel, Precision, load_model
from core.training.fit import agrees, row_passes, why_autograd
from core.training.packed.passes import PackedPasses
from core.training.setup import choose_passes, told_of

UNTRAINED = 20


def in_type(loaded: LoadedModel, dtype: torch.dtype) -> LoadedModel:
    precision = Precision(torch.device("cpu"), dtype, None)
    return dataclasses.replace(loaded, model=copy.deepcopy(loaded.model).to(dtype), precision=precision)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_trial_takes_no_tokens_that_no_text_trained(loaded: LoadedModel, dtype: torch.dtype) -> None:
    """They stand at the ends of a vocabulary; were one in it, the gradient would be no number."""
    loaded = in_type(loaded, dtype)
    weight = loaded.model.get_input_embeddings().weight
    assert agrees(PackedPasses(loaded, 4), loaded)
    with torch.no_grad():
        weight[:UNTRAINED] = weight[-UNTRAINED:] = torch.nan
        loaded.model.get_output_embeddings().weight = torch.nn.Parameter(torch.randn_like(weight), requires_grad=False)
    assert agrees(PackedPasses(loaded, 4), loaded)
    with torch.no_grad():
        weight[UNTRAINED:-UNTRAINED] = torch.nan
    assert not agrees(PackedPasses(loaded, 4), loaded)


def test_a_wrong_gradient_fails_the_trial_in_sixteen_bits_too(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = in_type(loaded, torch.bfloat16)
    passes = PackedPasses(loaded, 4)
    result = passes._result
    monkeypatch.setattr(passes, "_result", lambda *a: (result(*a)[0], 0 * result(*a)[1]))
    assert not agrees(passes, loaded)
    monkeypatch.setattr(passes, "_result", lambda *a: (1.05 * result(*a)[0], result(*a)[1]))
    assert not agrees(passes, loaded)


SLOW = (pytest.param(dtype, marks=pytest.mark.slow) for dtype in (torch.float16, torch.bfloat16))
"""A CPU without products in 16 bits takes a minute for each."""


@pytest.mark.real_model
@pytest.mark.parametrize("dtype", [torch.float32, *SLOW])
def test_real_weights_stand_the_trial(dtype: torch.dtype) -> None:
    config = Config.model_validate({**DEMO, "hardware": {"device": "cpu"}})
    loaded = in_type(load_model(config), dtype)
    assert agrees(PackedPasses(loaded, 4), loaded)
    assert dtype != torch.float32 or row_passes(loaded, 2) is not None


def test_the_user_is_told_why_steps_take_long(loaded: LoadedModel) -> None:
    assert list(told_of(choose_passes(loaded, 4), loaded)) == [], "softtune's own passes are what is expected"
    other = in_type(loaded, torch.bfloat16)
    (notice,) = told_of(choose_passes(other, 4), other)
    assert isinstance(notice, Notice) and notice.level == "info" and notice.setting == "model.torch_dtype"
    assert "take float32, and the weights are in bfloat16" in notice.what
    other.model.config.model_type = "another"
    on_gpu = dataclasses.replace(other, precision=Precision(torch.device("cuda"), torch.bfloat16, torch.bfloat16))
    assert "and this is another" in why_autograd(on_gpu).what
    on_gpu.model.config.model_type = "qwen2"
    assert "failed a trial" in why_autograd(on_gpu).what
    on_gpu = dataclasses.replace(on_gpu, precision=Precision(torch.device("cuda"), torch.float32, torch.bfloat16))
    assert "take 16 bits, and the weights are in float32" in why_autograd(on_gpu).what
