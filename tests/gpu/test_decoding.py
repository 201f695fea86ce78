"""Decoding on the device: recorded steps give the tokens of transformers' `generate`, and are replayed."""

import copy
from typing import Any

import pytest
import torch

from core.generation import recorded
from core.generation.decoder import DecodingSettings, Request, complete
from core.model.graphs import recorder

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def no_more_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many slots as a test asks for, however much memory is free."""
    monkeypatch.setattr("core.generation.decoder.MOST_SLOTS", 0)


@pytest.mark.parametrize("slots", [3, 12])
def test_recorded_steps_equal_generate(
    slots: int, device: torch.device, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[recorded.RecordedSteps] = []
    call = recorded.RecordedSteps.__call__

    def watch(steps: recorded.RecordedSteps, *arguments: Any) -> torch.Tensor:
        asked.append(steps)
        return call(steps, *arguments)

    record = recorder(device) or (lambda step: step)
    monkeypatch.setattr("core.generation.forward.recorder", lambda _device: record)
    monkeypatch.setattr(recorded.RecordedSteps, "__call__", watch)
    monkeypatch.setattr(recorded, "POSITIONS", 32)
    model = copy.deepcopy(tiny_model).to(device)
    prefix = torch.randn(7, 64, generator=torch.Generator().manual_seed(5)).to(device) * 0.2
    requests = [Request(f"x/{n}", tuple(range(10 + n, 30 + 4 * n))) for n in range(20)]
    settings = DecodingSettings(40, 0.0, 1.0, (), 0, slots)
    done = {c.request.task_id: c.token_ids for c in complete(model, tiny_tokenizer, prefix, requests, settings) if c}
    for request in requests:
        embedded = model.get_input_embeddings()(torch.tensor([request.token_ids], device=device))
        output = model.generate(
            inputs_embeds=torch.cat([prefix[None], embedded], dim=1), do_sample=False, pad_token_id=0,
            attention_mask=torch.ones(1, embedded.shape[1] + 7, dtype=torch.long, device=device), max_new_tokens=40,
        )
        assert [token for token in output[0].tolist() if token] == list(done[request.task_id])
    steps = asked[-1]
    print(f"{len(asked)} steps of {len(steps._replays)} shapes, {len(steps._refused)} shapes refused")
    assert steps._replays and not steps._refused


def test_a_step_that_waits_is_computed_as_ever(device: torch.device) -> None:
    """It is refused before a capture begins, and later ones are recorded as if nothing had been."""
    table = torch.randn(50, 30, device=device)

    def step(ids: torch.Tensor, places: torch.Tensor, end: int) -> torch.Tensor:
        return table[ids] * (2 if end == 256 and int(places.max()) else 1)

    steps = recorded.RecordedSteps(8, 0, device, recorder(device) or (lambda step: step))
    for token in (3, 4):
        assert torch.equal(steps(step, [token], [10], 1000), table[[token]] * 2)
        assert torch.equal(steps(step, [token], [300], 1000), table[[token]])
    assert len(steps._refused) == (device.type == "cuda") and (8, 512) in steps._replays


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (0.9, 1.0), (0.9, 0.8)])
def test_samples_do_not_depend_on_slots(
    temperature: float, top_p: float, device: torch.device, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    model = copy.deepcopy(tiny_model).to(device)
    requests = [Request(f"x/{n}", tuple(range(10 + n, 30 + 4 * n)), sample) for n in range(6) for sample in range(4)]
    found = []
    for slots in (5, 24):
        settings = DecodingSettings(20, temperature, top_p, (), 0, slots)
        found.append({c.request: c.token_ids for c in complete(model, tiny_tokenizer, None, requests, settings) if c})
    same = sum(found[0][request] == found[1][request] for request in requests)
    print(f"{same} of {len(requests)} the same")
    assert same == len(requests)
