"""The optimizers that `training.optimizer` names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from core.contract.config import TrainingSettings

MOMENTUM = 0.9
"""Of SGD."""


def build_optimizer(
    trained: Sequence[nn.Parameter], settings: TrainingSettings, device: torch.device
) -> torch.optim.Optimizer:
    """The optimizer of parameters on `device`; its learning rate is set anew before each step.

    AdamW decays weights apart from the gradient, as Adafactor does here; SGD adds the decay to the gradient. Adafactor
    (Shazeer and Stern 2018, arXiv 1804.04235, algorithm 4) takes the learning rate as a share of each parameter's own
    root mean square, at least a thousandth, and never more than 1/√step.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=MOMENTUM, weight_decay=decay)
    if settings.optimizer == "adafactor":
        return torch.optim.Adafactor(trained, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(trained, lr=rate, weight_decay=decay, fused=device.type == "cuda")
