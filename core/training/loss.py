"""Cross-entropy on solution tokens."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from core.data.batches import MicroBatch
from core.model.soft_prompt import embed, head_at
from core.training.profile import Section, untimed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def prompt_losses(
    model: PreTrainedModel, prompts: torch.Tensor, batch: MicroBatch, section: Section = untimed,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Weighted cross-entropy in nats of the supervised tokens behind each of `prompts` [K, V, H]: [K], float32.

    With label smoothing that is still its value, but its gradient is that of the smoothed loss, in which every token
    of the vocabulary has an equal part of `label_smoothing` of each target (Szegedy et al. 2016, arXiv 1512.00567,
    section 7).

    Hidden states are gathered before the output head, so logits are [N, vocabulary] for N supervised tokens only.
    Rows are padded on the right and attention is causal, so no mask is needed, and positions count from 0.
    """
    with section("forward"):
        embedded = embed(model.get_input_embeddings(), prompts, batch)
        places = embedded.shape[1] - batch.after.shape[1] + batch.places
        with head_at(model, (batch.rows, places)), _timed(model.get_output_embeddings(), section):
            logits = model(inputs_embeds=embedded, use_cache=False).logits.squeeze(0)
    with section("head"):
        scores = logits.float()
        losses = cross_entropy(scores, batch.targets, reduction="none", label_smoothing=label_smoothing)
        if label_smoothing:
            losses = losses - losses.detach() + cross_entropy(scores.detach(), batch.targets, reduction="none")
        return summed(losses * batch.weights, batch.prompts[batch.rows], len(prompts))


def summed(losses: torch.Tensor, owners: torch.Tensor, prompts: int) -> torch.Tensor:
    """The sum [prompts] of each soft prompt's losses, of those [N] of all; `owners` [N] says whose each is."""
    if prompts == 1:
        return losses.sum(0, keepdim=True)
    return losses.new_zeros(prompts).index_add(0, owners, losses)


def perplexity(loss: float) -> float:
    """exp(mean token loss); infinite where that overflows a float."""
    return math.exp(loss) if loss < 700 else math.inf


@contextlib.contextmanager
def _timed(head: nn.Module, section: Section) -> Iterator[None]:
    """Within the block the output head is a section of its own."""
    if section is untimed:
        yield
        return
    with contextlib.ExitStack() as opened:
        before = head.register_forward_pre_hook(lambda *_: opened.enter_context(section("head")) and None)
        after = head.register_forward_hook(lambda *_: opened.close())
        try:
            yield
        finally:
            before.remove()
            after.remove()
