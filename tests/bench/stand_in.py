"""What stands in for Qwen2.5-Coder-0.5B and HumanEval where neither can be fetched: the same shapes, made by chance.

The time of training and of greedy decoding depends on shapes and lengths, not on what the numbers are.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import torch

from core.data.batches import Example
from tests.tiny import make_tiny_model, make_tiny_tokenizer

PROMPT, SOLUTION = (122, 275, 395), (48, 138, 268)
"""Tokens of HumanEval's prompts and solutions, by SmolLM2's tokenizer: median, 95th percentile, largest."""
SHORTEST = 8
VOCABULARY = 151_665
"""Rows of the 151,936 that Qwen's tokenizer uses."""


def make_model(folder: Path, device: torch.device) -> None:
    """Write a folder with Qwen2.5-Coder-0.5B's exact shape, random weights in bfloat16, and some tokenizer."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    make_tiny_tokenizer(folder)
    config = Qwen2Config(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, max_position_embeddings=32_768, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )
    torch.manual_seed(0)
    with device:
        model = Qwen2ForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)


def make_small_model(folder: Path) -> None:
    """Write the tiny model of the tests in its place."""
    make_tiny_model(folder)


def draw_problems(count: int, vocabulary: int, seed: int) -> list[Example]:
    """Problems with lengths drawn like HumanEval's, of which the first is as long as its longest, and random tokens.

    Lengths are log-normal, with the median and the 95th percentile of HumanEval's.
    """
    draw = random.Random(seed)
    examples = []
    for number in range(count):
        prompt, solution = (sizes[2] if number == 0 else _length(draw, *sizes) for sizes in (PROMPT, SOLUTION))
        ids = [draw.randrange(1, vocabulary) for _ in range(prompt + solution)]
        examples.append(Example(f"drawn/{number}", (), tuple(ids[:prompt]), tuple(ids[prompt:])))
    return examples


def _length(draw: random.Random, median: int, high: int, largest: int) -> int:
    """At the 95th percentile of a normal distribution, 1.645 standard deviations above its median, stands `high`."""
    length = round(draw.lognormvariate(math.log(median), math.log(high / median) / 1.645))
    return max(SHORTEST, min(length, largest))
