"""The operations of a model alone, at the rate that matrix products reach here: the floor of a forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from core.model import onednn

TRIES = 2
"""Times that each way is tried before one is chosen: X Wᵀ and W Xᵀ by BLAS, and oneDNN with W laid out once."""

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From X [rows, in] and W [out, in]."""


class Products:
    """The linear layers of a float32 model on a CPU, each with input of its own width and a weight of its own.

    All weights together exceed the processor's caches, so that they come from memory each time, as in a real pass.
    """

    def __init__(self, model: PreTrainedModel, head: nn.Module) -> None:
        """Gather the layers of `model`; `head`, the output head, may get fewer rows than the others."""
        self._layers = [module.weight for module in model.modules() if type(module) is nn.Linear and module is not head]
        self._head = [head.weight]
        config = model.config.get_text_config()
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._of_a_pair = 4 * config.num_hidden_layers * config.num_attention_heads * width
        self._packed: dict[int, torch.Tensor] = {}
        if onednn.available():
            with torch.inference_mode():
                for weight in (*self._layers, *self._head):
                    self._packed[id(weight)] = onednn.lay_out(weight, onednn.ROWS)
        self._ways: dict[tuple[bool, int], int] = {}

    @torch.inference_mode()
    def seconds(self, rows: int, heads: int, pairs: int) -> float:
        """Time of a pass now: its linear layers the fastest way, and attention's operations at the same rate.

        Args:
            rows: through the layers.
            heads: rows through the head.
            pairs: of a token and one that it sees, itself included: each costs two products of all heads' width.
        """
        linear_layers = 2 * (rows * sum(weight.numel() for weight in self._layers) + heads * self._head[0].numel())
        seconds = self._fastest(self._layers, rows) + self._fastest(self._head, heads)
        return seconds * (1 + pairs * self._of_a_pair / linear_layers)

    def _fastest(self, weights: Sequence[torch.Tensor], rows: int) -> float:
        """The way is chosen once for each power of two of rows, and for all above 512."""
        key = weights is self._head, min(rows, 512).bit_length()
        if key not in self._ways:
            ways = range(3 if self._packed else 2)
            best = {way: min(_time(self._product(way), weights, rows) for _ in range(TRIES)) for way in ways}
            self._ways[key] = min(best, key=lambda way: best[way])
        return _time(self._product(self._ways[key]), weights, rows)

    def _product(self, way: int) -> Product:
        products: tuple[Product, ...] = (
            linear,
            lambda x, w: torch.mm(w, x.t()),
            lambda x, w: onednn.product(x, self._packed[id(w)]),
        )
        return products[way]


def _time(product: Product, weights: Sequence[torch.Tensor], rows: int) -> float:
    inputs = {width: torch.ones(rows, width) for width in {weight.shape[1] for weight in weights}}
    begun = time.perf_counter()
    for weight in weights:
        product(inputs[weight.shape[1]], weight)
    return time.perf_counter() - begun
