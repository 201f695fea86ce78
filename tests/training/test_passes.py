"""Micro-batches: how many rows go through at once, and what happens when memory runs out."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from core.contract.config import Config
from core.contract.errors import OutOfMemory
from core.data.batches import MicroBatch, encode_problems, rows_of
from core.data.humaneval import load_problems
from core.model.loading import LoadedModel, Precision
from core.training import passes as module
from core.training.passes import MicroBatchPasses, result_of


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each micro-batch, as they come."""
    seen: list[int] = []
    collate = module.collate

    def counted(rows: list[object], pad: int) -> MicroBatch:
        seen.append(len(rows))
        return collate(rows, pad)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "collate", counted)
    return seen


def setting(loaded: LoadedModel) -> tuple[list[nn.Parameter], list[module.Row]]:
    examples = encode_problems(loaded.tokenizer, load_problems().problems[:8], Config())
    prompts = [nn.Parameter(torch.randn(3, 64, generator=torch.Generator().manual_seed(seed))) for seed in range(2)]
    return prompts, rows_of(examples[:4]) + rows_of(examples[4:], 1)


def test_on_a_cpu_each_prompt_adds_the_rows_that_were_asked_for(loaded: LoadedModel, sizes: list[int]) -> None:
    prompts, rows = setting(loaded)
    result_of(MicroBatchPasses(loaded, 1).gradient(prompts, rows))
    assert sizes == [2, 2, 2, 2]


@pytest.mark.parametrize(("free", "expected"), [(0, [4, 4]), (10**12, [8])])
def test_a_gpu_takes_more_rows_where_there_is_room(
    free: int, expected: list[int], loaded: LoadedModel, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _device: free)
    pretended = dataclasses.replace(loaded, precision=Precision(torch.device("cuda"), torch.bfloat16, torch.bfloat16))
    passes = MicroBatchPasses(pretended, 2)
    passes._precision = loaded.precision  # computed here all the same
    prompts, rows = setting(loaded)
    result_of(passes.loss(prompts, rows))
    assert sizes == expected


def test_without_memory_a_step_begins_again_in_smaller_pieces(
    loaded: LoadedModel, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, rows = setting(loaded)
    expected = result_of(MicroBatchPasses(loaded, 4).gradient(prompts, rows))
    gradients = [prompt.grad for prompt in prompts]
    real = module.prompt_losses

    def short_of_memory(model: object, stacked: torch.Tensor, batch: MicroBatch, *more: object) -> torch.Tensor:
        if len(batch.after) > 2 and len(sizes) > 1:
            raise torch.OutOfMemoryError("no room")
        return real(model, stacked, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "prompt_losses", short_of_memory)
    sizes.clear()
    passes = MicroBatchPasses(loaded, 2)
    losses = result_of(passes.gradient(prompts, rows))
    assert sizes == [4, 4, 2, 2, 2, 2]
    assert (losses - expected).abs().max() < 1e-5
    assert all((prompt.grad - grad).abs().max() < 1e-6  # type: ignore[operator]
               for prompt, grad in zip(prompts, gradients, strict=True))
    sizes.clear()
    result_of(passes.gradient(prompts, rows))
    assert sizes == [2, 2, 2, 2], "what did not fit once is not tried again"


def test_a_row_that_does_not_fit_alone_is_an_error(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(module, "prompt_losses", no_memory)
    with pytest.raises(OutOfMemory, match="a single row of 490 tokens: it needs about .* are free") as caught:
        result_of(MicroBatchPasses(loaded, 4).gradient(*setting(loaded)))
    assert "dataset.max_length 489 may fit" in caught.value.remedy

