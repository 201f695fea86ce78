"""Token sequences of problems, and the micro-batches that one optimizer step is cut into.

A sequence is [text prompt, before] P [text prompt, after] [problem prompt] [solution] [EOS]; the rows of P are the
model's business (`core.model.soft_prompt`), the tokens around it are made here. Prompt and solution are tokenized
apart, because at inference the prompt stands alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from core.contract.config import Config
from core.data.humaneval import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Label of a position without supervision, as torch's cross_entropy has it."""


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
class MicroBatch:
    """Rows of one forward pass, padded on the right.

    `before` [B, N] stands before P, `after` [B, T] behind it; `labels` [B, T] has, at each position of `after`, the
    token that comes next, or IGNORED. Padding is at the end of `after` alone, so that under a causal mask no real
    position sees it.
    """

    before: torch.Tensor
    after: torch.Tensor
    labels: torch.Tensor
    supervised: int
    """Number of labels that count."""
    tokens: int
    """Real tokens, virtual ones not included."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same rows on another device."""
        return MicroBatch(
            self.before.to(device), self.after.to(device), self.labels.to(device), self.supervised, self.tokens
        )


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of text that something follows: with the tokenizer's opening token, where it has one, and no closing."""
    ids = list(tokenizer(text)["input_ids"])
    closed = bool(ids) and ids[-1] == tokenizer.eos_token_id and not text.endswith(str(tokenizer.eos_token))
    return ids[:-1] if closed else ids


def encode_more(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of text that follows other text: no special tokens added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def text_prompt_tokens(tokenizer: PreTrainedTokenizerBase, config: Config) -> tuple[list[int], list[int]]:
    """Tokens of `inference.text_prompt` as (before P, after P)."""
    ids = encode_prompt(tokenizer, config.inference.text_prompt) if config.inference.text_prompt else []
    return (ids, []) if config.inference.text_prompt_position == "before_soft" else ([], ids)


def encode_problems(tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], config: Config) -> list[Example]:
    """Tokenize problems once for a whole run.

    A sequence over `dataset.max_length` (virtual tokens included) loses the end of its solution, and says so in
    `Example.cut`; one whose prompt alone is that long has an empty `target`, and nothing to learn.
    """
    before, after = text_prompt_tokens(tokenizer, config)
    encode = encode_more if before or after else encode_prompt  # one opening token a sequence
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    examples = []
    for problem in problems:
        context = after + encode(tokenizer, problem.prompt)
        target = encode_more(tokenizer, problem.canonical_solution) + end
        room = config.dataset.max_length - config.soft_prompts.num_virtual_tokens - len(before) - len(context)
        kept = target[: max(room, 0)]
        examples.append(Example(problem.task_id, tuple(before), tuple(context), tuple(kept), len(target) - len(kept)))
    return examples


def collate(examples: Sequence[Example], pad: int) -> MicroBatch:
    """Stack examples into one micro-batch; `pad` is any token id."""
    rows = [[*example.context, *example.target] for example in examples]
    width = max(len(row) for row in rows)
    after = torch.full((len(rows), width), pad, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    for index, (example, row) in enumerate(zip(examples, rows, strict=True)):
        after[index, : len(row)] = torch.tensor(row)
        first = len(example.context)
        # The position before a token predicts it: the last one of the context predicts the first of the target. With an
        # empty context that would be P's last row, which `after` does not hold; problems always have a prompt.
        labels[index, first - 1 : len(row) - 1] = torch.tensor(example.target)
    before = torch.tensor([example.before for example in examples], dtype=torch.long)
    supervised = sum(len(example.target) for example in examples)
    return MicroBatch(before, after, labels, supervised, sum(example.tokens for example in examples))


def epoch_order(examples: Sequence[Example], epoch: int, seed: int) -> list[Example]:
    """The examples in the order of one epoch; depends on `seed` and `epoch` alone, so that a resumed run repeats it."""
    order = list(examples)
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order


def effective_batches(order: Sequence[Example], effective_batch: int) -> Iterator[Sequence[Example]]:
    """Cut an epoch into the examples of each optimizer step; the last one may be smaller."""
    for start in range(0, len(order), effective_batch):
        yield order[start : start + effective_batch]


def micro_batches(examples: Sequence[Example], batch_size: int, pad: int) -> list[MicroBatch]:
    """Cut the examples of one step into micro-batches of similar lengths, which wastes least on padding.

    The gradient is that of the mean over all supervised tokens of the step, so the grouping does not change it.
    """
    by_length = sorted(examples, key=lambda example: (example.tokens, example.task_id))
    return [collate(by_length[start : start + batch_size], pad) for start in range(0, len(by_length), batch_size)]


def pad_token(tokenizer: Any) -> int:
    """A token id to fill rows with; what it is does not matter, since nothing attends to it."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0
