"""Token sequences of problems, and the micro-batches that one optimizer step is cut into.

A sequence is [before] P [context] [solution] [EOS]; the rows of P are the model's business (`core.model.soft_prompt`),
what stands around it and the problem is `prompts.py`'s. Prompt and solution are tokenized apart, because at inference
the prompt stands alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from core.contract.config import Config
from core.data.humaneval import Problem
from core.data.prompts import encode_context, encode_more

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

@dataclass(frozen=True)
class Example:
    """One problem in tokens: what stands before P, what stands after it unsupervised, and what is learned."""

    task_id: str
    before: tuple[int, ...]
    context: tuple[int, ...]
    target: tuple[int, ...]
    cut: int = 0
    """Tokens that `dataset.max_length` took from the end of `target`."""

    @property
    def tokens(self) -> int:
        """Length without the soft prompt."""
        return len(self.before) + len(self.context) + len(self.target)


@dataclass(frozen=True)
class Row:
    """One sequence of a pass: which of the pass's soft prompts it stands behind, and what its tokens weigh."""

    example: Example
    prompt: int = 0
    weight: float = 1.0
    """Factor of its supervised tokens' loss in that prompt's loss."""


@dataclass(frozen=True)
class MicroBatch:
    """B rows of one forward pass, padded on the right, with N supervised tokens among them.

    Padding is at the end of `after` alone, so that under a causal mask no real position sees it.
    """

    before: torch.Tensor
    """[B, L]: tokens before P."""
    after: torch.Tensor
    """[B, T]: tokens behind P."""
    rows: torch.Tensor
    """[N]: the row of each supervised token."""
    places: torch.Tensor
    """[N]: the place in `after` of the token before it, whose output predicts it."""
    targets: torch.Tensor
    """[N]: the supervised tokens themselves."""
    weights: torch.Tensor
    """[N]: the factors of their losses."""
    prompts: torch.Tensor
    """[B]: which soft prompt each row stands behind."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same rows on another device, without waiting for it."""
        return MicroBatch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def encode_problems(tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], config: Config) -> list[Example]:
    """Tokenize problems once for a whole run.

    A sequence over `dataset.max_length` (virtual tokens included) loses the end of its solution, and says so in
    `Example.cut`; one whose prompt alone is that long has an empty `target`, and nothing to learn.

    Raises:
        ModelError: the tokenizer has no tokens for `inference.prompt_style`.
    """
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    examples = []
    for problem in problems:
        before, context = encode_context(tokenizer, problem.prompt, config.inference)
        target = encode_more(tokenizer, problem.canonical_solution) + end
        room = config.dataset.max_length - config.soft_prompts.num_virtual_tokens - len(before) - len(context)
        kept = target[: max(room, 0)]
        examples.append(Example(problem.task_id, tuple(before), tuple(context), tuple(kept), len(target) - len(kept)))
    return examples


def collate(rows: Sequence[Row], pad: int) -> MicroBatch:
    """Stack rows into one micro-batch; `pad` is any token id."""
    examples = [row.example for row in rows]
    sequences = [[*example.context, *example.target] for example in examples]
    width = max(map(len, sequences))
    counts = torch.tensor([len(example.target) for example in examples])
    # The token before each supervised one predicts it. With an empty context that would be P's last row, which `after`
    # does not hold; problems always have a prompt.
    places = [range(len(example.context) - 1, len(example.context) - 1 + len(example.target)) for example in examples]
    return MicroBatch(
        before=torch.tensor([example.before for example in examples], dtype=torch.long),
        after=torch.tensor([sequence + [pad] * (width - len(sequence)) for sequence in sequences]),
        rows=torch.arange(len(rows)).repeat_interleave(counts),
        places=torch.tensor([place for row in places for place in row]),
        targets=torch.tensor([token for example in examples for token in example.target]),
        weights=torch.tensor([row.weight for row in rows]).repeat_interleave(counts),
        prompts=torch.tensor([row.prompt for row in rows]),
    )


def rows_of(examples: Sequence[Example], prompt: int = 0, scale: float = 1.0) -> list[Row]:
    """Rows whose weighted losses add up to `scale` times the mean over all supervised tokens of `examples`."""
    weight = scale / supervised_tokens(examples)
    return [Row(example, prompt, weight) for example in examples]


def supervised_tokens(examples: Iterable[Example]) -> int:
    """Number of tokens that count in the loss."""
    return sum(len(example.target) for example in examples)


def epoch_order(examples: Sequence[Example], epoch: int, seed: int) -> list[Example]:
    """The examples in the order of one epoch; depends on `seed` and `epoch` alone, so that a resumed run repeats it."""
    order = list(examples)
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order


def effective_batches(order: Sequence[Example], effective_batch: int) -> Iterator[Sequence[Example]]:
    """Cut an epoch into the examples of each optimizer step; the last one may be smaller."""
    for start in range(0, len(order), effective_batch):
        yield order[start : start + effective_batch]


def by_length(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order that wastes least on padding when it is cut into batches; the same for the same rows."""
    return sorted(rows, key=lambda row: (row.example.tokens, row.example.task_id, row.prompt))


def pad_token(tokenizer: Any) -> int:
    """A token id to fill rows with; what it is does not matter, since nothing attends to it."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0
