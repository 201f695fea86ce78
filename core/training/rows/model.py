"""A frozen model of the Llama kind on a CPU: loss and gradient of sequences behind prefixes beside them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from core.contract.estimate import SCORED_TOKENS
from core.data.batches import Row
from core.model.memory import free_bytes
from core.training.profile import Section
from core.training.rows.layers import KeysValues, Layer, Norm, Rotation, Trace
from core.training.rows.products import frozen_linear
from core.training.rows.workspace import Take

if TYPE_CHECKING:
    from transformers import PreTrainedModel


LOOK_SECONDS = 0.5
"""How often somebody looks after other things while what is waited for takes long."""


class Abandoned(Exception):
    """Nobody waits for these sequences any more."""


class Exchange:
    """What prefixes and the groups of rows behind them give each other, layer by layer, from threads of their own.

    It ends with the thread that made it, as when a process ends within a pass.

    Args:
        lengths: tokens of each prompt's prefix, virtual and others.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self._keys_values: dict[int, list[KeysValues]] = {}
        self._gradients: dict[tuple[int, int], dict[int, KeysValues]] = {}
        self._changed, self._ended = threading.Condition(), False
        self._owner = threading.current_thread()

    def end(self) -> None:
        """From now on whoever waits or looks gets `Abandoned`."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def give_keys_values(self, layer: int, of_prefixes: list[KeysValues]) -> None:
        """Those of each prefix."""
        with self._changed:
            self._keys_values[layer] = of_prefixes
            self._changed.notify_all()

    def keys_values(self, layer: int) -> list[KeysValues]:
        """Those of each prefix, as soon as they are there."""
        with self._changed:
            self._wait_for(lambda: layer in self._keys_values)
            return self._keys_values[layer]

    def give_gradients(self, layer: int, group: int, by_prompt: dict[int, KeysValues]) -> None:
        """What a group of rows sends back to the prefixes in front of it."""
        with self._changed:
            self._gradients[layer, group] = by_prompt
            self._changed.notify_all()

    def gradients(self, layer: int, group: int) -> dict[int, KeysValues]:
        """What a group of rows sent back, as soon as it is there, and once."""
        with self._changed:
            self._wait_for(lambda: (layer, group) in self._gradients)
            return self._gradients.pop((layer, group))

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        while not self._changed.wait_for(lambda: self._ended or ready(), LOOK_SECONDS):
            self._ended = not self._owner.is_alive()
        self.check_wanted()

    def check_wanted(self) -> None:
        """Raise `Abandoned` where that is so."""
        if self._ended:
            raise Abandoned


class RowModel:
    """Passes of a few sequences end to end; several may be under way at the same time, in threads of their own."""

    def __init__(self, model: PreTrainedModel, label_smoothing: float = 0.0) -> None:
        """Read a model whose parts are known, and copy weights as `products` does where memory allows."""
        inner: Any = model.base_model
        head: Any = model.get_output_embeddings()
        size = sum(parameter.nbytes for parameter in (*inner.layers.parameters(), *head.parameters()))
        laid_out = size < free_bytes(torch.device("cpu")) // 3  # at most one and a half copies
        self._label_smoothing = label_smoothing
        self._embedding: Callable[[torch.Tensor], torch.Tensor] = model.get_input_embeddings()
        self._rotary: Callable[..., tuple[torch.Tensor, torch.Tensor]] = inner.rotary_emb
        with torch.inference_mode():
            self._layers = [Layer(layer, laid_out=laid_out) for layer in inner.layers]
            self._norm = Norm(inner.norm)
            self._head = frozen_linear(head, laid_out=laid_out)

    def prefixes(
        self, before: Sequence[Sequence[int]], prompts: Sequence[torch.Tensor], exchange: Exchange,
        groups: int | None = None, take: Take | None = None,
    ) -> list[torch.Tensor]:
        """Take tokens, and the soft prompt [V, H] behind them, through the layers, and back what groups of rows send.

        Returns:
            The gradient of each soft prompt [V, H]; nothing where no number of groups is given.
        """
        of_prefixes = self._prefixes(before, prompts, exchange, groups, take)
        # cloned out here, or no optimizer may change it
        return [part[-len(prompt) :].clone() for part, prompt in zip(of_prefixes, prompts, strict=groups is not None)]

    @torch.inference_mode()
    def _prefixes(
        self, before: Sequence[Sequence[int]], prompts: Sequence[torch.Tensor], exchange: Exchange,
        groups: int | None, take: Take | None,
    ) -> Sequence[torch.Tensor]:
        """The gradient of each prefix [tokens, H]; nothing where no number of groups is given."""
        x = torch.cat([
            part for tokens, prompt in zip(before, prompts, strict=True)
            for part in (self._embedding(torch.tensor(tokens, dtype=torch.long)), prompt)
        ])
        lengths = exchange.lengths
        rotations, traces = [self._rotation(0, part) for part in x.split(lengths)], []
        for number, layer in enumerate(self._layers):
            exchange.check_wanted()
            nothing = x.new_empty(layer.shared, 0, layer.width)
            x, trace = layer.forward(x, rotations, [(nothing, nothing)] * len(lengths), lengths, take)
            exchange.give_keys_values(number, [(sequence.keys, sequence.values) for sequence in trace.sequences])
            if groups is not None:
                traces.append(trace)
        if groups is None:
            return []
        of_x = torch.zeros_like(x)
        for number, layer in reversed([*enumerate(self._layers)]):
            trace = traces.pop()
            sent = [(torch.zeros_like(prefix.keys), torch.zeros_like(prefix.values)) for prefix in trace.sequences]
            for group in range(groups):  # in this order, whoever was first
                for prompt, gradients in exchange.gradients(number, group).items():
                    _add(sent[prompt], gradients)
            of_x = layer.gradient(of_x, trace, rotations, sent)
        return of_x.split(lengths)

    @torch.inference_mode()
    def losses(self, rows: Sequence[Row], exchange: Exchange) -> list[float]:
        """Cross-entropy in nats, summed over the supervised tokens of each row, which stands behind its prefix."""
        x, rotations = self._begin(rows, exchange)
        for layer, pasts, lasts in self._plan(rows, exchange):
            x, _ = layer.forward(x, rotations, pasts, lasts)
        parts = zip(self._norm(x)[0].split(SCORED_TOKENS), _column(rows).split(SCORED_TOKENS), strict=True)
        return _sums([cross_entropy(self._head(some)[0], target) for some, target in parts], rows)

    @torch.inference_mode()
    def gradients(
        self, rows: Sequence[Row], exchange: Exchange, group: int, take: Take, section: Section
    ) -> list[float]:
        """Those losses; the gradients of each row's weight times its loss go to its prefix, layer by layer.

        They are of the loss with label smoothing, where there is any, and of the keys and values of each layer.
        """
        with section("forward"):
            x, rotations = self._begin(rows, exchange)
            traces: list[Trace] = []
            for layer, pasts, lasts in self._plan(rows, exchange):
                x, trace = layer.forward(x, rotations, pasts, lasts, take)
                traces.append(trace)
        with section("head"):
            normed, inverse = self._norm(x)
            parts = (part.split(SCORED_TOKENS) for part in (normed, _column(rows), _weights(rows)))
            losses, of_normed = zip(*map(self._scored, *parts), strict=True)
            of_x = self._norm.gradient(torch.cat(of_normed), x, inverse, torch.zeros_like(x))
        with section("backward"):
            for number, layer in reversed([*enumerate(self._layers)]):
                exchange.check_wanted()
                trace = traces.pop()
                sent = [(torch.zeros_like(row.keys), torch.zeros_like(row.values)) for row in trace.sequences]
                of_x = layer.gradient(of_x, trace, rotations, sent, of_input=number > 0)
                exchange.give_gradients(number, group, _of_prefixes(rows, sent, exchange.lengths))
        return _sums(losses, rows)

    def _scored(
        self, normed: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy [n] of the targets [n, 1] of some tokens, and the gradient of `normed` [n, H], weighted."""
        (logits,), smoothed = self._head(normed), self._label_smoothing
        losses = cross_entropy(logits, target)
        of_logits = logits.scatter_add_(1, target, weight.new_full(target.shape, smoothed - 1))
        if smoothed:
            of_logits.sub_(smoothed / logits.shape[1])
        return losses, self._head.gradient(of_logits.mul_(weight))

    def _begin(self, rows: Sequence[Row], exchange: Exchange) -> tuple[torch.Tensor, list[Rotation]]:
        """Embedded input [n, H] of rows end to end, of which the last target predicts nothing, and their rotations."""
        tokens = [[*row.example.context, *row.example.target[:-1]] for row in rows]
        x = self._embedding(torch.tensor(list(chain.from_iterable(tokens))))
        parts = x.split([len(row) for row in tokens])
        return x, [self._rotation(exchange.lengths[row.prompt], part) for row, part in zip(rows, parts, strict=True)]

    def _plan(self, rows: Sequence[Row], exchange: Exchange) -> Iterator[tuple[Layer, list[KeysValues], list[int]]]:
        """Each layer, what each row attends to before itself, and how many of its last outputs anybody needs."""
        tokens = [len(row.example.context) + len(row.example.target) - 1 for row in rows]
        for number, layer in enumerate(self._layers):
            of_prefixes = exchange.keys_values(number)
            pasts = [of_prefixes[row.prompt] for row in rows]
            yield layer, pasts, _lasts(rows) if layer is self._layers[-1] else tokens

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


