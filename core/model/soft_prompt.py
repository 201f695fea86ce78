"""The soft prompt: P[V, H], the only thing that learns (Lester et al. 2021, arXiv 2104.08691)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from core.data.batches import MicroBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COMMON_TOKENS = 5000
"""Initial rows are drawn from this many of the most common tokens (Lester et al. 2021, section 3.1)."""


class SoftPrompt(nn.Module):
    """V virtual tokens of width H, always in float32, whatever the model computes in."""

    def __init__(self, rows: torch.Tensor) -> None:
        """Take initial rows [V, H]; they are copied."""
        super().__init__()
        self.weight = nn.Parameter(rows.detach().clone().to(torch.float32))

    @property
    def num_virtual_tokens(self) -> int:
        """V."""
        return self.weight.shape[0]


def embed(embedding: nn.Module, prompts: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Embedded input [B, L + V + T, H] in the model's type: what stands before P, P, what stands behind it.

    Args:
        prompts: [K, V, H], of which each row of the batch has its own.
    """
    after = embedding(batch.after)
    chosen = prompts.expand(len(after), -1, -1) if len(prompts) == 1 else prompts.index_select(0, batch.prompts)
    parts = [chosen.to(after.dtype), after]
    if batch.before.shape[1]:
        parts.insert(0, embedding(batch.before))
    return torch.cat(parts, dim=1)


def initial_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, num_virtual_tokens: int, *, from_vocab: bool, seed: int
) -> torch.Tensor:
    """Rows [V, H] in float32 to start from: embeddings of common tokens, or noise of the embeddings' spread."""
    generator = torch.Generator().manual_seed(seed)
    embedding = model.get_input_embeddings()  # called, not indexed: some models scale inside it
    device, width = embedding.weight.device, embedding.weight.shape[1]
    if not from_vocab:
        real = torch.arange(min(len(tokenizer), len(embedding.weight)), device=device)
        with torch.no_grad():
            spread = embedding(real).float().std().item()
        return torch.randn(num_virtual_tokens, width, generator=generator) * spread
    ids = torch.tensor(common_token_ids(tokenizer))
    repeats = -(-num_virtual_tokens // len(ids))  # a tiny vocabulary may have fewer tokens than P has rows
    order = torch.cat([torch.randperm(len(ids), generator=generator) for _ in range(repeats)])
    chosen = ids[order[:num_virtual_tokens]]
    with torch.no_grad():
        return embedding(chosen.to(device)).float().cpu()


def common_token_ids(tokenizer: PreTrainedTokenizerBase, count: int = COMMON_TOKENS) -> list[int]:
    """Ids of the `count` most common real tokens: text, not special, not one of the unused rows past the tokenizer.

    Tokenizers number tokens in the order in which they were merged (BPE) or scored (unigram), so low ids are common.
    """
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    common: list[int] = []
    for token_id in sorted(set(tokenizer.get_vocab().values()) - special):
        text = tokenizer.decode([token_id])
        if text.strip() and "\ufffd" not in text:  # half a character is no word to start from
            common.append(token_id)
        if len(common) == count:
            break
    return common


@contextlib.contextmanager
def head_at(model: PreTrainedModel, where: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> Iterator[None]:
    """Within the block the output head sees only some of the positions [B, T]: its input is [1, N, H].

    A hook on the head, not a call of it, so that whatever a model does to its logits afterwards is still done.

    Args:
        where: true there, of shape [B, T], or the rows [N] and their positions [N].
    """
    head = model.get_output_embeddings()

    def gather(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][where].unsqueeze(0), *inputs[1:])

    handle = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()
