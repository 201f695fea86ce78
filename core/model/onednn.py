"""Products with weights laid out as oneDNN's kernels read them, on a CPU in float32.

torch multiplies by its BLAS, which lays W out anew in every product and shares few rows out to the cores badly.
oneDNN takes W as it was laid out once. The sums are the same, in another order.
"""

from __future__ import annotations

import torch


def available() -> bool:
    """Whether this torch has oneDNN and the two operators, which torch.compile uses and no documentation promises."""
    operators = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operators)


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
