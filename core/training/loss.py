"""Cross-entropy on solution tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from core.data.batches import IGNORED, MicroBatch
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


def perplexity(loss: float) -> float:
    """exp(mean token loss); infinite where that overflows a float."""
    return math.exp(loss) if loss < 700 else math.inf
