"""Products with frozen float32 weights on a CPU, and their gradient: two of the four operations a parameter and token.

BLAS, torch's own way, lays W out anew in every product; oneDNN takes W as it was laid out once. All products of
SmolLM2-135M forwards and backwards for rows of 150 to 350 tokens, on one core with AVX-512 (MKL 2024.2, oneDNN 3.12),
operations a second: BLAS 89 · 10⁹, oneDNN 95, laid out once 103. With AVX2 it is the other way round: whole optimizer
steps took 1.12 × the time with oneDNN, and BLAS needs no copy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn.functional import linear

from core.contract.estimate import HEAD_RATIO
from core.contract.processor import avx2_at_most
from core.model import onednn

if TYPE_CHECKING:
    from torch import nn

ROWS = 256
"""Rows that the layout is made for; products of other numbers of rows are as fast with it."""


class FrozenLinear(Protocol):
    """Linear layers of one input: x W₁ᵀ + b₁, x W₂ᵀ + b₂, … for x [n, in], and the gradient of x."""

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Each layer's result [n, out]."""

    def gradient(self, of_results: torch.Tensor) -> torch.Tensor:
        """The gradient of x [n, in], from those of the results side by side [n, out₁ + out₂ + …]."""


def frozen_linear(*layers: nn.Linear, laid_out: bool) -> FrozenLinear:
    """The layers, the way that is fastest on this processor; `laid_out` allows a copy of their weights for that."""
    blas = avx2_at_most() and torch.backends.mkl.is_available()
    make: Callable[..., FrozenLinear] = ByBlas if blas else ByOneDnn
    return make(*layers, laid_out=laid_out)


class ByOneDnn:
    """Products by oneDNN, from a copy laid out for the gradient."""

    def __init__(self, *layers: nn.Linear, laid_out: bool) -> None:
        self._forward = [(layer.weight.detach(), layer.bias) for layer in layers]
        weights = [weight for weight, _ in self._forward]
        if laid_out:
            weights = [torch.cat(weights) if len(weights) > 1 else weights[0]]
        self._sizes = [len(weight) for weight in weights]
        self._backward = [onednn.lay_out(weight.t(), ROWS) if laid_out else weight.t() for weight in weights]

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """See FrozenLinear."""
        return [onednn.product(x, weight, bias) for weight, bias in self._forward]

    def gradient(self, of_results: torch.Tensor) -> torch.Tensor:
        """See FrozenLinear."""
        total: torch.Tensor | None = None
        for part, weight in zip(of_results.split(self._sizes, dim=1), self._backward, strict=True):
            more = onednn.product(part.contiguous(), weight)
            total = more if total is None else total.add_(more)
        assert total is not None
        return total


class ByBlas:
    """Products by BLAS, and a head's results by oneDNN, from a copy of that weight alone."""

    def __init__(self, *layers: nn.Linear, laid_out: bool) -> None:
        self._sizes = [layer.out_features for layer in layers]
        self._backward = [layer.weight.detach() for layer in layers]
        self._forward: list[Callable[[torch.Tensor], torch.Tensor]] = []
        for layer, weight in zip(layers, self._backward, strict=True):
            if layer.out_features >= HEAD_RATIO * layer.in_features:
                copy = onednn.lay_out(weight, ROWS) if laid_out else weight
                self._forward.append(partial(onednn.product, laid_out_weight=copy, bias=layer.bias))
            else:
                self._forward.append(partial(linear, weight=weight, bias=layer.bias))

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """See FrozenLinear."""
        return [product(x) for product in self._forward]

    def gradient(self, of_results: torch.Tensor) -> torch.Tensor:
        """See FrozenLinear."""
        (weight, *weights), (part, *parts) = self._backward, of_results.split(self._sizes, dim=1)
        total = part @ weight
        for part, weight in zip(parts, weights, strict=True):
            total.addmm_(part, weight)
        return total
