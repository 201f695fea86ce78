"""The machine's other limit: how fast its memory is copied, and what completing has to read there."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from tests.bench.steps import waited_for

SIZE = 256 << 20
"""Bytes of what is copied, more than any cache holds."""
TRIES = 5


def copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written, of the fastest of some copies within the device's memory."""
    source, target = (torch.ones(SIZE, dtype=torch.uint8, device=device) for _ in range(2))
    found = []
    for _ in range(TRIES):
        with waited_for(device) as seconds:
            target.copy_(source)
        found.append(seconds())
    return 2 * SIZE / min(found)


def step_bytes(model: PreTrainedModel, pairs: int) -> int:
    """What a step has to read: each linear layer's weights once, and the keys and values that its tokens see.

    Args:
        pairs: of a token of the step and one that it sees, itself included.
    """
    config = model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    of_a_pair = 2 * config.num_hidden_layers * config.num_key_value_heads * width * model.dtype.itemsize
    return sum(module.weight.nbytes for module in model.modules() if isinstance(module, nn.Linear)) + pairs * of_a_pair
