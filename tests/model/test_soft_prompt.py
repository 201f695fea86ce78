"""The soft prompt's place in the input, and where it starts from."""

from typing import Any

import pytest
import torch

from core.contract.config import Config
from core.contract.errors import SofttuneError
from core.data.batches import Row, collate, encode_problems
from core.data.humaneval import load_problems
from core.model.soft_prompt import ResidualPrompt, common_token_ids, embed, head_at, initial_rows


def test_vocabulary_rows_are_common_real_tokens(tiny_model: Any, tiny_tokenizer: Any) -> None:
    rows = initial_rows(tiny_model, tiny_tokenizer, 20, from_vocab=True, seed=1)
    table = tiny_model.get_input_embeddings().weight
    ids = [int((table == row).all(dim=1).nonzero()[0]) for row in rows]
    assert len(set(ids)) == 20 and max(ids) < len(tiny_tokenizer) < len(table)
    assert not set(ids) & set(tiny_tokenizer.all_special_ids)
    assert all(tiny_tokenizer.decode([i]).strip() for i in ids)


def test_initial_rows_follow_the_seed(tiny_model: Any, tiny_tokenizer: Any) -> None:
    for from_vocab in (True, False):
        first, again, other = (
            initial_rows(tiny_model, tiny_tokenizer, 5, from_vocab=from_vocab, seed=seed) for seed in (1, 1, 2)
        )
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert first.shape == (5, 64) and first.dtype == torch.float32


def test_a_prompt_longer_than_the_vocabulary_still_starts(tiny_model: Any, tiny_tokenizer: Any) -> None:
    count = len(common_token_ids(tiny_tokenizer))
    assert len(initial_rows(tiny_model, tiny_tokenizer, count + 7, from_vocab=True, seed=1)) == count + 7


def test_a_text_is_repeated_or_cut_to_the_rows_there_are(tiny_model: Any, tiny_tokenizer: Any) -> None:
    ids = tiny_tokenizer("wrap the text")["input_ids"]
    table = tiny_model.get_input_embeddings().weight
    for rows, expected in ((2, ids[:2]), (len(ids), ids), (2 * len(ids) + 1, [*ids, *ids, ids[0]])):
        found = initial_rows(tiny_model, tiny_tokenizer, rows, from_vocab=False, seed=1, text="wrap the text")
        assert torch.equal(found, table[torch.tensor(expected)])


def test_a_text_without_tokens_is_named(tiny_model: Any) -> None:
    def silent(text: str, **more: object) -> dict[str, list[int]]:
        return {"input_ids": []}

    with pytest.raises(SofttuneError, match=r"soft_prompts.init_text: ' ' has no tokens"):
        initial_rows(tiny_model, silent, 2, from_vocab=True, seed=1, text=" ")  # type: ignore[arg-type]


def test_a_residual_prompt_is_its_rows_and_what_the_network_makes_of_them() -> None:
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    prompt = ResidualPrompt(rows, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    down, _, up, norm = prompt.network
    for layer in (norm.weight, norm.bias):
        torch.nn.init.normal_(layer)
    prompt.renew()
    hidden = (rows @ down.weight.T + down.bias).clamp(min=0) @ up.weight.T + up.bias
    normed = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, keepdim=True, unbiased=False) + norm.eps).sqrt()
    assert (prompt.weight - (rows + normed * norm.weight + norm.bias)).abs().max() < 1e-5
    (prompt() ** 3).sum().backward()
    expected = [parameter.grad.clone() for parameter in prompt.trained if parameter.grad is not None]
    prompt.weight.grad = 3 * prompt.weight.detach() ** 2
    prompt.pull_back()
    assert len(expected) == len(prompt.trained) == 7
    assert all(torch.allclose(one.grad, wanted, atol=1e-5)  # type: ignore[arg-type]
               for one, wanted in zip(prompt.trained, expected, strict=True))


def test_the_seed_decides_the_network() -> None:
    first, again, other = (ResidualPrompt(torch.zeros(2, 8), seed).network[0].weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_common_tokens_are_counted_from_the_commonest(tiny_tokenizer: Any) -> None:
    assert common_token_ids(tiny_tokenizer, 30) == common_token_ids(tiny_tokenizer)[:30]


def test_no_padding_stands_between_the_prompt_and_the_text(tiny_model: Any, tiny_tokenizer: Any) -> None:
    embedding = tiny_model.get_input_embeddings()
    examples = encode_problems(tiny_tokenizer, load_problems().problems[:4], Config())
    prompts = torch.randn(2, 7, 64)
    rows = [Row(example, prompt=number % 2) for number, example in enumerate(examples)]
    embedded = embed(embedding, prompts, collate(rows, 0))
    alone = embed(embedding, prompts[:1], collate(rows[:1], 0))
    assert torch.equal(alone[0], embedded[0, : alone.shape[1]])
    for number, (row, example) in enumerate(zip(embedded, examples, strict=True)):
        assert torch.equal(row[:7], prompts[number % 2])
        assert torch.equal(row[7 : 7 + len(example.context)], embedding(torch.tensor(example.context)))


def test_the_head_sees_supervised_positions_only(tiny_model: Any) -> None:
    ids = torch.arange(12).view(2, 6)
    supervised = torch.zeros(2, 6, dtype=torch.bool)
    supervised[0, 2], supervised[1, 4] = True, True
    everything = tiny_model(input_ids=ids).logits
    for where in (supervised, (torch.tensor([0, 1]), torch.tensor([2, 4]))):
        with head_at(tiny_model, where):
            few = tiny_model(input_ids=ids).logits
        assert few.shape == (1, 2, 512)
        assert torch.allclose(few[0], everything[supervised], atol=1e-6)
    assert tiny_model(input_ids=ids).logits.shape == (2, 6, 512)  # and the hook is gone
