"""Steps of few shapes, recorded, give the tokens that steps of the exact shape give, or are not used.

Recording is stood in for here, by what a recorder could do wrong among others. What CUDA does is tested in tests/gpu.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from core.generation.decoder import Request, complete
from core.generation.forward import Forward
from core.generation.recorded import RecordedSteps, Replay, agree
from core.model.llama import LlamaModel

from .conftest import settings

CPU = torch.device("cpu")


def rerun(step: Replay) -> Replay:
    """Runs the step while it records, as CUDA's recorder does, and at each replay."""
    step()
    step()
    return step


def wrong(step: Replay) -> Replay:
    """Its recording gives the logits of something else."""
    return lambda: step().flip(-1)


def broken(step: Replay) -> Replay:
    """Its recording gives no numbers."""
    return lambda: torch.full_like(step(), torch.nan)


def unable(step: Replay) -> Replay:
    """It fails half-way through."""
    step()
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(("record", "slots"), [(rerun, 3), (rerun, 16), (wrong, 3), (unable, 3)])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_greedy_equals_generate(
    any_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    reference: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch, with_prefix: bool, slots: int,
    record: Callable[[Replay], Replay],
) -> None:
    monkeypatch.setattr("core.generation.forward.recorder", lambda _device: record)
    monkeypatch.setattr("core.generation.recorded.ROWS", (2, 5, 9))
    monkeypatch.setattr("core.generation.recorded.POSITIONS", 16)
    monkeypatch.setattr("core.generation.slots.FIRST_ROOM", 2)  # the cache grows on the way
    prefix = soft_rows if with_prefix else None
    asked = settings(slots=slots, max_new_tokens=20)
    done = {c.request.task_id: c for c in complete(any_model, tiny_tokenizer, prefix, prompts, asked) if c}
    for request in prompts[::4]:
        expected = reference(any_model, prefix, request.token_ids, 20)
        assert [token for token in expected if token] == list(done[request.task_id].token_ids)


def test_a_step_can_be_repeated(any_model: Any, prompts: list[Request], soft_rows: torch.Tensor) -> None:
    forward = Forward(any_model, 5, 100)
    forward.encode_prefix(soft_rows)
    forward.prefill(0, [request.token_ids for request in prompts[:3]])
    tokens, positions = [5, 6, 7], [7 + len(request.token_ids) for request in prompts[:3]]
    first = forward.decode(tokens, positions)
    kept = [buffer.clone() for layer in range(2) for buffer in forward.cache._buffers[layer]]
    for _ in range(2):
        assert torch.equal(forward.decode(tokens, positions), first)
    now = [buffer for layer in range(2) for buffer in forward.cache._buffers[layer]]
    assert all(map(torch.equal, now, kept))


def test_shapes_are_few_and_their_inputs_stay_where_they_are() -> None:
    seen: list[tuple[list[int], list[int], int]] = []
    buffers = set()

    def step(ids: torch.Tensor, places: torch.Tensor, end: int) -> torch.Tensor:
        seen.append((ids.tolist(), places.tolist(), end))
        buffers.add((ids.data_ptr(), places.data_ptr()))
        return ids[:, None].float()

    steps = partial(RecordedSteps(20, 7, CPU, lambda step: step), step)
    assert steps([3, 4], [30, 255], 1000).flatten().tolist() == [3, 4]
    assert steps([5], [256], 1000).flatten().tolist() == [5]
    assert steps([1] * 9, [600] * 9, 700).flatten().tolist() == [1] * 9
    first, second, third = (shape for index, shape in enumerate(seen) if shape not in seen[:index])
    assert first == ([3, 4, 0, 0, 0, 0, 0, 0], [30, 255, 7, 7, 7, 7, 7, 7], 256)
    assert second == ([5, 0, 0, 0, 0, 0, 0, 0], [256, 7, 7, 7, 7, 7, 7, 7], 512)
    assert third == ([1] * 9 + [0] * 11, [600] * 9 + [7] * 11, 700)
    assert len(buffers) == 1


def test_a_good_recording_is_made_once_and_replayed() -> None:
    asked: list[Replay] = []
    replays: list[int] = []

    def record(step: Replay) -> Replay:
        asked.append(step)
        return lambda: (replays.append(1), step())[1]

    steps = partial(RecordedSteps(8, 0, CPU, record), lambda ids, _places, _end: ids[:, None].float())
    for token in range(1, 5):
        assert steps([token], [token], 100).tolist() == [[token]]
    assert len(asked) == 1 and len(replays) == 1 + 4  # one to see that it is good
    steps([1], [1], 200)  # the cache is another
    assert len(asked) == 2


