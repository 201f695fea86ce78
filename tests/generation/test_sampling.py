"""Sampling: the distribution is that of transformers' warpers, and each request has a stream of its own."""

from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from core.generation.sampling import draw, next_tokens, nucleus, request_generator


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1.7])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.95, 1.0])
def test_probabilities_equal_those_of_transformers(temperature: float, top_p: float) -> None:
    logits = torch.randn(9, 301, generator=torch.Generator().manual_seed(2)) * 3
    logits[1, :40] = 2.5  # ties
    logits[2, 7] = 60.0  # one token takes it all
    ids = torch.zeros(9, 1, dtype=torch.long)
    scores = TemperatureLogitsWarper(temperature)(ids, logits)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(ids, scores)
    assert torch.equal(nucleus(logits, temperature, top_p), scores.softmax(dim=-1))


def test_draws_follow_the_probabilities() -> None:
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.2, 0.3, 0.0]])
    generator = request_generator(0, "T/1", 0)
    count = 20_000
    drawn = draw(probabilities.expand(count, -1), [generator] * count)
    shares = torch.bincount(drawn, minlength=6) / count
    assert torch.equal(shares == 0, probabilities[0] == 0)
    assert torch.allclose(shares, probabilities[0], atol=0.015)  # four standard errors


def test_zero_temperature_takes_the_first_of_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0], [1.0, 0.0, -1.0]])
    assert next_tokens(logits, 0.0, 0.1, []).tolist() == [1, 0]


def test_streams_are_told_apart_by_seed_task_and_sample() -> None:
    streams = [(0, "T/1", 0), (1, "T/1", 0), (0, "T/2", 0), (0, "T/1", 1)]
    first = [torch.rand(4, generator=request_generator(*stream)).tolist() for stream in streams]
    assert len({tuple(numbers) for numbers in first}) == 4
    assert torch.rand(4, generator=request_generator(0, "T/1", 0)).tolist() == first[0]
