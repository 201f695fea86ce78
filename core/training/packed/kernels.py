"""The parts of a layer between its matrix products, each with its gradient, in as few kernels as torch has for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention, silu


@dataclass(frozen=True)
class Bounds:
    """Where the sequences lie that stand end to end."""

    places: torch.Tensor
    """[S + 1], int32, on the device: the first token of each, and one past the last."""
    lengths: Sequence[int]
    """[S]."""


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: Bounds, scaling: float
) -> torch.Tensor:
    """Causal attention within each sequence.

    On a GPU it is FlashAttention's kernel for sequences of many lengths (Dao 2023, arXiv 2307.08691), which computes in
    16 bits; torch has it as an operator under its own name only, with heads that share keys since 2.1.

    Args:
        query: [T, heads, width].
        key, value: [T, shared, width], each for heads / shared query heads.

    Returns:
        [T, heads, width].
    """
    if query.is_cuda:
        longest = max(bounds.lengths)
        result: torch.Tensor = torch.ops.aten._flash_attention_forward(
            query, key, value, bounds.places, bounds.places, longest, longest, 0.0, True, False, scale=scaling
        )[0]
        return result
    sequences = zip(*(part.split(list(bounds.lengths)) for part in (query, key, value)), strict=True)
    return torch.cat([
        scaled_dot_product_attention(
            *(part.transpose(0, 1)[None] for part in parts), is_causal=True, scale=scaling, enable_gqa=True
        )[0].transpose(0, 1)
        for parts in sequences
    ])


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
        turned = joined.new_empty(len(joined), heads + shared, joined.shape[2])
        _turn(joined[:, : heads + shared], turned, cosines, sines, 1)
        return turned[:, :heads], turned[:, heads:], joined[:, heads + shared :]

    @staticmethod
    def backward(  # type: ignore[override]
        context: Any, of_query: torch.Tensor, of_key: torch.Tensor, of_value: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None, None]:
        """The gradient of `joined`: turned back."""
        heads, shared = of_query.shape[1], of_key.shape[1]
        of_joined = of_query.new_empty(len(of_query), heads + 2 * shared, of_query.shape[2])
        for part, place in ((of_query, slice(0, heads)), (of_key, slice(heads, heads + shared))):
            _turn(part, of_joined[:, place], *context.saved_tensors, -1)
        of_joined[:, heads + shared :] = of_value
        return of_joined, None, None, None, None


def _turn(x: torch.Tensor, into: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, sign: int) -> None:
    half = x.shape[2] // 2
    torch.mul(x[..., :half], cosines, out=into[..., :half]).addcmul_(x[..., half:], sines, value=-sign)
    torch.mul(x[..., half:], cosines, out=into[..., half:]).addcmul_(x[..., :half], sines, value=sign)


class Gated(torch.autograd.Function):
    """silu(gate) · up (Shazeer 2020, arXiv 2002.05202): all three as wide as a layer gets."""

    @staticmethod
    def forward(context: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """The product [T, intermediate]."""
        context.save_for_backward(gate, up)
        return _fused()[0](gate, up) if gate.is_cuda else silu(gate).mul_(up)

    @staticmethod
    def backward(  # type: ignore[override]
        context: Any, of_product: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradients of both."""
        gate, up = context.saved_tensors
        if gate.is_cuda:
            of_gate, of_up = _fused()[1](of_product, gate, up)
            return of_gate, of_up
        sigmoid = torch.sigmoid(gate)
        activated = sigmoid * gate
        return of_product * up * (sigmoid + activated - activated * sigmoid), of_product * activated


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


@functools.cache
def _fused() -> tuple[Callable[..., torch.Tensor], Callable[..., tuple[torch.Tensor, torch.Tensor]]]:
    """`Gated` and its gradient as one kernel each, which CUDA's own run-time compiler makes the first time."""
    from torch.cuda import jiterator

    return jiterator._create_jit_fn(GATED), jiterator._create_multi_output_jit_fn(OF_GATED, num_outputs=2)
