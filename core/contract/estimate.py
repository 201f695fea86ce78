"""What settings will take of memory, worked out before anything is loaded: plain arithmetic, and an estimate.

It counts the frozen weights, what is kept of a forward pass for the gradient, the output scores, and the soft prompt
with its optimizer. On a GPU that is a micro-batch's (more rows go through at once only where half of its free memory
holds them); on a CPU each core has a few rows, and with AVX-512 there is a second copy of the weights, and a third of
some. It cannot know the lengths of other problems than HumanEval's, nor what a kernel needs for a moment.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.contract.config import DEMO_PACKAGE, Config, ModelSettings
from core.contract.plan import trainable_parameters
from core.contract.processor import avx2_at_most

LONGEST_PROBLEM = 581
"""Tokens of HumanEval's longest prompt with its solution, by SmolLM2's tokenizer; others differ by a few percent."""
LONGEST_PROMPT = 395
LONGEST_SOLUTION = 268
CHARACTERS_PER_TOKEN = 3
LIBRARY_BYTES = 480_000_000
"""Resident memory of a process that has imported torch and transformers and loaded a model, without its weights."""
ROW_TOKENS, BLAS_ROW_TOKENS = 512, 768
"""Tokens a core that rows under way have on a CPU, unless one alone has more (`core.training.rows.passes`), where
oneDNN multiplies and where BLAS does, which is the faster the more rows of a product there are."""
SCORED_TOKENS = 128
"""Supervised tokens that go through the output head at a time on a CPU, on each core."""
HEAP_SHARE, BLAS_HEAP_SHARE = 2.0, 1.5
"""What training takes on a CPU besides weights and scores, as a multiple of what so many tokens under way keep by
`row_bytes`: attention's probabilities, what products work with, and the C library's heap. Measured with SmolLM2-135M
on one and two cores, where oneDNN multiplies and where BLAS does, which needs no copies of its inputs and results."""
AVERAGES = {"adamw": 2, "sgd": 1, "adafactor": 0}
"""Numbers that an optimizer keeps for each one that it changes; Adafactor's few, by row and column, are not counted."""
CUDA_BYTES = 500_000_000
"""What a CUDA context and its kernels take of a GPU, about."""

Device = Literal["cuda", "cpu"]


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder-only transformer with a gated MLP."""

    parameters: int
    hidden: int
    """H, the width of the embeddings."""
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_dim: int

    @property
    def sharing_an_input(self) -> int:
        """Weights of the layers that make queries, keys and values, and of those that make gate and up."""
        return self.layers * self.hidden * ((self.heads + 2 * self.kv_heads) * self.head_dim + 2 * self.intermediate)

    @property
    def cached_values(self) -> int:
        """Numbers that one token leaves in the cache of keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim


KNOWN: dict[str, ModelShape] = {
    "Qwen/Qwen2.5-Coder-0.5B": ModelShape(494_032_768, 896, 24, 4864, 14, 2, 151_936, 64),
    f"package:{DEMO_PACKAGE}": ModelShape(134_515_008, 576, 30, 1536, 9, 3, 49_152, 64),
}
"""Models whose sizes need no file; a variant such as "-Instruct" has the same."""

UNKNOWN = "unknown until the model is loaded"


def model_shape(settings: ModelSettings) -> ModelShape | None:
    """The model's sizes, from the table or the config.json of a local folder; None where they are not known yet."""
    known = KNOWN.get(settings.name.removesuffix("-Instruct"))
    if known is not None:
        return known
    try:
        folder = _local_folder(settings.name)
        return shape_of(json.loads((folder / "config.json").read_text(encoding="utf-8"))) if folder else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError):
        return None  # not there, not JSON, or not a model of this kind


