"""A frozen model of the Llama kind on a CPU: loss and gradient of sequences behind prefixes computed before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from core.data.batches import Row
from core.model.memory import free_bytes
from core.training.profile import Section
from core.training.rows.layers import KeysValues, Layer, Norm, Rotation, Trace
from core.training.rows.products import frozen_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Prefix:
    """A soft prompt, and what stands before it, on its way through the layers; `gradients` is what rows sent back.

    Keys, values and gradients are of each layer.
    """

    rotation: Rotation
    traces: list[Trace]
    keys_values: list[KeysValues]
    gradients: list[KeysValues]

    @property
    def length(self) -> int:
        """Tokens, virtual and others."""
        return self.keys_values[0][0].shape[1]


class Abandoned(Exception):
    """Nobody waits for these sequences any more."""


class RowModel:
    """Passes of a few sequences end to end; several may be under way at the same time, in threads of their own."""

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
                x, trace = layer.forward(x, [rotation], [(nothing, nothing)], [len(x)])
                traces.append(trace)
            keys_values = [(trace.sequences[0].keys, trace.sequences[0].values) for trace in traces]
            gradients = [(torch.zeros_like(keys), torch.zeros_like(values)) for keys, values in keys_values]
            return Prefix(rotation, traces, keys_values, gradients)

    @torch.inference_mode()
    def losses(self, prefixes: Sequence[Prefix], rows: Sequence[Row]) -> list[float]:
        """Cross-entropy in nats, summed over the supervised tokens of each row, which stands behind its prefix."""
        x, rotations = self._begin(prefixes, rows)
        for layer, pasts, lasts in self._plan(prefixes, rows):
            x, _ = layer.forward(x, rotations, pasts, lasts)
        return _sums(cross_entropy(self._head(self._norm(x)[0])[0], _column(rows)), rows)

    @torch.inference_mode()
    def gradients(
        self, prefixes: Sequence[Prefix], rows: Sequence[Row], section: Section
    ) -> list[tuple[float, list[KeysValues]]]:
        """Those losses, and the gradients of each row's weight times its loss with regard to its prefix.

        They are of the loss with label smoothing, where there is any, and of the keys and values of each layer.
        """
        with section("forward"):
            x, rotations = self._begin(prefixes, rows)
            traces: list[Trace] = []
            for layer, pasts, lasts in self._plan(prefixes, rows):
                x, trace = layer.forward(x, rotations, pasts, lasts)
                traces.append(trace)
        with section("head"):
            normed, inverse = self._norm(x)
            (logits,), target = self._head(normed), _column(rows)
            losses = _sums(cross_entropy(logits, target), rows)
            smoothed = self._label_smoothing
            of_logits = logits.scatter_add_(1, target, x.new_full(target.shape, smoothed - 1))
            if smoothed:
                of_logits.sub_(smoothed / logits.shape[1])
            for of_row, row in zip(of_logits.split(_lasts(rows)), rows, strict=True):
                of_row.mul_(row.weight)
            of_x = self._norm.gradient(self._head.gradient(of_logits), x, inverse)
        with section("backward"):
            found: list[list[KeysValues]] = [[] for _ in rows]
            for layer in reversed(self._layers):
                self._check_wanted()
                trace = traces.pop()
                sent = [(torch.zeros_like(row.keys), torch.zeros_like(row.values)) for row in trace.sequences]
                of_x = layer.gradient(of_x, trace, rotations, sent)
                for of_prefix, prefix, (of_keys, of_values) in zip(found, prefixes, sent, strict=True):
                    of_prefix.append((of_keys[:, : prefix.length].clone(), of_values[:, : prefix.length].clone()))
        return [(loss, of_prefix[::-1]) for loss, of_prefix in zip(losses, found, strict=True)]

    @torch.inference_mode()
    def add(self, prefix: Prefix, gradients: Sequence[KeysValues]) -> None:
        """Add what `gradients` gave of a row to what the prefix has been sent back."""
        for (keys, values), (more_keys, more_values) in zip(prefix.gradients, gradients, strict=True):
            keys.add_(more_keys)
            values.add_(more_values)

    def prefix_gradient(self, prefix: Prefix, virtual_tokens: int, section: Section) -> torch.Tensor:
        """The gradient of the soft prompt [V, H] from all that was sent back; the prefix is used up."""
        with torch.inference_mode(), section("backward"):
            of_x = torch.zeros_like(prefix.traces[-1].x)
            for layer, of_keys_values in zip(reversed(self._layers), reversed(prefix.gradients), strict=True):
                of_x = layer.gradient(of_x, prefix.traces.pop(), [prefix.rotation], [of_keys_values])
        return of_x[-virtual_tokens:].clone()  # out here, or no optimizer may change it

    def _begin(self, prefixes: Sequence[Prefix], rows: Sequence[Row]) -> tuple[torch.Tensor, list[Rotation]]:
        """Embedded input [n, H] of rows end to end, of which the last target predicts nothing, and their rotations."""
        tokens = [[*row.example.context, *row.example.target[:-1]] for row in rows]
        x = self._embedding(torch.tensor(list(chain.from_iterable(tokens))))
        parts = x.split([len(row) for row in tokens])
        return x, [self._rotation(prefix.length, part) for prefix, part in zip(prefixes, parts, strict=True)]

    def _plan(
        self, prefixes: Sequence[Prefix], rows: Sequence[Row]
    ) -> Iterator[tuple[Layer, list[KeysValues], list[int]]]:
        """Each layer, what each row attends to before itself, and how many of its last outputs anybody needs."""
        tokens = [len(row.example.context) + len(row.example.target) - 1 for row in rows]
        for number, layer in enumerate(self._layers):
            self._check_wanted()
            pasts = [prefix.keys_values[number] for prefix in prefixes]
            yield layer, pasts, _lasts(rows) if layer is self._layers[-1] else tokens

    def _check_wanted(self) -> None:
        if self._abandoned:
            raise Abandoned

    def _rotation(self, start: int, x: torch.Tensor) -> Rotation:
        """Of len(x) tokens, the first of which is at position `start`."""
        cosines, sines = self._rotary(x[None], position_ids=torch.arange(start, start + len(x))[None])
        half = cosines.shape[-1] // 2  # the second half repeats the first
        return Rotation(cosines[0, :, None, :half].contiguous(), sines[0, :, None, :half].contiguous())


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """In nats, of each of `target` [n, 1]: [n] in float64; in place of `logits` [n, vocabulary] are probabilities
    afterwards."""
    logits.sub_(logits.amax(dim=-1, keepdim=True))
    chosen = logits.gather(1, target).double()
    total = logits.exp_().sum(dim=-1, keepdim=True)
    logits.div_(total)
    return (total.double().log() - chosen).squeeze(1)


def _sums(losses: torch.Tensor, rows: Sequence[Row]) -> list[float]:
    """Of each row, from those of all supervised tokens [n]."""
    return [float(of_row.sum()) for of_row in losses.split(_lasts(rows))]


def _lasts(rows: Sequence[Row]) -> list[int]:
    """Supervised tokens of each row."""
    return [len(row.example.target) for row in rows]


def _column(rows: Sequence[Row]) -> torch.Tensor:
    return torch.tensor([token for row in rows for token in row.example.target])[:, None]
