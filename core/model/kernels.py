"""The parts of a decoder layer between its matrix products, with their gradients, in as few kernels as torch has.

On a GPU some are made by CUDA's own run-time compiler the first time they are used, which takes a second.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import silu

TURNED = """
template <typename T> void softtune_turned(T first, T second, T cosine, T sine, T& turned_first, T& turned_second) {
  float a = static_cast<float>(first), b = static_cast<float>(second);
  float c = static_cast<float>(cosine), s = static_cast<float>(sine);
  turned_first = static_cast<T>(a * c - b * s);
  turned_second = static_cast<T>(b * c + a * s);
}
"""
GATED = """
template <typename T> T softtune_gated(T gate, T up) {
  float x = static_cast<float>(gate);
  return static_cast<T>(x / (1.0f + expf(-x)) * static_cast<float>(up));
}
"""
OF_GATED = """
template <typename T> void softtune_of_gated(T of_product, T gate, T up, T& of_gate, T& of_up) {
  float x = static_cast<float>(gate), of = static_cast<float>(of_product);
  float sigmoid = 1.0f / (1.0f + expf(-x));
  of_up = static_cast<T>(of * x * sigmoid);
  of_gate = static_cast<T>(of * static_cast<float>(up) * sigmoid * (1.0f + x * (1.0f - sigmoid)));
}
"""
POWERS = """
template <typename T> T softtune_powers(T score, T largest) {
  return static_cast<T>(expf(static_cast<float>(score) - static_cast<float>(largest)));
}
"""


@functools.cache
def _compiled(code: str, outputs: int = 1) -> Callable[..., Any]:
    from torch.cuda import jiterator

    if outputs == 1:
        return jiterator._create_jit_fn(code)
    return jiterator._create_multi_output_jit_fn(code, num_outputs=outputs)


class Turned(torch.autograd.Function):
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864) of the queries and keys among joined projections."""

    @staticmethod
    def forward(
        context: Any, joined: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, heads: int, shared: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries [T, heads, width] and keys [T, shared, width], turned, and values [T, shared, width].

        Args:
            joined: [T, heads + 2 × shared, width].
            cosines, sines: [T, 1, width / 2].
        """
        context.save_for_backward(cosines, sines)
        turned = torch.cat(_turn(*joined[:, : heads + shared].chunk(2, dim=2), cosines, sines), dim=2)
        return turned[:, :heads], turned[:, heads:], joined[:, heads + shared :]

    @staticmethod
    def backward(  # type: ignore[override]
        context: Any, of_query: torch.Tensor, of_key: torch.Tensor, of_value: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None, None]:
        """The gradient of `joined`: turned back, which is turning with the halves the other way round."""
        back = []
        for part in (of_query, of_key):
            first, second = part.chunk(2, dim=2)
            back.append(torch.cat(_turn(second, first, *context.saved_tensors)[::-1], dim=2))
        return torch.cat([*back, of_value], dim=1), None, None, None, None


def _turn(
    first: torch.Tensor, second: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    if first.is_cuda:
        turned: tuple[torch.Tensor, torch.Tensor] = _compiled(TURNED, 2)(first, second, cosines, sines)
        return turned
    return first * cosines - second * sines, second * cosines + first * sines


class Gated(torch.autograd.Function):
    """silu(gate) · up (Shazeer 2020, arXiv 2002.05202): all three as wide as a layer gets."""

    @staticmethod
    def forward(context: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """The product [T, intermediate]."""
        context.save_for_backward(gate, up)
        product: torch.Tensor = _compiled(GATED)(gate, up) if gate.is_cuda else silu(gate).mul_(up)
        return product

    @staticmethod
    def backward(  # type: ignore[override]
        context: Any, of_product: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradients of both."""
        gate, up = context.saved_tensors
        if gate.is_cuda:
            of_gate, of_up = _compiled(OF_GATED, 2)(of_product, gate, up)
            return of_gate, of_up
        sigmoid = torch.sigmoid(gate)
        activated = sigmoid * gate
        return of_product * up * (sigmoid + activated - activated * sigmoid), of_product * activated


class CrossEntropy(torch.autograd.Function):
    """Cross-entropy in nats of scores in 16 bits, summed up in float32, without a copy of the scores in that type."""

    @staticmethod
    def forward(context: Any, scores: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        """Of each row, [N], float32; label smoothing is in the gradient alone.

        Args:
            scores: [N, vocabulary].
            targets: [N].
        """
        places = targets[:, None]
        largest = scores.amax(dim=1, keepdim=True).float()
        powers = _compiled(POWERS)(scores, largest) if scores.is_cuda else (scores - largest).exp_()
        total = powers.sum(dim=1, keepdim=True)
        context.save_for_backward(powers, total, places)
        context.label_smoothing, context.dtype = label_smoothing, scores.dtype
        return (total.log() + largest - scores.gather(1, places)).squeeze(1)

    @staticmethod
    def backward(  # type: ignore[override]
        context: Any, of_losses: torch.Tensor
    ) -> tuple[torch.Tensor, None, None]:
        """The gradient of the scores, in their type."""
        powers, total, places = context.saved_tensors
        of_rows, smoothed = of_losses[:, None], context.label_smoothing
        of_scores = torch.empty_like(powers, dtype=context.dtype)
        torch.mul(powers, of_rows / total, out=of_scores)
        of_scores.scatter_add_(1, places, (of_rows * (smoothed - 1)).to(context.dtype))
        if smoothed:
            of_scores.sub_(of_rows * (smoothed / powers.shape[1]))
        return of_scores, None, None
