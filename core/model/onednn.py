"""Products with weights laid out as oneDNN's kernels read them, on a CPU in float32.

torch multiplies by its BLAS, which lays W out anew in every product and shares few rows out to the cores badly.
oneDNN takes W as it was laid out once. The sums are the same, in another order.
"""

from __future__ import annotations

import torch
from torch import nn

ROWS = 32
"""Rows that `LaidOut` makes its layout for; with it, products of 3 to 512 rows are as fast as with one of their own."""


def available() -> bool:
    """Whether this torch has oneDNN and the operators, which torch.compile uses and no documentation promises."""
    operators = torch.ops.mkldnn
    return (torch.backends.mkldnn.is_available() and hasattr(operators, "_reorder_linear_weight")
            and hasattr(operators, "_linear_pointwise") and hasattr(operators._linear_pointwise, "binary"))


def lay_out(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """A copy of a float32 weight [out, in] on a CPU, opaque to all but `product`; as many bytes again.

    Args:
        rows: of the inputs that the layout is made for; products of other numbers of rows are right, if less fast.
    """
    result: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
    return result


def product(inputs: torch.Tensor, laid_out_weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """inputs [..., in] Wᵀ + bias [out] as [..., out], with W as `lay_out` gave it; no gradient flows through."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, laid_out_weight, bias, "none", [], "")
    return result


class LaidOut:
    """A frozen linear layer with its weight laid out, and what follows a product taken into it.

    All products of SmolLM2-135M by torch's BLAS and so, processor time in ms on two cores with AVX-512 (MKL 2024.2
    against oneDNN 3.12): 1 row 46 → 43, 4 rows 67 → 34, 8 rows 114 → 47, 16 rows 131 → 62, 32 rows 186 → 105, 64 rows
    282 → 186, 512 rows 1665 → 1347.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """Copy a weight [out, in]; the bias [out] is kept as it is."""
        self._weight = lay_out(weight, ROWS)
        self._bias = None if bias is None else bias.detach()

    @classmethod
    def of(cls, layer: nn.Linear) -> LaidOut:
        """A layer's."""
        return cls(layer.weight, layer.bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """layer(x) [..., out], of x [..., in]."""
        return product(x, self._weight, self._bias)

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        """silu(layer(x))."""
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "swish", [], "")
        return result

    def added(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """layer(x) + other, of other [..., out]."""
        return self._binary(x, other, "add")

    def multiplied(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """layer(x) · other, of other [..., out]."""
        return self._binary(x, other, "mul")

    def _binary(self, x: torch.Tensor, other: torch.Tensor, kind: str) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, kind)
        return result
