"""Multiplications and additions of training: what an optimizer step needs, and what a model's products alone do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from core.data.batches import Example, supervised_tokens


class Operations:
    """Counts for a model of the Llama kind: its linear layers' parameters. Attention's own products are not counted."""

    def __init__(self, model: Any) -> None:
        layers = model.base_model.layers
        last = layers[-1].self_attn
        self._layers = len(layers)
        self._layer = _parameters(layers[0].modules())
        self._keys_values = _parameters([last.k_proj, last.v_proj])
        self._head = _parameters([model.get_output_embeddings()])

    def step(self, examples: Sequence[Example], virtual_tokens: int, prompts: int = 1) -> int:
        """Of one optimizer step, all that it needs and nothing else: four for each parameter and token.

        Two are those of the forward pass, two those of the gradient of a layer's input; the weights have none. A token
        goes through all layers but the last. There it goes through keys and values alone, and supervised tokens through
        the rest and the output head. The last token of a sequence predicts nothing and is not read. A soft prompt
        sees nothing but itself, so that its tokens count once a step, however many sequences stand behind it. Padding
        counts nowhere.

        Args:
            examples: the effective batch.
            prompts: soft prompts that are trained with that batch each.
        """
        read = sum(example.tokens - 1 for example in examples) + virtual_tokens
        supervised = supervised_tokens(examples)
        products = read * ((self._layers - 1) * self._layer + self._keys_values)
        products += supervised * (self._layer - self._keys_values + self._head)
        return 4 * products * prompts

    def forward(self, rows: int, heads: int) -> int:
        """Of `rows` tokens through all linear layers, and `heads` of them through the output head."""
        return 2 * (rows * self._layers * self._layer + heads * self._head)


def _parameters(modules: Iterable[nn.Module]) -> int:
    return sum(module.weight.numel() for module in modules if isinstance(module, nn.Linear))
