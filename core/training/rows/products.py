"""Products with frozen float32 weights on a CPU, and their gradient: two of the four operations a parameter and token.

torch multiplies by its BLAS, which lays W out anew in every product. oneDNN is faster, and faster still with W laid out
once as its kernels read it, and with layers of one input as one. All products of SmolLM2-135M forwards and backwards
for rows of 150 to 350 tokens, on one core with AVX-512 (MKL 2024.2, oneDNN 3.12), operations a second: BLAS 89 · 10⁹,
oneDNN 95, laid out once 103.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from core.model import onednn

ROWS = 256
"""Rows that the layout is made for; products of other numbers of rows are as fast with it."""


class FrozenLinear:
    """x Wᵀ + b for x [n, in], where W is the weights of one or several layers below each other, and x's gradient."""

    def __init__(self, *layers: nn.Linear, laid_out: bool) -> None:
        """Take layers of the same input; `laid_out` makes two copies of their weights, which is faster."""
        weights = [layer.weight.detach() for layer in layers]
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        if biases and len(biases) < len(layers):
            raise ValueError("some of the layers have a bias and some have none")
        if laid_out:
            joined = torch.cat(weights) if len(weights) > 1 else weights[0]
            biases = [torch.cat(biases)] if biases else []
            self._sizes = [len(joined)]
            self._forward, self._backward = [onednn.lay_out(joined, ROWS)], [onednn.lay_out(joined.t(), ROWS)]
        else:
            self._sizes = [len(weight) for weight in weights]
            self._forward, self._backward = weights, [weight.t() for weight in weights]
        self._biases: Sequence[torch.Tensor | None] = biases or [None] * len(self._sizes)

    def __call__(self, x: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """x Wᵀ + b [n, out], added to `onto` where that is given."""
        parts = [_product(x, weight, bias) for weight, bias in zip(self._forward, self._biases, strict=True)]
        result = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return result if onto is None else result.add_(onto)

    def gradient(self, of_result: torch.Tensor) -> torch.Tensor:
        """The gradient of x [n, in], from that of the result."""
        parts = of_result.split(self._sizes, dim=1)
        total = _product(parts[0], self._backward[0], None)
        for part, weight in zip(parts[1:], self._backward[1:], strict=True):
            total.add_(_product(part, weight, None))
        return total


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return onednn.product(x.contiguous(), weight, bias)