def _local_folder(name: str) -> Path | None:
    """The folder of a model as `core.model.loading` finds it; a hub id has none."""
    if not name.startswith("package:"):
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    package = name.removeprefix("package:")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def shape_of(config: dict[str, Any]) -> ModelShape | None:
    """The sizes that a config.json tells; None for a kind of model that this arithmetic does not fit."""
    kind = config["model_type"]
    if kind not in ("llama", "qwen2", "mistral"):
        return None
    hidden, layers, inner = (int(config[key]) for key in ("hidden_size", "num_hidden_layers", "intermediate_size"))
    heads, vocabulary = int(config["num_attention_heads"]), int(config["vocab_size"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or hidden // heads)
    queries, keys = heads * head_dim, kv_heads * head_dim
    biases = queries + 2 * keys if kind == "qwen2" else 0
    layer = 2 * hidden * queries + 2 * hidden * keys + biases + 3 * hidden * inner + 2 * hidden
    tied = bool(config.get("tie_word_embeddings", False))
    parameters = layers * layer + hidden + vocabulary * hidden * (1 if tied else 2)
    if min(hidden, layers, inner, kv_heads, vocabulary, head_dim) < 1:
        return None
    return ModelShape(parameters, hidden, layers, inner, heads, kv_heads, vocabulary, head_dim)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak of training, and what they are made of; `completing` is the cache of keys and values then."""

    weights: int
    activations: int
    scores: int
    soft_prompt: int
    """What learns, in float32, its gradient and the optimizer's averages; P as passes take it, where that is apart."""
    libraries: int
    completing: int
    weight_bytes: int
    """Bytes of one frozen parameter."""
    copied: int
    """Parameters of further copies: on a CPU with AVX-512 all, and once more those of layers that share an input."""
    tokens: int
    """Positions of the largest pass: rows × their length."""

    @property
    def total(self) -> int:
        """Bytes at the peak of training."""
        return self.weights + self.activations + self.scores + self.soft_prompt + self.libraries


def estimate_memory(
    config: Config, shape: ModelShape, device: Device, train_problems: int, cores: int | None = None
) -> MemoryEstimate:
    """Estimate the peak of training on a device; `cores` are this machine's where None is given."""
    weight, arithmetic = _type_bytes(config, device)
    virtual = config.soft_prompts.num_virtual_tokens
    text = math.ceil(len(config.inference.placed_text) / CHARACTERS_PER_TOKEN)
    longest = config.dataset.max_length
    if config.dataset.path is None:
        longest = min(longest, virtual + text + LONGEST_PROBLEM)
    rows = min(config.training.batch_size, train_problems)
    step = min(config.training.batch_size * config.training.gradient_accumulation_steps, train_problems)
    if device == "cpu":
        rows = min(rows, cores or os.cpu_count() or 1)
    kept = activation_bytes(shape, arithmetic) if device == "cuda" else row_bytes(shape)
    scores = score_bytes(shape, arithmetic) if device == "cuda" else 4 * shape.vocabulary
    tokens = rows * longest if device == "cuda" else min(step * longest, max(longest, rows * row_tokens()))
    supervised = rows * min(LONGEST_SOLUTION if device == "cuda" else SCORED_TOKENS, longest)
    finished = virtual + text + LONGEST_PROMPT + config.inference.max_new_tokens
    copied = shape.parameters + shape.sharing_an_input if device == "cpu" and not avx2_at_most() else 0
    return MemoryEstimate(
        weights=weight * (shape.parameters + copied),
        activations=int(tokens * kept * (1 if device == "cuda" else heap_share())),
        scores=supervised * scores,
        soft_prompt=soft_prompt_bytes(config, shape.hidden),
        libraries=CUDA_BYTES if device == "cuda" else LIBRARY_BYTES,
        completing=config.inference.batch_size * finished * shape.cached_values * arithmetic,
        weight_bytes=weight,
        copied=copied,
        tokens=tokens,
    )


def heap_share() -> float:
    """The share that goes with how this machine's processor multiplies."""
    return BLAS_HEAP_SHARE if avx2_at_most() else HEAP_SHARE


def row_tokens() -> int:
    """The tokens a core that go with how this machine's processor multiplies."""
    return BLAS_ROW_TOKENS if avx2_at_most() else ROW_TOKENS


def soft_prompt_bytes(config: Config, width: int) -> int:
    """Bytes of what learns while it does, for embeddings of `width`."""
    learned = trainable_parameters(config.soft_prompts, width)
    rows = config.soft_prompts.num_virtual_tokens * width
    apart = 0 if config.soft_prompts.reparameterisation == "none" else 2 * rows
    return 4 * ((2 + AVERAGES[config.training.optimizer]) * learned + apart)


def activation_bytes(shape: ModelShape, arithmetic: int) -> int:
    """Bytes that autograd keeps of one token, in numbers of `arithmetic` bytes.

    In every layer: the inputs of two norms in float32 (2 × 4 × H bytes), and in the arithmetic's type queries, keys,
    values and the attention's output (4 × H) and the gate, its activation and the other branch of the MLP
    (3 × intermediate). Frozen matrices keep nothing.
    """
    return shape.layers * (2 * 4 * shape.hidden + arithmetic * (4 * shape.hidden + 3 * shape.intermediate))


def row_bytes(shape: ModelShape) -> int:
    """Bytes that `core.training.rows` keeps of one token of a long row, on a CPU in float32.

    In every layer: the residual stream twice (2 × H), queries, keys and values, and two derivatives of the MLP's.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return shape.layers * 4 * (2 * shape.hidden + queries + 2 * keys + 2 * shape.intermediate)


def score_bytes(shape: ModelShape, arithmetic: int) -> int:
    """Bytes of the output scores of one supervised token: logits, a float32 copy, log-softmax, and their gradients."""
    return shape.vocabulary * (2 * arithmetic + 12 if arithmetic < 4 else 16)


def gigabytes(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _type_bytes(config: Config, device: Device) -> tuple[int, int]:
    """(bytes of a frozen weight, bytes of a number in the forward pass), by the rules of `core.model.loading`."""
    if device == "cpu":
        return 4, 4
    mixed, asked = config.hardware.mixed_precision, config.model.torch_dtype
    weight = 4 if asked == "float32" or (asked == "auto" and not mixed) else 2
    return weight, 2 if mixed else weight


def chosen_device(config: Config, gpu: bool) -> Device:
    """Where a run will compute, on a machine with or without a GPU."""
    return "cuda" if gpu and config.hardware.device != "cpu" else "cpu"
