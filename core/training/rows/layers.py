"""A decoder layer of the Llama kind (SmolLM2, Qwen2.5, Llama) for one sequence, with its gradient written out.

What autograd does for one sequence after the other on a CPU, without what it does besides: no weight gradients, no
copies of keys and values for each group of heads, products of the same input as one, the residual sums in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import silu

from core.training.rows.attention import attend, attend_gradient
from core.training.rows.products import frozen_linear


class Norm:
    """Root mean square normalization with a frozen weight, x / rms(x) · w."""

    def __init__(self, module: nn.Module) -> None:
        self.weight: torch.Tensor = module.weight.detach()  # type: ignore[union-attr, operator]
        self.epsilon: float = module.variance_epsilon  # type: ignore[assignment]

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The result [n, H] and 1 / rms(x) [n, 1], which the gradient needs."""
        inverse = (x * x).mean(dim=-1, keepdim=True).add_(self.epsilon).rsqrt_()
        return (x * inverse).mul_(self.weight), inverse

    def gradient(self, of_result: torch.Tensor, x: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        """The gradient of x, in place of that of the result."""
        of_result.mul_(self.weight)
        along = (of_result * x).sum(dim=-1, keepdim=True).mul_(inverse.pow(3)).div_(-x.shape[-1])
        return of_result.mul_(inverse).addcmul_(x, along)


@dataclass(frozen=True)
class Rotation:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864) of n tokens: cosines and sines [n, 1, width / 2]."""

    cosines: torch.Tensor
    sines: torch.Tensor

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
class Trace:
    """What the gradient of a layer needs of its forward pass."""

    x: torch.Tensor
    inverse: torch.Tensor
    query: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    probabilities: list[torch.Tensor | None]
    middle: torch.Tensor
    middle_inverse: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor


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
        self, x: torch.Tensor, rotation: Rotation, keys: torch.Tensor, values: torch.Tensor, last: int
    ) -> tuple[torch.Tensor, Trace]:
        """The layer's output at the last tokens of one sequence.

        Args:
            x: [n, H].
            keys, values: [shared, V, width] of the tokens before it.
            last: number of tokens at the end whose output is wanted.

        Returns:
            [last, H], and the trace, whose keys and values are those of all V + n tokens.
        """
        tokens, past = len(x), keys.shape[1]
        normed, inverse = self.before_attention(x)
        queries, new_keys, new_values = (part.view(tokens, -1, self.width) for part in self.query_key_value(normed))
        query = x.new_empty(self.shared, self.heads // self.shared, last, self.width)
        rotation.scaled(self.scaling).turn(queries[-last:], query.view(self.heads, last, self.width).transpose(0, 1))
        all_keys, all_values = (x.new_empty(self.shared, past + tokens, self.width) for _ in range(2))
        all_keys[:, :past], all_values[:, :past] = keys, values
        rotation.turn(new_keys, all_keys[:, past:].transpose(0, 1))
        all_values[:, past:] = new_values.transpose(0, 1)
        attended, probabilities = attend(query, all_keys, all_values)
        (middle,) = self.output(attended.view(last, -1))
        middle.add_(x[-last:])
        normed, middle_inverse = self.before_mlp(middle)
        gate, up = self.gate_up(normed)
        (result,) = self.down(silu(gate).mul_(up))
        return result.add_(middle), Trace(
            x, inverse, query, all_keys, all_values, probabilities, middle, middle_inverse, gate, up
        )

    def gradient(
        self, of_result: torch.Tensor, trace: Trace, rotation: Rotation, of_keys: torch.Tensor, of_values: torch.Tensor
    ) -> torch.Tensor:
        """The gradient of x [n, H].

        Args:
            of_result: [last, H].
            of_keys, of_values: [shared, V + n, width], to which this layer's own are added.
        """
        tokens, last = len(trace.x), len(of_result)
        of_middle = self._mlp_gradient(of_result, trace)
        of_attended = self.output.gradient(of_middle).view(last, self.shared, -1, self.width)
        of_query = attend_gradient(
            of_attended, trace.query, trace.keys, trace.values, trace.probabilities, of_keys, of_values
        )
        of_joined = of_result.new_empty(tokens, self.heads + 2 * self.shared, self.width)
        of_joined[:-last, : self.heads] = 0
        rotation.scaled(self.scaling).turn(
            of_query.view(self.heads, last, self.width).transpose(0, 1), of_joined[-last:, : self.heads], back=True
        )
        rotation.turn(
            of_keys[:, -tokens:].transpose(0, 1), of_joined[:, self.heads : self.heads + self.shared], back=True
        )
        of_joined[:, self.heads + self.shared :] = of_values[:, -tokens:].transpose(0, 1)
        of_x = self.query_key_value.gradient(of_joined.view(tokens, -1))
        self.before_attention.gradient(of_x, trace.x, trace.inverse)[-last:].add_(of_middle)
        return of_x

    def _mlp_gradient(self, of_result: torch.Tensor, trace: Trace) -> torch.Tensor:
        """The gradient of what the MLP is given, and of what it is added to: their sum [last, H]."""
        gate, up = trace.gate, trace.up
        of_product = self.down.gradient(of_result)
        of_gate_up = gate.new_empty(len(gate), 2 * gate.shape[1])
        of_gate, of_up = of_gate_up.chunk(2, dim=1)
        sigmoid = torch.sigmoid(gate)
        activated = sigmoid * gate
        torch.mul(of_product, activated, out=of_up)
        torch.mul(of_product, up, out=of_gate)
        of_gate.mul_(sigmoid.add_(activated.addcmul_(activated, sigmoid, value=-1)))  # σ + a - aσ, the slope of a = xσ
        of_normed = self.gate_up.gradient(of_gate_up)
        return self.before_mlp.gradient(of_normed, trace.middle, trace.middle_inverse).add_(of_result)
