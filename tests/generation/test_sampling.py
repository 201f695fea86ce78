"""Sampling: the distribution is that of transformers' warpers, and each request has a stream of its own."""

from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from core.generation.sampling import CANDIDATES, draw, likely_nucleus, next_tokens, nucleus, request_generator


def some_logits() -> torch.Tensor:
    """Logits [9, 301]: flat and peaked rows, ties, one token that takes it all."""
    logits = torch.randn(9, 301, generator=torch.Generator().manual_seed(2)) * 3
    logits[1, :40] = 2.5
    logits[2, 7] = 60.0
    logits[3] /= 50
    logits[4] *= 4
    return logits


def warped(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Probabilities [B, V] by transformers."""
    ids = torch.zeros(len(logits), 1, dtype=torch.long)
    scores = TemperatureLogitsWarper(temperature)(ids, logits)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(ids, scores)
    return scores.softmax(dim=-1)


def in_vocabulary_order(probabilities: torch.Tensor, ids: torch.Tensor, size: int = 301) -> torch.Tensor:
    return torch.zeros(len(ids), size).scatter(1, ids, probabilities)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1.7])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.95])
def test_a_nucleus_is_that_of_transformers(temperature: float, top_p: float) -> None:
    logits = some_logits()
    expected = warped(logits, temperature, top_p)
    found = in_vocabulary_order(*nucleus(logits / temperature, top_p))
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1.7])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.95])
def test_a_nucleus_among_few_candidates_is_the_same_or_not_sure(temperature: float, top_p: float) -> None:
    logits = some_logits()
    expected = warped(logits, temperature, top_p)
    probabilities, ids, sure = likely_nucleus(logits / temperature, top_p, 32)
    found = in_vocabulary_order(probabilities, ids)
    assert torch.equal(found[sure] > 0, expected[sure] > 0)
    torch.testing.assert_close(found[sure] / found[sure].sum(-1, keepdim=True), expected[sure])
    small = (expected > 0).sum(-1) < 32
    assert [index for index in range(9) if sure[index] != small[index]] in ([], [1])  # the row of ties


def test_ties_and_close_calls_are_not_sure() -> None:
    scores = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.1, 0.2], [0.4, 0.2, 0.2, 0.2]]).log()
    assert likely_nucleus(scores, 0.69, 4)[2].tolist() == [True, True, False]
    assert likely_nucleus(scores, 0.7, 4)[2].tolist() == [False, False, False]
    assert likely_nucleus(scores, 0.69, 2)[2].tolist() == [False, False, False]  # nothing is known of the third token
    assert likely_nucleus(scores, 0.39, 2)[2].tolist() == [True, True, True]


@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_samples_follow_the_probabilities(top_p: float) -> None:
    """By the candidates, more candidates and the whole vocabulary, whichever a row needs."""
    count, size = 6000, 3000
    base = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    base *= torch.tensor([[8.0], [3.0], [0.1]])
    expected = warped(base, 1.5, top_p)
    if top_p < 1:
        needed = (expected > 0).sum(-1).tolist()
        assert needed[0] < CANDIDATES[0] < needed[1] < CANDIDATES[1] < needed[2]
    for row in range(3):
        generators = [request_generator(0, "T/1", row)] * count
        drawn = torch.cat([
            next_tokens(base[row].expand(1000, -1), 1.5, top_p, generators[part : part + 1000])
            for part in range(0, count, 1000)
        ])
        shares = torch.bincount(drawn, minlength=size) / count
        assert not shares[expected[row] == 0].any()
        order = expected[row].argsort(descending=True)
        parts = [order[:1], order[1:5], order[5:50], order[50:500], order[500:]]
        for part in parts:
            assert abs(shares[part].sum() - expected[row][part].sum()) < 0.026  # four standard errors


def test_a_draw_is_never_of_probability_zero() -> None:
    probabilities = torch.zeros(4, 400)
    probabilities[:, [3, 127, 128, 399]] = torch.tensor([0.25, 0.25, 0.25, 0.25])
    edges = [0.0, 0.24999, 0.25, 0.49999, 0.5, 0.74999, 0.75, 1 - 2**-53]
    drawn = [draw(probabilities[:1], torch.tensor([[edge]], dtype=torch.float64)).item() for edge in edges]
    assert drawn == [3, 3, 127, 127, 128, 128, 399, 399]


def test_zero_temperature_takes_the_first_of_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0], [1.0, 0.0, -1.0]])
    assert next_tokens(logits, 0.0, 0.1, []).tolist() == [1, 0]


def test_streams_are_told_apart_by_seed_task_and_sample() -> None:
    streams = [(0, "T/1", 0), (1, "T/1", 0), (0, "T/2", 0), (0, "T/1", 1)]
    first = [torch.rand(4, generator=request_generator(*stream)).tolist() for stream in streams]
    assert len({tuple(numbers) for numbers in first}) == 4
    assert torch.rand(4, generator=request_generator(0, "T/1", 0)).tolist() == first[0]
