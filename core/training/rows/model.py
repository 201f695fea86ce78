"""A frozen model of the Llama kind on a CPU: loss and gradient of one sequence behind a prefix computed before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from core.data.batches import Example, Row
from core.model.memory import free_bytes
from core.training.profile import Section
from core.training.rows.layers import Layer, Norm, Rotation, Trace
from core.training.rows.products import frozen_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values [key-value heads, tokens, width] of each layer, or their gradients."""


@dataclass(frozen=True)
class Prefix:
    """A soft prompt, and what stands before it, on its way through the layers; `gradients` is what rows sent back."""

    rotation: Rotation
    traces: list[Trace]
    keys_values: KeysValues
    gradients: KeysValues

    @property
    def length(self) -> int:
        """Tokens, virtual and others."""
        return self.keys_values[0][0].shape[1]


class Abandoned(Exception):
    """Nobody waits for this sequence any more."""


class RowModel:
    """Passes of single sequences; several may be under way at the same time, in threads of their own."""

    def __init__(self, model: PreTrainedModel, label_smoothing: float = 0.0) -> None:
        """Read a model whose parts are known, and copy weights as `products` does where memory allows."""
        inner: Any = model.base_model
        head: Any = model.get_output_embeddings()
        size = sum(parameter.nbytes for parameter in (*inner.layers.parameters(), *head.parameters()))
        laid_out = size < free_bytes(torch.device("cpu")) // 2
        self._abandoned, self._label_smoothing = False, label_smoothing
        self._embedding: Callable[[torch.Tensor], torch.Tensor] = model.get_input_embeddings()
        self._rotary: Callable[..., tuple[torch.Tensor, torch.Tensor]] = inner.rotary_emb
        with torch.inference_mode():
            self._layers = [Layer(layer, laid_out=laid_out) for layer in inner.layers]
            self._norm = Norm(inner.norm)
            self._head = frozen_linear(head, laid_out=laid_out)

    @contextlib.contextmanager
    def abandoned(self) -> Iterator[None]:
        """While the block runs, sequences under way in other threads end at their next layer, with `Abandoned`."""
        self._abandoned = True
        try:
            yield
        finally:
            self._abandoned = False

    @torch.inference_mode()
    def prefix(self, before: Sequence[int], prompt: torch.Tensor, section: Section) -> Prefix:
        """Take tokens, and the soft prompt [V, H] behind them, through the layers."""
        with section("forward"):
            x = torch.cat([self._embedding(torch.tensor(before, dtype=torch.long)), prompt])
            rotation = self._rotation(0, x)
            traces: list[Trace] = []
            for layer in self._layers:
                nothing = x.new_empty(layer.shared, 0, layer.width)
                x, trace = layer.forward(x, rotation, nothing, nothing, last=len(x))
                traces.append(trace)
            keys_values = [(trace.keys, trace.values) for trace in traces]
            gradients = [(torch.zeros_like(keys), torch.zeros_like(values)) for keys, values in keys_values]
            return Prefix(rotation, traces, keys_values, gradients)

    @torch.inference_mode()
    def loss(self, prefix: Prefix, row: Row) -> float:
        """Cross-entropy in nats, summed over the row's supervised tokens."""
        x, rotation = self._begin(prefix, row.example)
        for layer, (keys, values), last in self._plan(prefix, row.example, len(x)):
            x, _ = layer.forward(x, rotation, keys, values, last)
        return cross_entropy(self._head(self._norm(x)[0])[0], _column(row.example))

    @torch.inference_mode()
    def gradient(self, prefix: Prefix, row: Row, section: Section) -> tuple[float, KeysValues]:
        """That loss, and the gradient of the row's weight times it with regard to the prefix's keys and values.

        The gradient is that of the loss with label smoothing, where there is any.
        """
        with section("forward"):
            x, rotation = self._begin(prefix, row.example)
            traces: list[Trace] = []
            for layer, (keys, values), last in self._plan(prefix, row.example, len(x)):
                x, trace = layer.forward(x, rotation, keys, values, last)
                traces.append(trace)
        with section("head"):
            normed, inverse = self._norm(x)
            (logits,), target = self._head(normed), _column(row.example)
            loss = cross_entropy(logits, target)
            smoothed = self._label_smoothing
            of_logits = logits.scatter_add_(1, target, x.new_full(target.shape, smoothed - 1))
            if smoothed:
                of_logits.sub_(smoothed / logits.shape[1])
            of_logits.mul_(row.weight)
            of_x = self._norm.gradient(self._head.gradient(of_logits), x, inverse)
        with section("backward"):
            gradients = []
            for layer in reversed(self._layers):
                self._check_wanted()
                trace = traces.pop()
                of_keys, of_values = torch.zeros_like(trace.keys), torch.zeros_like(trace.values)
                of_x = layer.gradient(of_x, trace, rotation, of_keys, of_values)
                gradients.append((of_keys[:, : prefix.length].clone(), of_values[:, : prefix.length].clone()))
        return loss, gradients[::-1]

    @torch.inference_mode()
    def add(self, prefix: Prefix, gradients: KeysValues) -> None:
        """Add what `gradient` gave to what the prefix has been sent back."""
        for (keys, values), (more_keys, more_values) in zip(prefix.gradients, gradients, strict=True):
            keys.add_(more_keys)
            values.add_(more_values)

    def prefix_gradient(self, prefix: Prefix, virtual_tokens: int, section: Section) -> torch.Tensor:
        """The gradient of the soft prompt [V, H] from all that was sent back; the prefix is used up."""
        with torch.inference_mode(), section("backward"):
            of_x = torch.zeros_like(prefix.traces[-1].x)
            for layer, (of_keys, of_values) in zip(reversed(self._layers), reversed(prefix.gradients), strict=True):
                of_x = layer.gradient(of_x, prefix.traces.pop(), prefix.rotation, of_keys, of_values)
        return of_x[-virtual_tokens:].clone()  # out here, or no optimizer may change it

    def _begin(self, prefix: Prefix, example: Example) -> tuple[torch.Tensor, Rotation]:
        """Embedded input [n, H] of a row, whose last target predicts nothing, and its rotation."""
        x = self._embedding(torch.tensor([*example.context, *example.target[:-1]]))
        return x, self._rotation(prefix.length, x)

    def _plan(
        self, prefix: Prefix, example: Example, tokens: int
    ) -> Iterator[tuple[Layer, tuple[torch.Tensor, torch.Tensor], int]]:
        """Each layer, what it attends to before the row, and how many of the row's last outputs anybody needs."""
        for layer, keys_values in zip(self._layers, prefix.keys_values, strict=True):
            self._check_wanted()
            yield layer, keys_values, len(example.target) if layer is self._layers[-1] else tokens

    def _check_wanted(self) -> None:
        if self._abandoned:
            raise Abandoned

    def _rotation(self, start: int, x: torch.Tensor) -> Rotation:
        """Of len(x) tokens, the first of which is at position `start`."""
        cosines, sines = self._rotary(x[None], position_ids=torch.arange(start, start + len(x))[None])
        half = cosines.shape[-1] // 2  # the second half repeats the first
        return Rotation(cosines[0, :, None, :half].contiguous(), sines[0, :, None, :half].contiguous())


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> float:
    """In nats, summed over `target` [n, 1]; in place of `logits` [n, vocabulary] are the probabilities afterwards."""
    logits.sub_(logits.amax(dim=-1, keepdim=True))
    chosen = logits.gather(1, target).double().sum()
    total = logits.exp_().sum(dim=-1, keepdim=True)
    logits.div_(total)
    return float(total.double().log().sum() - chosen)


def _column(example: Example) -> torch.Tensor:
    return torch.tensor(example.target)[:, None]
