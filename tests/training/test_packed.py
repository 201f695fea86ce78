"""Rows end to end: filled up to shapes that recur and recorded, they have the same losses and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from core.contract.config import Config
from core.data.batches import Row, encode_problems, rows_of
from core.data.humaneval import load_problems
from core.model.graphs import Replay
from core.model.kernels import CrossEntropy
from core.model.loading import LoadedModel
from core.training.packed import pack as packing
from core.training.packed import passes as module
from core.training.packed.pack import pack
from core.training.packed.passes import PackedPasses
from core.training.passes import MicroBatchPasses, result_of
from core.training.profile import Stopwatch


def rerun(step: Replay[Any]) -> Replay[Any]:
    """Runs the step at each replay, as CUDA's recorder does."""
    return step


def unable(step: Replay[Any]) -> Replay[Any]:
    """It fails half-way through."""
    step()
    raise RuntimeError("operation not permitted when stream is capturing")


def recording(monkeypatch: pytest.MonkeyPatch, record: Callable[[Replay[Any]], Replay[Any]] = rerun) -> list[object]:
    """Passes that record from now on, in small shapes; what was recorded."""
    recorded: list[object] = []

    def noted(step: Replay[Any]) -> Replay[Any]:
        recorded.append(step)
        return record(step)

    monkeypatch.setattr(module, "recorder", lambda _device: noted)
    monkeypatch.setattr(packing, "TOKENS", 64)
    monkeypatch.setattr(packing, "SUPERVISED", 32)
    return recorded


def rows_for(loaded: LoadedModel, *numbers: slice, **settings: Any) -> list[Row]:
    """Problems of HumanEval, those of a slice for each soft prompt."""
    config = Config.model_validate(settings)
    examples = encode_problems(loaded.tokenizer, load_problems().problems[:12], config)
    return [row for number, part in enumerate(numbers) for row in rows_of(examples[part], number)]


def prompts(count: int, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(3, 64, generator=generator)) for _ in range(count)]


