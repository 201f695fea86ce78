"""A frozen model of the Llama kind over many sequences end to end: the logits of their supervised tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import linear, rms_norm

from core.data.batches import Row
from core.training.packed.kernels import Bounds, Gated, Turned, attend

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines [T, 1, width / 2] of each token's position."""


@dataclass(frozen=True)
class Pack:
    """Rows end to end: S sequences of T tokens together, of which N are followed by a supervised one.

    The last token of a sequence predicts nothing and is left out.
    """

    ids: torch.Tensor
    """[T]: token ids; where a virtual token stands, any."""
    positions: torch.Tensor
    """[T]: from 0 in each sequence."""
    virtual: torch.Tensor
    """[S × V]: the places of virtual tokens."""
    prompts: torch.Tensor
    """[S]: which soft prompt each sequence has."""
    bounds: Bounds
    places: torch.Tensor
    """[N]: the token before each supervised one, whose output predicts it."""
    targets: torch.Tensor
    """[N]: the supervised tokens."""
    owners: torch.Tensor
    """[N]: the soft prompt of each."""
    weights: torch.Tensor
    """[N]: the factors of their losses."""

    @property
    def rows(self) -> int:
        """S."""
        return len(self.prompts)


def pack(rows: Sequence[Row], virtual_tokens: int, device: torch.device) -> Pack:
    """Lay rows end to end on a device, each with room for its soft prompt; in one copy, and one of the weights."""
    ids: list[int] = []
    positions: list[int] = []
    virtual: list[int] = []
    places: list[int] = []
    starts = [0]
    for row in rows:
        example, start = row.example, len(ids)
        ids += [*example.before, *[0] * virtual_tokens, *example.context, *example.target[:-1]]
        positions += range(len(ids) - start)
        first = start + len(example.before)
        virtual += range(first, first + virtual_tokens)
        places += range(len(ids) - len(example.target), len(ids))
        starts.append(len(ids))
    targets = [token for row in rows for token in row.example.target]
    owners = [row.prompt for row in rows for _ in row.example.target]
    weights = [row.weight for row in rows for _ in row.example.target]
    numbers = [ids, positions, virtual, [row.prompt for row in rows], starts, places, targets, owners]
    flat = torch.tensor([number for part in numbers for number in part]).to(device, non_blocking=True)
    on_device = flat.split([len(part) for part in numbers])
    lengths = [end - start for start, end in zip(starts, starts[1:], strict=False)]
    bounds = Bounds(on_device[4].int(), lengths)
    return Pack(*on_device[:4], bounds, *on_device[5:], torch.tensor(weights).to(device, non_blocking=True))


class PackedModel:
    """Passes of packs; autograd has the gradient of the soft prompts, and nothing of the frozen weights."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Read a model whose parts are known; the projections of attention are copied, side by side."""
        inner: Any = model.base_model
        self._embedding = model.get_input_embeddings()
        self._rotary = inner.rotary_emb
        self._layers = [Layer(layer) for layer in inner.layers]
        self._norm = Norm(inner.norm)
        self._head: Any = model.get_output_embeddings()

    def hidden(self, prompts: torch.Tensor, batch: Pack) -> torch.Tensor:
        """What the output head takes, [N, H]: the normed states at `batch.places`.

        Args:
            prompts: [K, V, H] in float32; the gradients of a prompt's sequences are added up in that type.
        """
        x = self._embedding(batch.ids)
        chosen = prompts.expand(batch.rows, -1, -1) if len(prompts) == 1 else prompts.index_select(0, batch.prompts)
        x = x.index_copy(0, batch.virtual, chosen.to(x.dtype).flatten(0, 1))
        rotation = self._rotation(batch.positions, x)
        for layer in self._layers:
            last = layer is self._layers[-1]
            x = layer(x, rotation, batch.bounds, batch.places if last else None)
        return self._norm(x)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [N, vocabulary] in float32."""
        return linear(hidden, self._head.weight, self._head.bias).float()

    def _rotation(self, positions: torch.Tensor, x: torch.Tensor) -> Rotation:
        cosines, sines = self._rotary(x[None], position_ids=positions[None])
        half = cosines.shape[-1] // 2  # the second half repeats the first
        return cosines[0, :, None, :half].contiguous(), sines[0, :, None, :half].contiguous()


class Norm:
    """Root mean square normalization with a frozen weight."""

    def __init__(self, module: Any) -> None:
        self._weight: torch.Tensor = module.weight.detach()
        self._epsilon: float = module.variance_epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x / rms(x) · w, of x [T, H]."""
        return rms_norm(x, self._weight.shape, self._weight, self._epsilon)


class Layer:
    """One decoder layer: x + attention(norm(x)), then that + mlp(norm(that))."""

    def __init__(self, module: Any) -> None:
        attention, mlp = module.self_attn, module.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._width: int = attention.head_dim
        self._heads = attention.q_proj.out_features // self._width
        self._shared = attention.k_proj.out_features // self._width
        self._scaling: float = attention.scaling
        self._before_attention, self._before_mlp = Norm(module.input_layernorm), Norm(module.post_attention_layernorm)
        with torch.no_grad():
            self._joined = torch.cat([projection.weight for projection in projections])
            biases = [projection.bias for projection in projections]
            self._joined_bias = None if biases[0] is None else torch.cat(biases)
        self._output, self._gate, self._up, self._down = attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def __call__(
        self, x: torch.Tensor, rotation: Rotation, bounds: Bounds, wanted: torch.Tensor | None
    ) -> torch.Tensor:
        """The layer's output [T, H] for x [T, H], or [N, H] at the places that are wanted."""
        joined = linear(self._before_attention(x), self._joined, self._joined_bias)
        query, key, value = Turned.apply(  # type: ignore[no-untyped-call]
            joined.view(len(x), -1, self._width), *rotation, self._heads, self._shared
        )
        attended = attend(query, key, value, bounds, self._scaling).flatten(1)
        if wanted is not None:
            attended, x = attended.index_select(0, wanted), x.index_select(0, wanted)
        x = _added(x, attended, self._output)
        normed = self._before_mlp(x)
        gated = Gated.apply(self._gate(normed), self._up(normed))  # type: ignore[no-untyped-call]
        return _added(x, gated, self._down)


def _added(x: torch.Tensor, inputs: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    """x + layer(inputs), the sum within the product."""
    if layer.bias is not None:
        x = x + layer.bias
    return torch.addmm(x, inputs, layer.weight.t())
