"""Slots, each with one request; when its completion ends, the slot takes the next request at once.

So a step never computes rows that are done, as a batch that runs until its slowest row stops does.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from core.contract.errors import DataError
from core.data.prompts import token_id
from core.generation.forward import Forward, check_supported
from core.generation.requests import Completion, DecodingSettings, FinishReason, Request
from core.generation.sampling import next_tokens, request_generator
from core.generation.stopping import Detokenizer, cut_at_stop

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREFILL_TOKENS = 1024
"""Prompts are encoded in groups of at most this many tokens, any padding included: enough to keep a processor busy."""
GPU_PREFILL_TOKENS, GPU_PREFILL_MOST = 128, 32_768
"""The same on a GPU: so many for each slot, since memory for many slots is memory for a large group, and no more."""
REFILL_SHARE = 8
"""Slots are refilled when one in this many is free: a prompt alone costs about a sixth more than in a group of four."""
FIRST_ROOM = 256
"""Cache room for generated tokens at the start; it grows when a completion gets longer."""


@dataclass
class Row:
    """A request in a slot."""

    request: Request
    limit: int
    generator: torch.Generator
    started: float
    generated: list[int] = field(default_factory=list)

    @property
    def prompt(self) -> tuple[int, ...]:
        """Its tokens after the shared prefix."""
        return self.request.token_ids


class Slots:
    """The state of one call of `complete`; arguments and errors are those of it."""

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
        on_gpu = self.forward.device.type == "cuda"
        many = min(GPU_PREFILL_TOKENS * settings.slots, GPU_PREFILL_MOST)
        self.prefill_tokens = many if on_gpu else PREFILL_TOKENS
        self.detokenizer = Detokenizer(tokenizer, settings.stop_sequences)
        self.end_tokens = end_tokens(model, tokenizer, settings.end_tokens)
        self.rows: list[Row] = []
        self.known: dict[tuple[int, ...], torch.Tensor] = {}
        """Logits [vocabulary] after prompts that waiting requests have: of the empty one, and of the next."""

    def run(self) -> Iterator[Completion | None]:
        """Alternate between filling free slots and decoding one token in every slot."""
        if self.prefix is not None:
            self.known[()] = self.forward.encode_prefix(self.prefix)[0]
            yield None
        while self.waiting or self.rows:
            places, logits = self._fill() or (range(len(self.rows)), self._decode())
            yield from self._take(places, logits)
            yield None

    def _fill(self) -> tuple[range, torch.Tensor] | None:
        """Put the next requests into free slots, if it is time to: their places, and logits [n, vocabulary].

        Each prompt is encoded once; other requests that have it get copies of its keys, values and logits.
        """
        group = self._next_group()
        if not group:
            return None
        started = time.perf_counter()
        first = len(self.rows)
        fresh = {request.token_ids: request for request in reversed(group) if not self._at_hand(request.token_ids)}
        leaders = [request for request in group if fresh.get(request.token_ids) is request]
        followers = [request for request in group if fresh.get(request.token_ids) is not request]
        logits = None
        if leaders:
            prompts = [request.token_ids for request in leaders]
            logits = self.forward.prefill(first, prompts)
            self.known.update(zip(prompts, logits, strict=True))
        self.rows += [self._row(request, started) for request in (*leaders, *followers)]
        for place in range(first + len(leaders), len(self.rows)):
            self._copy_prompt(place)
        places = range(first, len(self.rows))
        if logits is None or followers:
            logits = self._known(places)
        following = self.waiting[0].token_ids if self.waiting else None
        self.known = {prompt: known for prompt, known in self.known.items() if prompt == following or not prompt}
        return places, logits

    def _next_group(self) -> list[Request]:
        """Requests to take in now, longest first; none while too few slots are free to make a good group."""
        free = min(self.settings.slots - len(self.rows), len(self.waiting))
        if not free:
            return []
        enough = min(len(self.waiting), self.settings.slots // REFILL_SHARE)
        if free < enough and not self._at_hand(self.waiting[0].token_ids):
            return []
        room = max(1, self.prefill_tokens // max(len(self.waiting[0].token_ids), 1))
        group: list[Request] = []
        fresh: set[tuple[int, ...]] = set()
        while len(group) < free:
            prompt = self.waiting[0].token_ids
            if not self._at_hand(prompt) and prompt not in fresh:
                if len(fresh) == room:
                    break
                fresh.add(prompt)
            group.append(self.waiting.popleft())
        return group

    def _at_hand(self, prompt: tuple[int, ...]) -> bool:
        """Whether a request with this prompt needs no forward pass: it is empty, or an active row has it too."""
        return prompt in self.known and (not prompt or any(row.prompt == prompt for row in self.rows))

    def _copy_prompt(self, place: int) -> None:
        """Give a row the keys and values of its prompt from another row that has the same."""
        prompt = self.rows[place].prompt
        if prompt:
            source = next(index for index, row in enumerate(self.rows) if row.prompt == prompt)
            self.forward.copy(source, place, self.prefix_length + len(prompt))

    def _known(self, places: Sequence[int]) -> torch.Tensor:
        return torch.stack([self.known[self.rows[place].prompt] for place in places])

    def _decode(self) -> torch.Tensor:
        tokens = [row.generated[-1] for row in self.rows]
        positions = [self._length(row) - 1 for row in self.rows]
        return self.forward.decode(tokens, positions)

    def _take(self, places: Sequence[int], logits: torch.Tensor) -> Iterator[Completion]:
        """Give the rows at these places their next token; yield those that end with it, and free their slots.

        A row that ends leaves its slot to the next request with the same prompt, which gets its first token at once.
        """
        done: list[Completion] = []
        free: list[int] = []
        while places:
            heirs = []
            for place, token in zip(places, self._choose(places, logits), strict=True):
                row = self.rows[place]
                reason = self._append(row, token)
                if not reason:
                    continue
                done.append(self._completion(row, reason))
                if self.waiting and self.waiting[0].token_ids == row.prompt and row.prompt in self.known:
                    self.rows[place] = self._row(self.waiting.popleft(), time.perf_counter())
                    heirs.append(place)
                else:
                    free.append(place)
            places = heirs
            if places:
                logits = self._known(places)
        for place in sorted(free, reverse=True):
            self._free(place)
        yield from done

    def _choose(self, places: Sequence[int], logits: torch.Tensor) -> list[int]:
        generators = [self.rows[place].generator for place in places]
        with torch.inference_mode():
            tokens = next_tokens(logits, self.settings.temperature, self.settings.top_p, generators)
            return [int(token) for token in tokens.tolist()]

    def _append(self, row: Row, token: int) -> FinishReason | None:
        if token in self.end_tokens:
            return "eos"
        row.generated.append(token)
        if self.detokenizer.stopped(row.prompt, row.generated):
            return "stop"
        return "length" if len(row.generated) == row.limit else None

    def _completion(self, row: Row, reason: FinishReason) -> Completion:
        text = self.detokenizer.text(row.prompt, row.generated)
        cut = cut_at_stop(text, self.settings.stop_sequences)
        # Special tokens have no text, so a stop sequence that goes around one shows only here.
        reason = reason if len(cut) == len(text) else "stop"
        return Completion(row.request, cut, tuple(row.generated), reason, time.perf_counter() - row.started)

    def _free(self, place: int) -> None:
        """Take a row out; others move up, so that the active rows stay the first ones, and longest first by tiles."""
        tile = self.forward.tile
        while (end := (place // tile + 1) * tile) < len(self.rows):
            longest = max(range(end, min(end + tile, len(self.rows))), key=lambda index: self._length(self.rows[index]))
            self._move(longest, place)
            place = longest
        last = len(self.rows) - 1
        if place < last:
            self._move(last, place)
        self.rows.pop()

    def _move(self, source: int, destination: int) -> None:
        self.rows[destination] = self.rows[source]
        self.forward.copy(source, destination, self._length(self.rows[source]))

    def _length(self, row: Row) -> int:
        return self.prefix_length + len(row.prompt) + len(row.generated)

    def _row(self, request: Request, started: float) -> Row:
        generator = request_generator(self.settings.seed, request.task_id, request.sample)
        return Row(request, self._limit(request), generator, started)

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


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, more: Sequence[str] = ()) -> frozenset[int]:
    """Ids that end a text, by the model's generation config, by the tokenizer, and those of `more` that it has."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    listed = configured if isinstance(configured, list) else [configured]
    named = [token_id(tokenizer, name) for name in more]
    return frozenset(int(token) for token in [*listed, tokenizer.eos_token_id, *named] if token is not None)
