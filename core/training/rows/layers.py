"""A decoder layer of the Llama kind (SmolLM2, Qwen2.5, Llama) for sequences end to end, with its gradient written out.

What autograd does on a CPU, without what it does besides: no weight gradients, no padding, no copies of keys and values
for each group of heads, products of the same input as one, sums where they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from core.training.rows.attention import attend, attend_gradient, keeps
from core.training.rows.products import frozen_linear
from core.training.rows.workspace import Take


class Norm:
    """Root mean square normalization with a frozen weight, x / rms(x) · w."""

    def __init__(self, module: nn.Module) -> None:
        self.weight: torch.Tensor = module.weight.detach()  # type: ignore[union-attr, operator]
        self.epsilon: float = module.variance_epsilon  # type: ignore[assignment]

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The result [n, H] and 1 / rms(x) [n, 1], which the gradient needs."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = squares.div_(x.shape[-1]).add_(self.epsilon).rsqrt_()
        return (x * inverse).mul_(self.weight), inverse

    def gradient(
        self, of_result: torch.Tensor, x: torch.Tensor, inverse: torch.Tensor, total: torch.Tensor
    ) -> torch.Tensor:
        """`total` [n, H], to which the gradient of x is added; that of the result is lost."""
        of_result.mul_(self.weight)
        along = (of_result * x).sum(dim=-1, keepdim=True).mul_(inverse.pow(3)).div_(-x.shape[-1])
        return total.addcmul_(of_result, inverse).addcmul_(x, along)


@dataclass(frozen=True)
class Rotation:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864) of n tokens: cosines and sines [n, 1, width / 2]."""

    cosines: torch.Tensor
    sines: torch.Tensor

    def __len__(self) -> int:
        return len(self.cosines)

    def scaled(self, factor: float) -> Rotation:
        """The rotation that also multiplies."""
        return Rotation(self.cosines * factor, self.sines * factor)

    def turn(self, x: torch.Tensor, into: torch.Tensor, back: bool = False) -> None:
        """Write x [m, heads, width], the last m tokens, turned (or turned back, which is the gradient) into `into`."""
        half = x.shape[-1] // 2
        cosines, sines = self.cosines[-len(x) :], self.sines[-len(x) :]
        sign = -1 if back else 1
        torch.mul(x[..., :half], cosines, out=into[..., :half]).addcmul_(x[..., half:], sines, value=-sign)
        torch.mul(x[..., half:], cosines, out=into[..., half:]).addcmul_(x[..., :half], sines, value=sign)


@dataclass(frozen=True)
class Attended:
    """What the gradient of one sequence's attention needs: queries [shared, group, last, width] of the tokens whose
    output is wanted, keys and values [shared, n, width] of all, and probabilities as `attention` keeps them."""

    query: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    probabilities: list[torch.Tensor | None]


@dataclass(frozen=True)
class Trace:
    """What the gradient of a layer needs of its forward pass; of the MLP the derivatives of silu(gate) · up by each."""

    x: torch.Tensor
    inverse: torch.Tensor
    sequences: list[Attended]
    middle: torch.Tensor
    middle_inverse: torch.Tensor
    by_gate: torch.Tensor | None
    by_up: torch.Tensor


KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values [key-value heads, tokens, width] of one layer, or their gradients."""


class Layer:
    """One decoder layer: x + attention(norm(x)), then that + mlp(norm(that))."""

    def __init__(self, module: Any, *, laid_out: bool) -> None:
        attention, mlp = module.self_attn, module.mlp
        self.width: int = attention.head_dim
        self.heads = attention.q_proj.out_features // self.width
        self.shared = attention.k_proj.out_features // self.width
        self.scaling: float = attention.scaling
        self.before_attention = Norm(module.input_layernorm)
        self.query_key_value = frozen_linear(attention.q_proj, attention.k_proj, attention.v_proj, laid_out=laid_out)
        self.output = frozen_linear(attention.o_proj, laid_out=laid_out)
        self.before_mlp = Norm(module.post_attention_layernorm)
        self.gate_up = frozen_linear(mlp.gate_proj, mlp.up_proj, laid_out=laid_out)
        self.down = frozen_linear(mlp.down_proj, laid_out=laid_out)

    def forward(
        self, x: torch.Tensor, rotations: Sequence[Rotation], pasts: Sequence[KeysValues], lasts: Sequence[int],
        take: Take | None = None,
    ) -> tuple[torch.Tensor, Trace]:
        """The layer's output at the last tokens of each sequence.

        Args:
            x: [n, H], the sequences end to end.
            rotations: of each sequence; as long as it is.
            pasts: keys and values of the tokens that stand before each.
            lasts: number of tokens at the end of each whose output is wanted.
            take: gives the memory of the output and of what the trace holds; None where no gradient is wanted,
                for which the trace is not enough then.

        Returns:
            [sum of `lasts`, H], and the trace, whose keys and values include those before a sequence.
        """
        new = take or torch.empty
        lengths = [len(rotation) for rotation in rotations]
        normed, inverse = self.before_attention(x)
        parts = [part.view(len(x), -1, self.width).split(lengths) for part in self.query_key_value(normed)]
        attended = x.new_empty(sum(lasts), self.shared, self.heads // self.shared, self.width)
        sequences = [
            self._attend(*sequence, take, len(x))
            for sequence in zip(*parts, rotations, pasts, attended.split(lasts), strict=True)
        ]
        (change,) = self.output(attended.view(len(attended), -1))
        middle = new(*change.shape)
        for total, before, more in zip(middle.split(lasts), x.split(lengths), change.split(lasts), strict=True):
            torch.add(before[-len(total) :], more, out=total)
        normed, middle_inverse = self.before_mlp(middle)
        gate, up = self.gate_up(normed)
        by_gate = torch.ops.aten.silu_backward(up, gate, grad_input=take(*gate.shape)) if take else None
        by_up = torch.ops.aten.silu(gate, out=new(*gate.shape))
        (change,) = self.down(up * by_up)
        result = torch.add(middle, change, out=new(*change.shape))
        return result, Trace(x, inverse, sequences, middle, middle_inverse, by_gate, by_up)

    def _attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rotation: Rotation, past: KeysValues,
        result: torch.Tensor, take: Take | None, together: int,
    ) -> Attended:
        """Attention of the last tokens of one sequence, as many as `result` [last, shared, group, width] has.

        Args:
            queries, keys, values: [tokens, heads, width], not turned yet.
            past: of the tokens before it.
            together: tokens of all sequences.
        """
        tokens, last, before, new = len(keys), len(result), past[0].shape[1], take or torch.empty
        query = new(self.heads * last, self.width).view(self.shared, -1, last, self.width)
        rotation.scaled(self.scaling).turn(queries[-last:], query.view(self.heads, last, self.width).transpose(0, 1))
        all_keys, all_values = (
            new(self.shared * (before + tokens), self.width).view(self.shared, -1, self.width) for _ in range(2)
        )
        all_keys[:, :before], all_values[:, :before] = past
        rotation.turn(keys, all_keys[:, before:].transpose(0, 1))
        all_values[:, before:] = values.transpose(0, 1)
        kept = take if keeps(together, before + tokens) else None
        return Attended(query, all_keys, all_values, attend(query, all_keys, all_values, result, kept))

    def gradient(
        self, of_result: torch.Tensor, trace: Trace, rotations: Sequence[Rotation],
        of_keys_values: Sequence[KeysValues], *, of_input: bool = True,
    ) -> torch.Tensor | None:
        """The gradient of x [n, H]; None where it is not wanted, only what is added to `of_keys_values`.

        Args:
            of_result: [sum of the last tokens, H], which is lost.
            of_keys_values: of each sequence and what stands before it, to which this layer's own are added.
            of_input: whether it is wanted.
        """
        lengths = [len(rotation) for rotation in rotations]
        lasts = [sequence.query.shape[2] for sequence in trace.sequences]
        of_middle = self._mlp_gradient(of_result, trace)
        of_attended = self.output.gradient(of_middle).view(len(of_middle), self.shared, -1, self.width)
        of_joined = of_result.new_empty(len(trace.x), self.heads + 2 * self.shared, self.width)
        for sequence in zip(
            of_attended.split(lasts), trace.sequences, rotations, of_keys_values, of_joined.split(lengths), strict=True
        ):
            self._attend_gradient(*sequence)
        if not of_input:
            return None
        of_normed = self.query_key_value.gradient(of_joined.view(len(trace.x), -1))
        total = of_middle
        if len(of_middle) < len(trace.x):
            total = torch.zeros_like(trace.x)
            for part, of_last in zip(total.split(lengths), of_middle.split(lasts), strict=True):
                part[-len(of_last) :] = of_last
        return self.before_attention.gradient(of_normed, trace.x, trace.inverse, total)

    def _attend_gradient(
        self, of_attended: torch.Tensor, sequence: Attended, rotation: Rotation, of_keys_values: KeysValues,
        of_joined: torch.Tensor,
    ) -> None:
        """Write the gradient of one sequence's queries, keys and values into `of_joined` [tokens, all heads, width]."""
        tokens, last = len(of_joined), len(of_attended)
        of_queries, of_new_keys, of_new_values = of_joined.split([self.heads, self.shared, self.shared], dim=1)
        of_query = attend_gradient(
            of_attended, sequence.query, sequence.keys, sequence.values, sequence.probabilities, *of_keys_values
        )
        of_queries[:-last] = 0
        rotation.scaled(self.scaling).turn(
            of_query.view(self.heads, last, self.width).transpose(0, 1), of_queries[-last:], back=True
        )
        of_keys, of_values = of_keys_values
        rotation.turn(of_keys[:, -tokens:].transpose(0, 1), of_new_keys, back=True)
        of_new_values.copy_(of_values[:, -tokens:].transpose(0, 1))

    def _mlp_gradient(self, of_result: torch.Tensor, trace: Trace) -> torch.Tensor:
        """The gradient of what the MLP is given, and of what it is added to: their sum [last, H], in `of_result`."""
        assert trace.by_gate is not None, "the forward pass was one without a gradient"
        of_product = self.down.gradient(of_result)
        of_gate_up = of_product.new_empty(len(of_product), 2 * of_product.shape[1])
        for part, derivative in zip(of_gate_up.chunk(2, dim=1), (trace.by_gate, trace.by_up), strict=True):
            torch.mul(of_product, derivative, out=part)
        of_normed = self.gate_up.gradient(of_gate_up)
        return self.before_mlp.gradient(of_normed, trace.middle, trace.middle_inverse, of_result)