def same(loaded: LoadedModel, passes: PackedPasses, rows: list[Row], count: int = 1, seed: int = 0) -> bool:
    """Whether losses and gradients are those of micro-batches."""
    ours, theirs = prompts(count, seed), prompts(count, seed)
    losses = result_of(passes.gradient(ours, rows))
    expected = result_of(MicroBatchPasses(loaded, 16).gradient(theirs, rows))
    return bool((losses - expected).abs().max() < 1e-5) and all(
        (a.grad - b.grad).abs().max() < 1e-6  # type: ignore[operator]
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("text", ["", "# Python"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_shape_is_recorded_when_it_comes_again_and_computes_other_numbers(
    count: int, text: str, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = recording(monkeypatch)
    passes = PackedPasses(loaded, 16)
    inference = {"text_prompt": text, "text_prompt_position": "before_soft"}
    rows = rows_for(loaded, *[slice(0, 4), slice(4, 6)][:count], inference=inference)
    for seed, expected in ((0, 0), (1, 1), (2, 1)):
        assert same(loaded, passes, rows, count, seed)
        assert len(recorded) == expected
    other = [Row(row.example, row.prompt, 2 * row.weight) for row in rows]
    assert same(loaded, passes, other, count) and len(recorded) == 1


def test_other_shapes_have_recordings_of_their_own_and_there_are_not_too_many(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = recording(monkeypatch)
    monkeypatch.setattr(module, "MOST", 2)
    passes = PackedPasses(loaded, 16)
    for part in (slice(0, 3), slice(3, 8), slice(8, 12)) * 3:
        assert same(loaded, passes, rows_for(loaded, part))
    assert len(recorded) == 2


def test_what_cannot_be_recorded_is_computed(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = recording(monkeypatch, unable)
    passes, rows = PackedPasses(loaded, 16), rows_for(loaded, slice(0, 4))
    assert all(same(loaded, passes, rows, seed=seed) for seed in range(4))
    assert len(recorded) == 1, "it is not tried again"


def test_without_memory_recordings_are_given_up_first(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = recording(monkeypatch)
    passes, rows = PackedPasses(loaded, 16), rows_for(loaded, slice(0, 4))
    assert all(same(loaded, passes, rows, seed=seed) for seed in range(3)) and len(passes._recordings) == 1
    full = [True]

    def short_of_memory(*arguments: Any) -> Any:
        if full:
            full.clear()
            raise torch.OutOfMemoryError("no room")
        return packed(*arguments)

    packed = passes._recorded
    monkeypatch.setattr(passes, "_recorded", short_of_memory)
    assert same(loaded, passes, rows) and not full
    assert len(recorded) == 1 and not passes._recordings, "it fits without them, and nothing more is recorded"


def test_a_prompt_that_is_no_number_leaves_the_others_alone(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a pack is filled up, with tokens behind the first row's prompt."""
    recording(monkeypatch)
    rows = rows_for(loaded, slice(0, 3), slice(3, 6))
    rows = rows[3:] + rows[:3]
    ours, alone = prompts(2), prompts(1)
    ours[1].data.fill_(torch.nan)
    passes = PackedPasses(loaded, 16)
    monkeypatch.setattr("core.training.passes.by_length", list)
    losses = result_of(passes.gradient(ours, rows))
    expected = result_of(passes.gradient(alone, [row for row in rows if row.prompt == 0]))
    assert losses[1].isnan() and abs(losses[0] - expected[0]) < 1e-5
    assert (ours[0].grad - alone[0].grad).abs().max() < 1e-6  # type: ignore[operator]


def test_nothing_is_recorded_while_sections_are_timed(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = recording(monkeypatch)
    passes, rows = PackedPasses(loaded, 16), rows_for(loaded, slice(0, 4))
    passes.section = watch = Stopwatch(torch.device("cpu"))
    assert all(same(loaded, passes, rows) for _ in range(3)) and not recorded
    assert {"data", "forward", "head", "backward"} <= set(watch.seconds)


@pytest.mark.parametrize("tokens", [64, 1])
def test_a_pack_is_filled_up_with_a_sequence_and_targets_without_weight(
    tokens: int, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "TOKENS", tokens)
    monkeypatch.setattr(packing, "SUPERVISED", tokens)
    rows = rows_for(loaded, slice(0, 5))
    exact, filled = pack(rows, 3), pack(rows, 3, filled=True)
    assert filled.shape.tokens % tokens == 0 == filled.shape.supervised % tokens
    assert 0 <= filled.shape.tokens - exact.shape.tokens < tokens
    assert filled.shape.sequences == len(rows) + 1 == exact.shape.sequences + 1
    assert torch.equal(filled.ids[: exact.shape.tokens], exact.ids)
    assert torch.equal(filled.virtual, exact.virtual) and torch.equal(filled.starts[:-1], exact.starts)
    count = exact.shape.supervised
    for ours, theirs in ((filled.places, exact.places), (filled.targets, exact.targets), (filled.owners, exact.owners)):
        assert torch.equal(ours[:count], theirs) and (ours[count:] == theirs[0]).all()
    assert torch.equal(filled.weights[:count], exact.weights) and not filled.weights[count:].any()
    lengths = filled.starts.diff()
    assert lengths.sum() == filled.shape.tokens and lengths.max() <= filled.shape.longest
    for first, length, row in zip(exact.starts, lengths, rows, strict=False):
        place = slice(int(first), int(first + length))
        assert exact.positions[place].tolist() == list(range(int(length)))
        assert exact.ids[place].tolist()[3:] == [*row.example.context, *row.example.target[:-1]]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_cross_entropy_is_that_of_torch(dtype: torch.dtype, tolerance: float, label_smoothing: float) -> None:
    scores = (torch.randn(7, 50, generator=torch.Generator().manual_seed(0)) * 4).to(dtype).requires_grad_()
    targets, factors = torch.arange(7) * 5, torch.arange(7) + 1.0
    losses = CrossEntropy.apply(scores, targets, label_smoothing)  # type: ignore[no-untyped-call]
    (found,) = torch.autograd.grad((losses * factors).sum(), scores)
    plain = nn.functional.cross_entropy(scores.float(), targets, reduction="none")
    smoothed = nn.functional.cross_entropy(
        scores.float(), targets, reduction="none", label_smoothing=label_smoothing
    )
    (expected,) = torch.autograd.grad((smoothed * factors).sum(), scores)
    assert losses.dtype == torch.float32 and (losses - plain).abs().max() < 1e-5
    assert found.dtype == dtype and (found - expected).abs().max() <= tolerance * expected.abs().max()
