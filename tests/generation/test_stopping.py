"""Text of generated tokens, and where it ends."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from core.generation.stopping import Detokenizer, cut_at_stop


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_cut_before_the_first_stop_sequence() -> None:
    assert cut_at_stop("    return 1\n\ndef f", ["\nclass", "\ndef"]) == "    return 1\n"
    assert cut_at_stop("    return 1", ["\ndef"]) == "    return 1"
    assert cut_at_stop("\ndef", ["\ndef"]) == ""


def test_a_stop_sequence_is_seen_at_the_token_that_completes_it(tiny_tokenizer: Any) -> None:
    detokenizer = Detokenizer(tiny_tokenizer, ("\ndef", "\n#"))
    for text in ("    return x\ndef g(y):", "    pass\n\n\n# that is all", "\ndefault"):
        tokens = encode(tiny_tokenizer, text)
        verdicts = [detokenizer.stopped([], tokens[: end + 1]) for end in range(len(tokens))]
        decoded = [tiny_tokenizer.decode(tokens[: end + 1]) for end in range(len(tokens))]
        assert verdicts == ["\ndef" in text or "\n#" in text for text in decoded][: len(verdicts)] or any(verdicts)
        assert verdicts.index(True) == next(i for i, text in enumerate(decoded) if "\ndef" in text or "\n#" in text)


def test_a_stop_sequence_of_many_bytes(tiny_tokenizer: Any) -> None:
    stop = "終わり🙂"
    tokens = encode(tiny_tokenizer, f"    é = '{stop}'")
    assert len(tokens) > len(stop)  # bytes, not characters
    detokenizer = Detokenizer(tiny_tokenizer, (stop,))
    verdicts = [detokenizer.stopped([], tokens[: end + 1]) for end in range(len(tokens))]
    assert verdicts.count(True) >= 1
    assert cut_at_stop(detokenizer.text([], tokens), (stop,)) == "    é = '"


def test_no_text_is_lost_between_prompt_and_completion(tiny_tokenizer: Any) -> None:
    detokenizer = Detokenizer(tiny_tokenizer, ())
    prompt = encode(tiny_tokenizer, 'def f(é):\n    """🙂"""\n')
    for text in ("    return 'naïve 🙂'\n", "x", "\n\n    y"):
        assert detokenizer.text(prompt, encode(tiny_tokenizer, text)) == text
    cut = encode(tiny_tokenizer, "    🙂")[:-1]
    assert detokenizer.text(prompt, cut).startswith("    \ufffd")


@pytest.fixture(scope="session")
def spaced_tokenizer() -> Any:
    """Of the SentencePiece kind: ▁ is a space, and decoding drops the one that the text begins with."""
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "</s>", "▁", "▁▁▁▁", "▁return", "▁x", "def", "f", "x", ":", "▁f", "▁def"]
    tokenizer = Tokenizer(models.WordLevel({piece: index for index, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", clean_up_tokenization_spaces=False
    )


def test_indentation_survives_a_decoder_that_strips(spaced_tokenizer: Any) -> None:
    prompt, generated = [11, 10, 9], [3, 4, 5]  # "def f:" and "     return x"
    assert not spaced_tokenizer.decode(generated).startswith("     ")
    detokenizer = Detokenizer(spaced_tokenizer, (" return",))
    assert detokenizer.text(prompt, generated) == "     return x"
    assert [detokenizer.stopped(prompt, generated[:end]) for end in (1, 2)] == [False, True]


@pytest.mark.parametrize("kind", ["tiny_tokenizer", "spaced_tokenizer", "byte_tokenizer"])
def test_looking_only_behind_some_tokens_misses_no_stop(kind: str, request: pytest.FixtureRequest) -> None:
    """Against a look at the whole text after every token, on sequences of chance full of what stops are made of."""
    tokenizer: Any = request.getfixturevalue(kind)
    stops = ("\ndef", "\n#", " f", "x\n", " return x", "é", "  ", "終")
    size, chance = len(tokenizer), random.Random(0)
    parts = {token for stop in stops for token in encode(tokenizer, stop)}
    share = 0.5
    if kind == "byte_tokenizer":  # one wrong byte spoils a run of them
        parts, share = {3 + byte for byte in b"\n#x "} | {1, 2}, 0.97
    found = 0
    for _ in range(300):
        detokenizer = Detokenizer(tokenizer, chance.sample(stops, 3))
        prompt = [chance.randrange(size) for _ in range(3)]
        tokens = [
            chance.choice(sorted(parts)) if chance.random() < share else chance.randrange(size) for _ in range(20)
        ]
        for end in range(1, len(tokens) + 1):
            text = detokenizer.text(prompt, tokens[:end])
            expected = any(stop in text for stop in detokenizer.stop_sequences)
            assert detokenizer.stopped(prompt, tokens[:end]) == expected
            found += expected
            if expected:
                break
    assert found > 100


def test_special_tokens_have_no_text(tiny_tokenizer: Any) -> None:
    detokenizer = Detokenizer(tiny_tokenizer, ("ab",))
    tokens = [*encode(tiny_tokenizer, "a"), tiny_tokenizer.eos_token_id, *encode(tiny_tokenizer, "b")]
    assert detokenizer.text([], tokens) == "ab"
    assert detokenizer.stopped([], tokens)
