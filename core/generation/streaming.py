"""How much of a text that is still being generated can be shown, so that nothing shown has to be taken back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.generation.stopping import REPLACEMENT, Detokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


class GrowingText:
    """The certain part of one completion's text, while its tokens come.

    Args:
        detokenizer: of the decoding that makes the tokens, with its stop sequences.
        prompt: the tokens before the completion.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, detokenizer: Detokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = detokenizer
        self._prompt = prompt
        self._shown = 0

    def more(self, generated: Sequence[int]) -> str:
        """What has become certain since the last call, now that there are these tokens."""
        whole = list(generated[: _whole_tokens(self._tokenizer, generated)])
        text = self._detokenizer.text(self._prompt, whole) if whole else ""
        return self.rest(certain(text, self._detokenizer.stop_sequences))

    def rest(self, text: str) -> str:
        """What of a text, of which nothing can change any more, has not been shown yet."""
        piece = text[self._shown :]
        self._shown += len(piece)
        return piece


def certain(text: str, stop_sequences: Sequence[str]) -> str:
    """The part of a text that stays, whatever comes after it.

    It ends before half a character, before a stop sequence, and before what might be the beginning of one.
    """
    whole = text.rstrip(REPLACEMENT)
    return whole[: min((_begin_of_stop(whole, stop) for stop in stop_sequences), default=len(whole))]


def _begin_of_stop(text: str, stop: str) -> int:
    """Where a stop sequence begins, or may begin at the end; the length of the text if it does not."""
    found = text.find(stop)
    if found >= 0:
        return found
    begun = next((size for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size])), 0)
    return len(text) - begun


def _whole_tokens(tokenizer: PreTrainedTokenizerBase, generated: Sequence[int]) -> int:
    """Tokens before a run of byte tokens at the end.

    Decoders of the SentencePiece kind decode such a run as a whole: one wrong byte more, and even its letters become
    replacement characters.
    """
    end = len(generated)
    while end and _BYTE_TOKEN.fullmatch(str(tokenizer.convert_ids_to_tokens(generated[end - 1]))):
        end -= 1
    return end