def _of_prefixes(
    rows: Sequence[Row], sent: Sequence[KeysValues], lengths: Sequence[int]
) -> dict[int, KeysValues]:
    """What is sent back to each prompt's prefix, out of the gradients of all that each row attends to."""
    found: dict[int, KeysValues] = {}
    for row, (of_keys, of_values) in zip(rows, sent, strict=True):
        before = slice(lengths[row.prompt])
        if row.prompt in found:
            _add(found[row.prompt], (of_keys[:, before], of_values[:, before]))
        else:
            found[row.prompt] = of_keys[:, before].clone(), of_values[:, before].clone()
    return found


def _add(total: KeysValues, more: KeysValues) -> None:
    for part, other in zip(total, more, strict=True):
        part.add_(other)


def _sums(losses: Sequence[torch.Tensor], rows: Sequence[Row]) -> list[float]:
    """Of each row, from those of all supervised tokens, some after the others."""
    return [float(of_row.sum()) for of_row in torch.cat([*losses]).split(_lasts(rows))]


def _lasts(rows: Sequence[Row]) -> list[int]:
    """Supervised tokens of each row."""
    return [len(row.example.target) for row in rows]


def _column(rows: Sequence[Row]) -> torch.Tensor:
    return torch.tensor([token for row in rows for token in row.example.target])[:, None]


def _weights(rows: Sequence[Row]) -> torch.Tensor:
    """Of each supervised token [n, 1]."""
    return torch.tensor([row.weight for row in rows for _ in row.example.target])[:, None]