@pytest.mark.parametrize("bad", [wrong, broken, unable])
def test_a_bad_recording_is_refused_for_good(bad: Callable[[Replay], Replay]) -> None:
    asked: list[Replay] = []

    def record(step: Replay) -> Replay:
        asked.append(step)
        return bad(step) if len(asked) == 1 else step

    def step(ids: torch.Tensor, _places: torch.Tensor, _end: int) -> torch.Tensor:
        return ids[:, None] * torch.tensor([1.0, 2.0, 3.0])

    steps = partial(RecordedSteps(8, 0, CPU, record), step)
    for capacity in (300, 400):  # where the cache is another, that shape is tried no more
        assert steps([2], [5], capacity).tolist() == [[2, 4, 6]]
    assert len(asked) == 1
    assert steps([3], [260], 600).tolist() == [[3, 6, 9]]  # another shape
    assert len(asked) == 2


def test_other_errors_are_not_hidden() -> None:
    def mistaken(_step: Replay) -> Replay:
        raise TypeError("a mistake in the recorder")

    steps = partial(RecordedSteps(8, 0, CPU, mistaken), lambda ids, _places, _end: ids[:, None].float())
    with pytest.raises(TypeError):
        steps([1], [1], 100)


@pytest.mark.parametrize(("dtype", "near", "far"), [
    (torch.float32, 1e-3, 1e-1), (torch.bfloat16, 0.5, 4.0), (torch.float16, 0.2, 2.0),
])
def test_agreement_is_as_close_as_the_type_allows(dtype: torch.dtype, near: float, far: float) -> None:
    logits = torch.tensor([[-20.0, 3.0, 7.5], [0.0, 1.0, 2.0]], dtype=dtype)
    assert agree(logits, logits) and agree(logits + near, logits) and not agree(logits - far, logits)
    for bad in (torch.nan, torch.inf):
        odd = logits.clone()
        odd[1, 1] = bad
        assert not agree(odd, logits) and not agree(logits, odd) and not agree(odd, odd)


def test_a_step_written_out_has_the_logits_of_the_model(
    tiny_model: Any, prompts: list[Request], soft_rows: torch.Tensor
) -> None:
    forward = Forward(tiny_model, 5, 100)
    forward._llama = LlamaModel(tiny_model)
    forward.encode_prefix(soft_rows)
    forward.prefill(0, [request.token_ids for request in prompts[:3]])
    ids = torch.tensor([5, 6, 7])
    places = torch.tensor([7 + len(request.token_ids) for request in prompts[:3]])
    with torch.inference_mode():
        expected = forward._step(ids, places, 60, places.tolist())
        assert (forward._written_out(ids, places, 60) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("right", [True, False])
def test_a_faster_step_is_recorded_where_it_gives_the_logits_of_the_step(right: bool) -> None:
    table = torch.randn(10, 10, generator=torch.Generator().manual_seed(0))
    asked: list[str] = []

    def step(ids: torch.Tensor, places: torch.Tensor, end: int) -> torch.Tensor:
        asked.append("step")
        return table[ids]

    def faster(ids: torch.Tensor, places: torch.Tensor, end: int) -> torch.Tensor:
        asked.append("faster")
        return table[ids] if right else table[ids] + 1

    steps = RecordedSteps(8, 0, CPU, lambda step: step)
    for token in (3, 4):
        assert torch.equal(steps(step, [token], [10], 1000, faster), table[[token]])
    assert asked[-1] == ("faster" if right else "step")
    assert steps._replays and not steps._refused, "what is not faster is recorded all the same"


def test_a_cache_is_gone_with_its_last_user(
    tiny_model: Any, soft_rows: torch.Tensor, prompts: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, not when cycles are looked for: what began again without memory needs it."""
    monkeypatch.setattr("core.generation.forward.recorder", lambda _device: lambda step: lambda: step().clone())
    monkeypatch.setattr(RecordedSteps, "_recording", lambda _steps, _way, _own: None)
    forward = Forward(tiny_model, 2, 100)
    forward.encode_prefix(soft_rows)
    forward.prefill(0, [prompts[0].token_ids])
    forward.decode([5], [7 + len(prompts[0].token_ids)])
    cache = weakref.ref(forward.cache)
    gc.disable()
    try:
        del forward
        assert cache() is None
    finally:
        gc.enable()
