"""Products with frozen float32 weights on a CPU, and their gradient: two of the four operations a parameter and token.

torch multiplies by its BLAS, which lays W out anew in every product. oneDNN is faster, and faster still with W laid out
once as its kernels read it. All products of SmolLM2-135M forwards and backwards for rows of 150 to 350 tokens, on one
core with AVX-512 (MKL 2024.2, oneDNN 3.12), operations a second: BLAS 89 · 10⁹, oneDNN 95, laid out once 103.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from core.model import onednn

if TYPE_CHECKING:
    from torch import nn

ROWS = 256
"""Rows that the layout is made for; products of other numbers of rows are as fast with it."""


class FrozenLinear:
    """Linear layers of one input: x W₁ᵀ + b₁, x W₂ᵀ + b₂, … for x [n, in], and the gradient of x."""

    def __init__(self, *layers: nn.Linear, laid_out: bool) -> None:
        """Take the layers; `laid_out` makes a copy of their weights for the gradient, which is faster."""
        self._forward = [(layer.weight.detach(), layer.bias) for layer in layers]
        weights = [weight for weight, _ in self._forward]
        if laid_out:
            weights = [torch.cat(weights) if len(weights) > 1 else weights[0]]
        self._sizes = [len(weight) for weight in weights]
        self._backward = [onednn.lay_out(weight.t(), ROWS) if laid_out else weight.t() for weight in weights]

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Each layer's result [n, out]."""
        return [onednn.product(x, weight, bias) for weight, bias in self._forward]

    def gradient(self, of_results: torch.Tensor) -> torch.Tensor:
        """The gradient of x [n, in], from those of the results side by side [n, out₁ + out₂ + …]."""
        total: torch.Tensor | None = None
        for part, weight in zip(of_results.split(self._sizes, dim=1), self._backward, strict=True):
            more = onednn.product(part.contiguous(), weight)
            total = more if total is None else total.add_(more)
        assert total is not None
        return total
