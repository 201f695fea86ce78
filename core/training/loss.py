"""Cross-entropy on solution tokens."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from core.contract.control import ControlInbox, heed
from core.contract.events import Event, Progress
from core.data.batches import IGNORED, Example, MicroBatch, micro_batches, pad_token
from core.model.loading import LoadedModel
from core.model.soft_prompt import SoftPrompt, head_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def summed_loss(model: PreTrainedModel, soft_prompt: SoftPrompt, batch: MicroBatch) -> torch.Tensor:
    """Cross-entropy in nats, summed over the supervised tokens of one micro-batch: a float32 scalar.

    Hidden states are gathered before the output head, so logits are [N, vocabulary] for N supervised tokens only.
    Rows are padded on the right and attention is causal, so no mask is needed, and positions count from 0.
    """
    embedded = soft_prompt.embed(model.get_input_embeddings(), batch)
    supervised = torch.zeros(embedded.shape[:2], dtype=torch.bool, device=embedded.device)
    counts = batch.labels != IGNORED
    supervised[:, -counts.shape[1] :] = counts
    with head_at(model, supervised):
        logits = model(inputs_embeds=embedded, use_cache=False).logits.squeeze(0)
    return functional.cross_entropy(logits.float(), batch.labels[counts], reduction="sum")


def mean_loss(
    loaded: LoadedModel, soft_prompt: SoftPrompt, examples: Sequence[Example], batch_size: int, control: ControlInbox
) -> Generator[Event, None, float]:
    """Mean cross-entropy in nats over all supervised tokens of `examples`, without gradient; tells its progress."""
    loss_sum, supervised, done = 0.0, 0, 0
    for batch in micro_batches(examples, batch_size, pad_token(loaded.tokenizer)):
        yield from heed(control)
        with torch.no_grad(), loaded.precision.autocasting():
            loss_sum += summed_loss(loaded.model, soft_prompt, batch.to(loaded.precision.device)).item()
        supervised += batch.supervised
        done += len(batch.after)
        yield Progress(stage="validating", done=done, total=len(examples), unit="problems")
    return loss_sum / supervised


def perplexity(loss: float) -> float:
    """exp(mean token loss); infinite where that overflows a float."""
    return math.exp(loss) if loss < 700 else math.inf
