"""The soft prompt: P[V, H], the only thing that learns (Lester et al. 2021, arXiv 2104.08691).

Its rows may be trained through a small network that is gone when training is (`ResidualPrompt`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from core.contract.errors import SofttuneError
from core.contract.plan import BOTTLENECK
from core.data.batches import MicroBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

COMMON_TOKENS = 5000
"""Initial rows are drawn from this many of the most common tokens (Lester et al. 2021, section 3.1)."""


class SoftPrompt(nn.Module):
    """V virtual tokens of width H, always in float32, whatever the model computes in.

    `weight` [V, H] is what passes take, what they leave the gradient at, and what checkpoints hold.
    """

    def __init__(self, rows: torch.Tensor) -> None:
        """Take initial rows [V, H]; they are copied."""
        super().__init__()
        self.weight = nn.Parameter(rows.detach().clone().to(torch.float32))

    @property
    def num_virtual_tokens(self) -> int:
        """V."""
        return self.weight.shape[0]

    @property
    def trained(self) -> list[nn.Parameter]:
        """What an optimizer changes."""
        return [self.weight]

    def pull_back(self) -> None:
        """Bring the gradient of `weight` to what is trained."""

    def renew(self) -> None:
        """Work `weight` out again from what is trained."""

    def beside_weight(self) -> dict[str, Any]:
        """What training needs besides `weight` to go on; tensors by name."""
        return {}

    def take_beside_weight(self, state: dict[str, Any]) -> None:
        """Go on with what `beside_weight` returned; raises KeyError or RuntimeError where it is not that."""


class ResidualPrompt(SoftPrompt):
    """Rows P and one network for all of them, trained together: `weight` is P + network(P).

    Residual prompt tuning (Razdaibiedina et al. 2023, arXiv 2305.03937, section 3): projection down, ReLU, projection
    up, layer normalisation. One thing differs: the normalisation's gain begins at zero rather than one, so that
    `weight` begins as the rows themselves and not as noise of spread 1, which is several times the embeddings' own
    (SmolLM2-135M: 0.14). Six steps of AdamW on 24 problems with it took the held-out loss from 1.393 to 1.149, and
    from 1.417 to 1.259 where the gain began at one. Adafactor, whose steps are a share of what they change, is slow to
    open it.

    Args:
        rows: initial P [V, H]; they are copied.
        seed: decides the network's initial weights.
    """

    def __init__(self, rows: torch.Tensor, seed: int) -> None:
        super().__init__(rows)
        self.rows = nn.Parameter(self.weight.detach().clone())
        width = rows.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Linear(width, BOTTLENECK), nn.ReLU(), nn.Linear(BOTTLENECK, width), nn.LayerNorm(width)
            )
        nn.init.zeros_(self.network[-1].weight)  # type: ignore[arg-type]

    def forward(self) -> torch.Tensor:
        """P + network(P) [V, H]."""
        return self.rows + self.network(self.rows)  # type: ignore[no-any-return]

    @property
    def trained(self) -> list[nn.Parameter]:
        """P and the network."""
        return [self.rows, *self.network.parameters()]

    def pull_back(self) -> None:
        """One backward pass through the network, from the gradient of `weight`."""
        for parameter in self.trained:
            parameter.grad = None
        torch.autograd.backward(self(), self.weight.grad)

    @torch.no_grad()
    def renew(self) -> None:
        """Work `weight` out again from P and the network."""
        self.weight.copy_(self())

    def beside_weight(self) -> dict[str, Any]:
        """P and the network."""
        return {name: tensor for name, tensor in self.state_dict().items() if name != "weight"}

    def take_beside_weight(self, state: dict[str, Any]) -> None:
        """Raises RuntimeError where it is not that."""
        self.load_state_dict({**state, "weight": self.weight})


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
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, num_virtual_tokens: int, *, from_vocab: bool, seed: int,
    text: str | None = None,
) -> torch.Tensor:
    """Rows [V, H] in float32 to start from: embeddings of common tokens, or noise of the embeddings' spread.

    Args:
        text: take the embeddings of its tokens instead, again and again until there are V.

    Raises:
        SofttuneError: the tokenizer makes no token of `text`.
    """
    generator = torch.Generator().manual_seed(seed)
    embedding = model.get_input_embeddings()  # called, not indexed: some models scale inside it
    device, width = embedding.weight.device, embedding.weight.shape[1]
    if text is None and not from_vocab:
        real = torch.arange(min(len(tokenizer), len(embedding.weight)), device=device)
        with torch.no_grad():
            spread = embedding(real).float().std().item()
        return torch.randn(num_virtual_tokens, width, generator=generator) * spread
    if text is None:
        ids = torch.tensor(common_token_ids(tokenizer))
        repeats = -(-num_virtual_tokens // len(ids))  # a tiny vocabulary may have fewer tokens than P has rows
        order = torch.cat([torch.randperm(len(ids), generator=generator) for _ in range(repeats)])
        chosen = ids[order[:num_virtual_tokens]]
    else:
        ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
        if not len(ids):
            raise SofttuneError(f"soft_prompts.init_text: {text!r} has no tokens", "give it words, or null")
        chosen = ids[torch.arange(num_virtual_tokens) % len(ids)]
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
