"""Completing prompts with a frozen language model behind a shared prefix.

Continuous batching: a fixed number of slots, each with one request; when its completion ends, the slot takes the next
request at once. So a step never computes rows that are done, as a batch that runs until its slowest row stops does.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal

import torch

from core.contract.errors import DataError
from core.generation.forward import Forward, check_supported
from core.generation.sampling import next_tokens, request_generator
from core.generation.stopping import Detokenizer, cut_at_stop
from core.generation.streaming import GrowingText

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FinishReason = Literal["stop", "eos", "length"]

PREFILL_TOKENS = 1024
"""Prompts are encoded in groups of at most this many tokens, padding included: enough to keep the processor busy."""
REFILL_SHARE = 8
"""Slots are refilled when one in this many is free: a prompt alone costs about a sixth more than in a group of four."""
FIRST_ROOM = 256
"""Cache room for generated tokens at the start; it grows when a completion gets longer."""


@dataclass(frozen=True)
class Request:
    """One completion to make: the tokens after the shared prefix, and which of a problem's samples it is."""

    task_id: str
    token_ids: tuple[int, ...]
    sample: int = 0


@dataclass(frozen=True)
class DecodingSettings:
    """How to complete; ranges are those of `InferenceSettings`. `slots` is the number of sequences decoded at once."""

    max_new_tokens: int
    temperature: float
    top_p: float
    stop_sequences: tuple[str, ...]
    seed: int
    slots: int


@dataclass(frozen=True)
class Completion:
    """A completed request."""

    request: Request
    text: str
    """What was generated, before the first stop sequence."""
    token_ids: tuple[int, ...]
    """All generated tokens, those of a stop sequence included, without the end-of-text token."""
    finish_reason: FinishReason
    seconds: float
    """From the start of its prompt's forward pass to its last token; other requests share that time."""


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prefix: torch.Tensor | None,
    requests: Sequence[Request],
    settings: DecodingSettings,
) -> Iterator[Completion | None]:
    """Complete every request, in the order in which they end.

    Yields None after each forward pass, so that the caller can look after other things; closing the iterator stops.
    What a request gets does not depend on the other requests, their order, or the slots.

    Args:
        prefix: [P, H] embeddings in front of every request; its keys and values are computed once.

    Raises:
        DataError: a request has no token to start from, or does not fit in the model's positions.
        ModelError: the model's layers do not all have full attention over these lengths.
    """
    if requests:
        yield from _Decoding(model, tokenizer, prefix, requests, settings).run()


def stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prefix: torch.Tensor | None,
    request: Request,
    settings: DecodingSettings,
) -> Iterator[str | Completion]:
    """Complete one request and show its text while it grows; arguments and errors are those of `complete`.

    Yields a piece of text after each forward pass, "" where none is certain yet, and at last the Completion, whose text
    the pieces add up to.
    """
    decoding = _Decoding(model, tokenizer, prefix, [request], settings)
    growing = GrowingText(tokenizer, decoding.detokenizer, request.token_ids)
    for completion in decoding.run():
        if completion is not None:
            yield growing.rest(completion.text)
            yield completion
            return
        yield growing.more(decoding.rows[0].generated if decoding.rows else [])


@dataclass
class _Row:
    """A request in a slot."""

    request: Request
    limit: int
    generator: torch.Generator
    started: float
    generated: list[int] = field(default_factory=list)


