"""Completions equal those of transformers' `generate`, whatever else is decoded beside them."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from core.contract.errors import DataError, ModelError, OutOfMemory
from core.contract.events import Notice
from core.generation.decoder import Completion, Request, complete
from core.generation.forward import Forward

from .conftest import settings


def finished(*arguments: Any) -> dict[str, Completion]:
    """Completions by task id (and sample, where there is more than one)."""
    found = [completion for completion in complete(*arguments) if completion is not None]
    keys = [f"{c.request.task_id}#{c.request.sample}" if c.request.sample else c.request.task_id for c in found]
    assert max(Counter(keys).values(), default=1) == 1
    return dict(zip(keys, found, strict=True))


@pytest.mark.parametrize("slots", [1, 3, 16])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_greedy_equals_generate(
    any_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    reference: Callable[..., list[int]], with_prefix: bool, slots: int,
) -> None:
    prefix = soft_rows if with_prefix else None
    done = finished(any_model, tiny_tokenizer, prefix, prompts, settings(slots=slots))
    assert len(done) == len(prompts)
    for request in prompts:
        expected = reference(any_model, prefix, request.token_ids, 12)
        completion = done[request.task_id]
        if expected[-1] == 0:  # end of text
            assert completion.finish_reason == "eos"
            expected = expected[: expected.index(0)]
        else:
            assert completion.finish_reason == "length"
        assert list(completion.token_ids) == expected


def test_greedy_equals_generate_on_two_threads(
    two_threads: None, any_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    reference: Callable[..., list[int]],
) -> None:
    """Where oneDNN and the BLAS share a product out to the cores."""
    done = finished(any_model, tiny_tokenizer, soft_rows, prompts[:8], settings(slots=8, max_new_tokens=6))
    for request in prompts[:8]:
        expected = reference(any_model, soft_rows, request.token_ids, 6)
        assert [token for token in expected if token] == list(done[request.task_id].token_ids)


@pytest.mark.parametrize("max_new_tokens", [1, 2, 40])
def test_length_limit(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    reference: Callable[..., list[int]], max_new_tokens: int,
) -> None:
    done = finished(tiny_model, tiny_tokenizer, soft_rows, prompts[:6], settings(max_new_tokens=max_new_tokens))
    for request in prompts[:6]:
        expected = reference(tiny_model, soft_rows, request.token_ids, max_new_tokens)
        assert [token for token in expected if token] == list(done[request.task_id].token_ids)


def test_the_cache_grows_past_its_first_room(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    reference: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.generation.slots.FIRST_ROOM", 2)
    done = finished(tiny_model, tiny_tokenizer, soft_rows, prompts[:5], settings(max_new_tokens=60))
    for request in prompts[:5]:
        expected = reference(tiny_model, soft_rows, request.token_ids, 60)
        assert [token for token in expected if token] == list(done[request.task_id].token_ids)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "top_p": 0.9}])
def test_results_do_not_depend_on_slots_order_or_company(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor, sampling: dict[str, float]
) -> None:
    requests = [replace(request, sample=sample) for request in prompts for sample in (0, 1)]
    asked = settings(stop_sequences=("e", "\n"), **sampling)
    first = finished(tiny_model, tiny_tokenizer, soft_rows, requests, asked)
    shuffled = random.Random(3).sample(requests, len(requests))
    again = finished(tiny_model, tiny_tokenizer, soft_rows, shuffled, replace(asked, slots=16))
    alone = finished(tiny_model, tiny_tokenizer, soft_rows, requests[9:10], replace(asked, slots=1))
    for found in (again, alone):
        for key, completion in found.items():
            assert completion.token_ids == first[key].token_ids
            assert completion.text == first[key].text
    if sampling:
        differ = [first[r.task_id].token_ids != first[f"{r.task_id}#1"].token_ids for r in prompts]
        assert sum(differ) > len(prompts) // 2
        other = finished(tiny_model, tiny_tokenizer, soft_rows, requests, replace(asked, seed=1))
        assert any(other[key].token_ids != first[key].token_ids for key in first)


@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("slots", [1, 4, 9])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "top_p": 0.9}])
def test_samples_of_one_prompt_share_its_forward_pass(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor, sampling: dict[str, float],
    slots: int, written_out: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = [replace(request, sample=sample) for request in prompts[:4] for sample in range(5)]
    requests.append(Request("twin", prompts[2].token_ids))  # another problem with the same prompt
    encoded: list[int] = []
    prefill = Forward.prefill

    def counted(forward: Forward, first_row: int, asked: Any) -> torch.Tensor:
        encoded.append(len(asked))
        assert (forward._end_to_end is not None) == (written_out and slots > 1)
        return prefill(forward, first_row, asked)

    with monkeypatch.context() as patch:
        patch.setattr(Forward, "prefill", counted)
        if not written_out:
            patch.setattr("core.generation.forward.can_be_laid_out", lambda _model: False)
        done = finished(tiny_model, tiny_tokenizer, soft_rows, requests, settings(slots=slots, **sampling))
    assert len(done) == len(requests)
    if slots > 1:  # in a single slot nobody is left to copy from
        assert sum(encoded) == 4
    for request in (requests[7], requests[12], requests[-1]):
        key = f"{request.task_id}#{request.sample}" if request.sample else request.task_id
        alone = finished(tiny_model, tiny_tokenizer, soft_rows, [request], settings(**sampling))[key]
        assert done[key].token_ids == alone.token_ids


@pytest.mark.parametrize("tile", [1, 2, 3])
@pytest.mark.parametrize("name", ["tiny_model", "llama", "gpt2"])
def test_rows_of_a_tile_have_similar_lengths(
    request: pytest.FixtureRequest, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch, name: str, tile: int,
) -> None:
    """However rows come and go, none is longer than the shortest of the tile before; and no token differs."""
    model = request.getfixturevalue(name)
    stops = ("e", "\n")
    expected = finished(model, tiny_tokenizer, soft_rows, prompts, settings(slots=1, stop_sequences=stops))
    monkeypatch.setattr("core.generation.tiles.TILE", tile)
    seen = []
    decode = Forward.decode

    def watch(forward: Forward, tokens: list[int], positions: list[int]) -> torch.Tensor:
        seen.append([positions[first : first + tile] for first in range(0, len(positions), tile)])
        return decode(forward, tokens, positions)

    monkeypatch.setattr(Forward, "decode", watch)
    done = finished(model, tiny_tokenizer, soft_rows, prompts, settings(slots=8, stop_sequences=stops))
    assert [done[key].token_ids for key in expected] == [expected[key].token_ids for key in expected]
    assert max(map(len, seen)) > 2
    assert all(min(one) >= max(two) for tiles in seen for one, two in itertools.pairwise(tiles))


@pytest.mark.parametrize("stops", [("e",), ("an", "s\n"), ("ret", " "), ("never in there",)])
def test_stop_sequences_equal_generate(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    reference: Callable[..., list[int]], stops: Sequence[str],
) -> None:
    done = finished(tiny_model, tiny_tokenizer, soft_rows, prompts, settings(stop_sequences=tuple(stops)))
    for request in prompts:
        completion = done[request.task_id]
        tokens = reference(
            tiny_model, soft_rows, request.token_ids, 12, stop_strings=list(stops), tokenizer=tiny_tokenizer
        )
        assert list(completion.token_ids) == [token for token in tokens if token]
        full = tiny_tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cut = min([full.find(stop) for stop in stops if stop in full], default=len(full))
        assert completion.text == full[:cut]
        assert (completion.finish_reason == "stop") == (cut < len(full))


def test_end_of_text_from_the_generation_config(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = finished(tiny_model, tiny_tokenizer, None, prompts[:4], settings())
    third = {task_id: completion.token_ids[2] for task_id, completion in plain.items()}
    monkeypatch.setattr(tiny_model.generation_config, "eos_token_id", [511, *third.values()])
    ended = finished(tiny_model, tiny_tokenizer, None, prompts[:4], settings())
    for task_id, completion in ended.items():
        assert completion.finish_reason == "eos"
        assert completion.token_ids == plain[task_id].token_ids[: len(completion.token_ids)]
        assert len(completion.token_ids) <= 2


def test_an_empty_prompt_starts_from_the_prefix(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor,
    reference: Callable[..., list[int]],
) -> None:
    empty = [Request("empty/0", ()), Request("empty/1", ()), *prompts[:3]]
    done = finished(tiny_model, tiny_tokenizer, soft_rows, empty, settings())
    expected = reference(tiny_model, soft_rows, (), 12)
    assert [token for token in expected if token] == list(done["empty/0"].token_ids) == list(done["empty/1"].token_ids)
    with pytest.raises(DataError, match="empty/0"):
        list(complete(tiny_model, tiny_tokenizer, None, empty, settings()))


def test_nothing_to_do(tiny_model: Any, tiny_tokenizer: Any) -> None:
    assert list(complete(tiny_model, tiny_tokenizer, None, [], settings())) == []


def test_positions_bound_the_length(gpt2: Any, tiny_tokenizer: Any, soft_rows: torch.Tensor) -> None:
    long = Request("long", (5,) * 500)
    done = finished(gpt2, tiny_tokenizer, soft_rows, [long], settings(max_new_tokens=100))["long"]
    assert done.finish_reason in ("length", "eos")
    assert len(done.token_ids) <= 512 - 507 + 1
    with pytest.raises(DataError, match="too: 517 tokens"):
        list(complete(gpt2, tiny_tokenizer, soft_rows, [Request("too", (5,) * 510)], settings()))


def test_windowed_layers_are_refused_only_where_they_matter(gemma2: Any, tiny_tokenizer: Any) -> None:
    request = Request("T/0", (5,) * 10)
    with pytest.raises(ModelError, match="1024"):
        list(complete(gemma2, tiny_tokenizer, None, [request], settings(max_new_tokens=1015)))


def test_other_caches_are_refused(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_model.config, "layer_types", ["linear_attention", "full_attention"])
    with pytest.raises(ModelError, match="linear_attention"):
        list(complete(tiny_model, tiny_tokenizer, None, prompts, settings()))


def test_without_memory_what_is_left_goes_on_in_fewer_slots(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor, short_of_memory: list[int],
) -> None:
    expected = finished(tiny_model, tiny_tokenizer, soft_rows, prompts, settings(slots=8))
    short_of_memory.append(3)
    found = list(complete(tiny_model, tiny_tokenizer, soft_rows, prompts, settings(slots=8)))
    told = [event.what for event in found if isinstance(event, Notice)]
    assert told == ["out of memory with 8 completions at a time: 4 from now on",
                    "out of memory with 4 completions at a time: 2 from now on"]
    done = [event for event in found if isinstance(event, Completion)]
    assert len(done) == len(prompts)
    assert {c.request.task_id: c.token_ids for c in done} == {name: c.token_ids for name, c in expected.items()}


def test_a_completion_that_does_not_fit_alone_is_an_error_with_figures(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor, short_of_memory: list[int],
) -> None:
    short_of_memory.append(0)
    with pytest.raises(OutOfMemory, match=r"up to \d+ tokens: its keys and values take .* are free") as caught:
        list(complete(tiny_model, tiny_tokenizer, soft_rows, prompts, settings(slots=4)))
    assert "inference.max_new_tokens" in caught.value.remedy


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Once a number is in it, a decoding step with more rows than that finds no memory."""
    most: list[int] = []
    decode = Forward.decode

    def limited(self: Forward, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        if most and len(tokens) > most[0]:
            raise torch.OutOfMemoryError("no room")
        return decode(self, tokens, positions)

    monkeypatch.setattr(Forward, "decode", limited)
    return most
