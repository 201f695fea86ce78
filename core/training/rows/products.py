"""Products with frozen float32 weights on a CPU, and their gradient: two of the four operations a parameter and token.

BLAS, torch's own way, lays W out anew in every product; oneDNN takes W as it was laid out once. All products of
SmolLM2-135M forwards and backwards for rows of 150 to 350 tokens, on one core with AVX-512 (MKL 2024.2, oneDNN 3.12),
operations a second: BLAS 89 · 10⁹, oneDNN 95, laid out once 103; layers of one input side by side take less time still,
both ways. With AVX2 oneDNN stays at 66 · 10⁹ however many rows there are, while numpy's BLAS (OpenBLAS 0.3.31) goes
from 63 for 104 rows to 74 for 836, torch's own from 56 to 70, and neither needs a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy
import torch

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
    make: Callable[..., FrozenLinear] = ByBlas if avx2_at_most() else ByOneDnn
    return make(*layers, laid_out=laid_out)


class ByOneDnn:
    """Products by oneDNN, from a copy laid out; for the gradient, too, where several layers make one product of it."""

    def __init__(self, *layers: nn.Linear, laid_out: bool) -> None:
        weights = [layer.weight.detach() for layer in layers]
        self._sizes = [len(weight) for weight in weights]
        self._forward = [(weight, layer.bias) for weight, layer in zip(weights, layers, strict=True)]
        self._backward = [weight.t() for weight in weights]
        if laid_out:
            weight = torch.cat(weights) if len(layers) > 1 else weights[0]
            self._forward = [(onednn.lay_out(weight, ROWS), _joined_bias(layers))]
            self._backward = [onednn.lay_out(weight.t(), ROWS) if len(layers) > 1 else weight.t()]

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """See FrozenLinear."""
        results = [onednn.product(x, weight, bias) for weight, bias in self._forward]
        return [*results[0].split(self._sizes, dim=1)] if len(results) == 1 else results

    def gradient(self, of_results: torch.Tensor) -> torch.Tensor:
        """See FrozenLinear."""
        if len(self._backward) == 1:
            return onednn.product(of_results, self._backward[0])
        total: torch.Tensor | None = None
        for part, weight in zip(of_results.split(self._sizes, dim=1), self._backward, strict=True):
            more = onednn.product(part.contiguous(), weight)
            total = more if total is None else total.add_(more)
        assert total is not None
        return total


def _joined_bias(layers: Sequence[nn.Linear]) -> torch.Tensor | None:
    """Their biases [out₁ + out₂ + …], zeros for a layer that has none; None where no layer has one."""
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat([
        layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach() for layer in layers
    ])


class ByBlas:
    """Products by numpy's BLAS where a thread computes alone, and by torch's where several share a product.

    So numpy's should take one thread for each call: `core.cli` sets OPENBLAS_NUM_THREADS to 1.
    """

    def __init__(self, *layers: nn.Linear, laid_out: bool) -> None:  # noqa: ARG002 - nothing to lay out
        self._layers = [(layer.weight.detach(), layer.bias) for layer in layers]
        self._sizes = [layer.out_features for layer in layers]

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """See FrozenLinear."""
        results = []
        for weight, bias in self._layers:
            result = product(x, weight.t())
            results.append(result if bias is None else result.add_(bias))
        return results

    def gradient(self, of_results: torch.Tensor) -> torch.Tensor:
        """See FrozenLinear."""
        first, *others = zip(of_results.split(self._sizes, dim=1), (weight for weight, _ in self._layers), strict=True)
        total = product(*first)
        for part, weight in others:
            total.add_(product(part, weight))
        return total


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of two matrices in float32."""
    if torch.get_num_threads() > 1:
        return a @ b
    result = a.new_empty(len(a), b.shape[1])
    numpy.matmul(a.numpy(), b.numpy(), out=result.numpy())
    return result
