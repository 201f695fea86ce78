"""A streamed completion is the completion, in pieces of which none is taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from core.generation.decoder import Completion, DecodingSettings, Request, complete, stream
from core.generation.stopping import Detokenizer, cut_at_stop
from core.generation.streaming import GrowingText, certain

from .conftest import settings


def streamed(*arguments: Any) -> tuple[list[str], Completion]:
    """The pieces of one request, and its completion, which comes last."""
    *pieces, completion = list(stream(*arguments))
    assert isinstance(completion, Completion) and all(isinstance(piece, str) for piece in pieces)
    return [str(piece) for piece in pieces], completion


def whole(model: Any, tokenizer: Any, prefix: Any, request: Request, asked: DecodingSettings) -> Completion:
    (completion,) = [found for found in complete(model, tokenizer, prefix, [request], asked) if found]
    return completion


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "top_p": 0.95}])
@pytest.mark.parametrize("stops", [(), ("e",), ("an", "s\n"), ("ret", " "), ("never in there", "\ufffd\ufffd")])
def test_pieces_add_up_to_what_complete_gives(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor, stops: Sequence[str],
    sampling: dict[str, float],
) -> None:
    asked = settings(max_new_tokens=24, stop_sequences=tuple(stops), **sampling)
    for request in prompts[::3]:
        pieces, completion = streamed(tiny_model, tiny_tokenizer, soft_rows, request, asked)
        expected = whole(tiny_model, tiny_tokenizer, soft_rows, request, asked)
        assert "".join(pieces) == completion.text == expected.text
        assert (completion.token_ids, completion.finish_reason) == (expected.token_ids, expected.finish_reason)


def test_stop_sequences_that_begin_inside_a_token(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request], soft_rows: torch.Tensor
) -> None:
    """Stops cut out of what the model says, at every place of it, so most are in the middle of tokens."""
    checked = 0
    for request in prompts[:4]:
        said = whole(tiny_model, tiny_tokenizer, soft_rows, request, settings(max_new_tokens=16)).text
        for place in range(1, len(said) - 5, 3):
            asked = settings(max_new_tokens=16, stop_sequences=(said[place : place + 5], said[place + 2 : place + 4]))
            pieces, completion = streamed(tiny_model, tiny_tokenizer, soft_rows, request, asked)
            expected = whole(tiny_model, tiny_tokenizer, soft_rows, request, asked)
            assert "".join(pieces) == completion.text == expected.text
            checked += completion.finish_reason == "stop"
    assert checked > 20


def test_text_comes_while_it_is_made_and_a_piece_after_every_pass(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[Request]
) -> None:
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    handle = tiny_model.register_forward_hook(count)
    try:
        pieces = stream(tiny_model, tiny_tokenizer, None, prompts[3], settings(max_new_tokens=40))
        heard = [(next(pieces), passes) for _ in range(30)]
        pieces.close()
    finally:
        handle.remove()
    assert [number for _, number in heard] == list(range(1, 31))
    assert sum(bool(text) for text, _ in heard) > 10


@pytest.mark.parametrize(("text", "stops", "shown"), [
    ("    return x\nd", ("\ndef", "\n#"), "    return x"),
    ("    return x\ne", ("\ndef", "\n#"), "    return x\ne"),
    ("    return x\ndef f", ("\ndef",), "    return x"),
    ("abcd", ("abcdef", "cd"), ""),  # the longer one may still begin before the one that is there
    ("abcdx", ("abcdef", "cd"), "ab"),
    ("aab", ("abb",), "a"),
    ("naïve \ufffd", (), "naïve "),
    ("naïve \ufffd!", (), "naïve \ufffd!"),
    ("x\n\ufffd", ("\nd",), "x"),
    ("", ("a",), ""),
])
def test_what_is_certain(text: str, stops: tuple[str, ...], shown: str) -> None:
    assert certain(text, stops) == shown


def grown(tokenizer: Any, prompt: Sequence[int], tokens: Sequence[int], stops: tuple[str, ...] = ()) -> list[str]:
    """The pieces shown while these tokens come, and the rest when they end."""
    detokenizer = Detokenizer(tokenizer, stops)
    growing = GrowingText(tokenizer, detokenizer, prompt)
    pieces = [growing.more(tokens[:end]) for end in range(len(tokens) + 1)]
    final = cut_at_stop(detokenizer.text(prompt, tokens), stops)
    pieces.append(growing.rest(final))
    assert "".join(pieces) == final
    return pieces


def test_half_a_character_is_held_back(tiny_tokenizer: Any) -> None:
    text = "    # naïve 🙂 終わり\n"
    pieces = grown(tiny_tokenizer, [], tiny_tokenizer(text)["input_ids"])
    assert "".join(pieces) == text and "🙂" in pieces and pieces[-1] == ""
    cut = grown(tiny_tokenizer, [], tiny_tokenizer("x 🙂")["input_ids"][:-1])
    assert cut[-1] == "\ufffd"  # it ends there: then that is the text


def test_a_stop_sequence_around_a_special_token_is_not_shown(tiny_tokenizer: Any) -> None:
    a, b = (tiny_tokenizer(letter)["input_ids"] for letter in "ab")
    assert "".join(grown(tiny_tokenizer, [], [*b, *a, tiny_tokenizer.eos_token_id, *b, *a], ("ab",))) == "b"


def test_a_run_of_byte_tokens_is_held_back_until_it_ends(byte_tokenizer: Any) -> None:
    def tokens(*parts: str | bytes) -> list[int]:
        return [token for part in parts for token in (
            [3 + byte for byte in part] if isinstance(part, bytes) else [byte_tokenizer.convert_tokens_to_ids(part)])]

    right = tokens("x", "\nA🙂".encode(), "▁y", b"\n")
    assert "".join(grown(byte_tokenizer, tokens("x", b"\n"), right)) == "x\nA🙂 y\n"
    wrong = tokens("x", b"A\xe2\x82", "x")  # the letter becomes a replacement character too
    assert "".join(grown(byte_tokenizer, tokens("x"), wrong)) == "x\ufffd\ufffd\ufffdx"
