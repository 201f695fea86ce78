"""Generated tokens as text, and where the text ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\ufffd"
"""What decoders put where bytes are no character, or none yet."""

CONTEXT_TOKENS = 8
"""Tokens of the prompt that generated ones are decoded behind; more than a character or a word piece can span."""


def cut_at_stop(text: str, stop_sequences: Sequence[str]) -> str:
    """The text before the first stop sequence in it; all of it if there is none."""
    found = [index for index in (text.find(stop) for stop in stop_sequences) if index >= 0]
    return text[: min(found)] if found else text


class Detokenizer:
    """Text of generated tokens, and a cheap test for stop sequences in it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_sequences: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.stop_sequences = stop_sequences
        # A token is at least one byte of UTF-8. The test sees a little more than the longest stop sequence can span.
        self._tail = max((len(stop.encode()) for stop in stop_sequences), default=0) + 4
        self._may_complete: dict[int, bool] = {}

    def text(self, prompt: Sequence[int], generated: Sequence[int]) -> str:
        """What `generated` adds to the text of `prompt`.

        Decoded together, because decoders of the SentencePiece kind drop the space that a text begins with, and
        a completion begins with its indentation.
        """
        context = list(prompt[-CONTEXT_TOKENS:])
        before = self._decode(context)
        together = self._decode([*context, *generated])
        return together[len(before) :] if together.startswith(before) else self._decode(list(generated))

    def stopped(self, prompt: Sequence[int], generated: Sequence[int]) -> bool:
        """Whether the newest token completed a stop sequence.

        Only the tail is decoded, and only behind a token that can complete one. The tail may begin inside a character,
        so a hit counts only if the whole text has it too.
        """
        token = generated[-1]
        if token not in self._may_complete:
            self._may_complete[token] = self._can_complete(token)
        if not self._may_complete[token]:
            return False
        tail = list(generated[-self._tail :])
        before = prompt[len(prompt) + len(tail) - self._tail :] if len(tail) < self._tail else ()
        return self._has_stop(self._decode([*before, *tail])) and self._has_stop(self.text(prompt, generated))

    def _can_complete(self, token: int) -> bool:
        """Whether this may be the last token of a stop sequence: its text holds one, or begins with the end of one.

        Decoded alone, a token of bytes is no character. And a decoder may drop the spaces that a text begins with, so
        the token is read behind itself too.
        """
        alone = self._decode([token])
        behind = self._decode([token, token])[len(alone) :]
        return REPLACEMENT in alone or any(
            stop in read or any(read.startswith(stop[place:]) for place in range(1, len(stop)))
            for stop in self.stop_sequences for read in (alone, behind)
        )

    def _has_stop(self, text: str) -> bool:
        return any(stop in text for stop in self.stop_sequences)

    def _decode(self, token_ids: list[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