class _Decoding:
    """The state of one call of `complete`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prefix: torch.Tensor | None,
        requests: Sequence[Request],
        settings: DecodingSettings,
    ) -> None:
        self.settings = settings
        self.prefix = prefix if prefix is not None and len(prefix) else None
        self.prefix_length = 0 if self.prefix is None else len(self.prefix)
        self.positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        # Longest first: neighbours have similar lengths, so groups need little padding and a batch little masking.
        self.waiting = deque(sorted(requests, key=lambda r: (-len(r.token_ids), r.task_id, r.sample)))
        limits = [self._limit(request) for request in requests]
        longest = self.prefix_length + max(
            len(request.token_ids) + limit for request, limit in zip(requests, limits, strict=True)
        )
        check_supported(model, longest)
        room = self.prefix_length + len(self.waiting[0].token_ids) + FIRST_ROOM
        self.forward = Forward(model, min(settings.slots, len(requests)), min(room, longest))
        self.detokenizer = Detokenizer(tokenizer, settings.stop_sequences)
        self.end_tokens = end_tokens(model, tokenizer)
        self.rows: list[_Row] = []
        self.prefix_logits: torch.Tensor | None = None

    def run(self) -> Iterator[Completion | None]:
        """Alternate between filling free slots and decoding one token in every slot."""
        if self.prefix is not None:
            self.prefix_logits = self.forward.encode_prefix(self.prefix)
            yield None
        while self.waiting or self.rows:
            first, logits = self._fill_slots() or (0, self._decode())
            yield from self._take(first, logits)
            yield None

    def _fill_slots(self) -> tuple[int, torch.Tensor] | None:
        """Encode the next group of requests, if it is time to: its first row, and logits [group, vocabulary]."""
        group = self._next_group()
        if not group:
            return None
        started = time.perf_counter()
        first = len(self.rows)
        self.rows += [self._row(request, started) for request in group]
        if group[0].token_ids:
            return first, self.forward.prefill(first, [request.token_ids for request in group])
        assert self.prefix_logits is not None  # else _limit had refused an empty request
        return first, self.prefix_logits.expand(len(group), -1)

    def _next_group(self) -> list[Request]:
        """Requests to encode together now, longest first; none while too few slots are free to make a good group."""
        free = min(self.settings.slots - len(self.rows), len(self.waiting))
        if not free or free < min(len(self.waiting), self.settings.slots // REFILL_SHARE):
            return []
        width = len(self.waiting[0].token_ids)
        filled = sum(bool(request.token_ids) for request in islice(self.waiting, free))  # empty ones need no pass
        size = min(filled or free, max(1, PREFILL_TOKENS // max(width, 1)))
        return [self.waiting.popleft() for _ in range(size)]

    def _decode(self) -> torch.Tensor:
        tokens = [row.generated[-1] for row in self.rows]
        positions = [self._length(row) - 1 for row in self.rows]
        return self.forward.decode(tokens, positions)

    def _take(self, first: int, logits: torch.Tensor) -> Iterator[Completion]:
        """Give the rows from `first` on their next token; yield those that end with it, and free their slots."""
        rows = self.rows[first:]
        settings = self.settings
        generators = [row.generator for row in rows]
        with torch.inference_mode():
            tokens = next_tokens(logits, settings.temperature, settings.top_p, generators).tolist()
        done = []
        for index, (row, token) in enumerate(zip(rows, tokens, strict=True), start=first):
            reason = self._append(row, token)
            if reason:
                done.append((index, self._completion(row, reason)))
        for index, _ in reversed(done):
            self._free(index)
        for _, completion in done:
            yield completion

    def _append(self, row: _Row, token: int) -> FinishReason | None:
        if token in self.end_tokens:
            return "eos"
        row.generated.append(token)
        if self.detokenizer.stopped(row.request.token_ids, row.generated):
            return "stop"
        return "length" if len(row.generated) == row.limit else None

    def _completion(self, row: _Row, reason: FinishReason) -> Completion:
        text = self.detokenizer.text(row.request.token_ids, row.generated)
        cut = cut_at_stop(text, self.settings.stop_sequences)
        # Special tokens have no text, so a stop sequence that goes around one shows only here.
        reason = reason if len(cut) == len(text) else "stop"
        return Completion(row.request, cut, tuple(row.generated), reason, time.perf_counter() - row.started)

    def _free(self, index: int) -> None:
        """Take a row out; the last one moves into its place, so that the active rows stay the first ones."""
        last = self.rows.pop()
        if index < len(self.rows):
            self.rows[index] = last
            self.forward.move(len(self.rows), index, self._length(last))

    def _length(self, row: _Row) -> int:
        return self.prefix_length + len(row.request.token_ids) + len(row.generated)

    def _row(self, request: Request, started: float) -> _Row:
        generator = request_generator(self.settings.seed, request.task_id, request.sample)
        return _Row(request, self._limit(request), generator, started)

    def _limit(self, request: Request) -> int:
        """Tokens that may be generated: the model must have a position for each one that it reads."""
        length = self.prefix_length + len(request.token_ids)
        if not length:
            raise DataError(f"{request.task_id}: nothing to start from: no prefix and an empty prompt", "give a prompt")
        if self.positions is None:
            return self.settings.max_new_tokens
        if length > self.positions:
            raise DataError(
                f"{request.task_id}: {length} tokens with the prefix, but the model has {self.positions} positions",
                "shorten the prompt, or choose a model with a longer context",
            )
        return min(self.settings.max_new_tokens, self.positions - length + 1)


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end a text, by the model's generation config and by the tokenizer."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in [*listed, tokenizer.eos_token_id] if token is not None)
