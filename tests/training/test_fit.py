"""Which passes a model trains with: the trial that our own have to stand, and what is told where they do not."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from core.contract.config import DEMO, Config
from core.contract.events import Notice
from core.model import onednn
from core.model.loading import LoadedModel, Precision, load_model
from core.training.fit import agrees, row_passes, why_autograd
from core.training.packed.passes import PackedPasses
from core.training.passes import MicroBatchPasses
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
    torch.manual_seed(0)
    with torch.no_grad():
        weight[:UNTRAINED] = weight[-UNTRAINED:] = torch.nan
        loaded.model.get_output_embeddings().weight = torch.nn.Parameter(torch.randn_like(weight), requires_grad=False)
    assert agrees(PackedPasses(loaded, 4), loaded)
    with torch.no_grad():
        weight[UNTRAINED:-UNTRAINED] = torch.nan
    assert not agrees(PackedPasses(loaded, 4), loaded)


def test_a_gradient_or_a_loss_far_off_fails_the_trial_in_sixteen_bits_too(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = in_type(loaded, torch.bfloat16)
    passes = PackedPasses(loaded, 4)
    result = passes._result
    monkeypatch.setattr(passes, "_result", lambda *a: (result(*a)[0], 1.5 * result(*a)[1]))
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


def test_nothing_is_told_where_our_own_passes_train(loaded: LoadedModel) -> None:
    assert list(told_of(choose_passes(loaded, 4), loaded)) == []


CPU, CUDA = torch.device("cpu"), torch.device("cuda")
HALF, FLOAT = torch.bfloat16, torch.float32
REASONS = {
    "another type on a CPU": (Precision(CPU, HALF, None), "qwen2", "take float32, and the weights are in bfloat16", ""),
    "float32 on a GPU": (
        Precision(CUDA, FLOAT, HALF), "qwen2", "take 16 bits, and the weights are in float32", "model.torch_dtype"),
    "no mixed precision": (
        Precision(CUDA, FLOAT, None), "qwen2", "take 16 bits, and the weights are in float32",
        "hardware.mixed_precision"),
    "another kind on a GPU": (
        Precision(CUDA, HALF, HALF), "another", "are of llama, qwen2, mistral, and this is another", ""),
    "a trial that failed": (Precision(CUDA, HALF, HALF), "qwen2", "did not pass a trial here", ""),
    "the same on a CPU": (Precision(CPU, FLOAT, None), "another", "did not pass a trial here", ""),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_user_is_told_why_steps_take_long(
    case: str, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    precision, kind, reason, setting = REASONS[case]
    other = dataclasses.replace(in_type(loaded, precision.weights), precision=precision)
    other.model.config.model_type = kind
    (notice,) = told_of(MicroBatchPasses(in_type(loaded, FLOAT), 4), other)
    assert isinstance(notice, Notice) and notice.level == "info" and reason in notice.what
    assert ("several times as long" in notice.what) == (precision.device == CUDA)
    assert notice.setting == setting or case == "another type on a CPU"
    assert not setting or setting in notice.remedy


def test_what_a_machine_lacks_is_no_failed_trial(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.training.fit.can_be_written_out", lambda model: False)
    on_gpu = dataclasses.replace(in_type(loaded, HALF), precision=Precision(CUDA, HALF, HALF))
    assert "memory has no room" in why_autograd(on_gpu).what
    monkeypatch.setattr(onednn, "available", lambda: False)
    assert "oneDNN, which this torch lacks" in why_autograd(loaded).what
    other = in_type(loaded, FLOAT)
    del other.model.model.norm
    assert "this qwen2 has other parts" in why_autograd(other).what
