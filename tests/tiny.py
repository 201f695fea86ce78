"""A tiny language model made on the spot: what tests and short benches take in place of real weights."""

from __future__ import annotations

import bisect
import inspect
import textwrap
from pathlib import Path


def make_tiny_model(folder: Path, *, tied: bool = True, vocabulary: int = 512, dtype: str = "float32") -> None:
    """Write what `from_pretrained` reads: Qwen2, 2 layers, hidden 64, vocabulary padded past the tokenizer's."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    end = make_tiny_tokenizer(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=tied,
        eos_token_id=end, pad_token_id=end, bos_token_id=None, initializer_range=0.2,
    )
    Qwen2ForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)


def make_tiny_tokenizer(folder: Path) -> int:
    """Write a tokenizer of 500 byte-level BPE tokens; returns the one that ends a text, which is its padding too."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([inspect.getsource(textwrap), inspect.getsource(bisect)], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
    return int(fast.eos_token_id)
