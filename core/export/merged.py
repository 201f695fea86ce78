"""A soft prompt inside an ordinary transformers folder: any engine that loads the base model serves it, unmodified.

P stands in rows of the embedding that no token uses; new special tokens name those rows, and the tokenizer puts them in
front of every text by itself. The output head keeps the original matrix of its own, or the soft rows would become
words that the model can say. All other weights are copied as they are, in their own type.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from core.contract.config import Config
from core.contract.errors import CheckpointError
from core.contract.events import Event, Progress
from core.contract.exports import Manifest
from core.data.prompts import INFILLING_ENDS, token_id
from core.export.folder import check_room
from core.export.source import Source, embedding_scale, matrix_names, open_source, outline_of
from core.export.tokens import MergedTokenizer, merged_tokenizer
from core.export.verify import own_tokens, verify
from core.export.weights import DTYPES, Stored, read_rows, read_tensors, row_bytes, write_tensors
from core.model.checkpoint import Checkpoint

SPARE_BYTES = 50_000_000
"""For the tokenizer and the small files."""
MEGABYTE = 1_000_000


def write_merged(
    checkpoint: Checkpoint, config: Config, prompts: Sequence[str], folder: Path, scratch: Path, *,
    auto_prepend: bool, verified: bool,
) -> Generator[Event, None, dict[str, Any]]:
    """Write the model into an empty folder, then load it with plain transformers and compare it with softtune.

    Args:
        config: the checkpoint's settings, on the CPU.
        prompts: texts to verify on.
        scratch: an empty folder on the same disk, for weights that have to be rewritten first.

    Returns:
        What a manifest says of a merged model alone.

    Raises:
        CheckpointError: the tokenizer cannot be extended, there is no room, or the verification failed.
        ModelError: as `load_model`.
    """
    source = open_source(config.model, scratch)
    checkpoint.check_fits(source.table.shape[1], checkpoint.base_model)
    made = merged_tokenizer(source.tokenizer, checkpoint.num_virtual_tokens, config.inference, prompts, auto_prepend)
    rows = (checkpoint.soft_prompt / source.scale).to(DTYPES[source.table.dtype]).float() * source.scale
    if not torch.isfinite(rows).all():
        raise CheckpointError(f"the soft prompt has numbers that are too large for {source.table.dtype}, the type of "
                              "the base model's embeddings", "export with --format peft")
    own = None
    if verified:
        own = yield from own_tokens(config, rows, prompts, grows=max(made.ids) >= source.table.shape[0])
    tensors = with_soft_rows(source, checkpoint.soft_prompt, made.ids, own.rarest if own else None)
    total = sum(tensor.size for tensor in tensors.values())
    check_room(folder, total + SPARE_BYTES)
    told = 0
    yield Progress(stage="writing", done=0, total=_megabytes(total), unit="MB")
    for written in write_tensors(tensors, folder):
        if _megabytes(written) > told:
            told = _megabytes(written)
            yield Progress(stage="writing", done=told, total=_megabytes(total), unit="MB")
    ends = INFILLING_ENDS if config.inference.style == "infilling" else ()
    _write_settings(source, tensors[source.embedding].shape[0], made, ends, folder)
    compared = 0
    if own is not None:
        compared = yield from verify(folder, made, prompts, own, auto_prepend)
    return {
        "dtype": str(DTYPES[source.table.dtype]).removeprefix("torch."), "soft_tokens": made.names,
        "soft_token_ids": made.ids, "auto_prepend": auto_prepend, "verified_problems": compared,
        "literal_prefix": made.prefix, "literal_suffix": made.suffix,
    }


def with_soft_rows(source: Source, prompt: torch.Tensor, ids: Sequence[int], rarest: int | None) -> dict[str, Stored]:
    """The weights with P [V, H] in the embedding's rows `ids`, and with a head of their own.

    Where the vocabulary has to grow for that, the head grows by copies of the row of a token that is hardly ever said:
    a row of zeros has the logit 0, which may be the largest, and not every engine heeds `suppress_tokens`. A copy never
    comes before its original, so that a greedy engine says none of the new tokens.

    Args:
        rarest: that token; None takes the last of the vocabulary, in byte-pair encoding the rarest there is.
    """
    count = source.table.shape[0]
    grown = range(count, max(count, max(ids) + 1))
    table = {place: bytes(source.table.row(0).length) for place in grown}
    table |= {place: row_bytes(row / source.scale, source.table.dtype) for place, row in zip(ids, prompt, strict=True)}
    last = max(source.tokenizer.get_vocab().values(), default=0)
    model_row = min(last, count - 1) if rarest is None else rarest
    tensors = dict(source.tensors)
    tensors[source.embedding] = source.table.with_rows(table)
    tensors[source.head] = source.words
    bias = source.head.removesuffix("weight") + "bias"
    for name in filter(lambda name: grown and name in tensors, (source.head, bias)):
        tensors[name] = tensors[name].with_rows({place: tensors[name].row(model_row) for place in grown})
    return tensors


def _write_settings(source: Source, size: int, made: MergedTokenizer, ends: Sequence[str], folder: Path) -> None:
    """The configuration, the tokenizer, and a generation_config that never emits soft tokens.

    What else the base model's generation_config asks for (a repetition penalty, a temperature) is left out: the soft
    prompt was trained and scored without it.

    Args:
        ends: names of tokens that end a completion beside the model's own, where there are such.
    """
    from transformers import GenerationConfig

    shape, generation = source.outline.config, source.generation
    text = shape.get_text_config()
    text.vocab_size, text.tie_word_embeddings, shape.tie_word_embeddings = size, False, False
    shape.architectures = [type(source.outline).__name__]
    shape.save_pretrained(folder)
    own = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    named = [token_id(source.tokenizer, name) for name in ends]
    GenerationConfig(
        bos_token_id=generation.bos_token_id, pad_token_id=generation.pad_token_id,
        eos_token_id=list(dict.fromkeys(token for token in (*own, *named) if token is not None)) or None,
        suppress_tokens=sorted({*(generation.suppress_tokens or []), *made.ids}),
    ).save_pretrained(folder)
    made.save(folder)


def merged_rows(folder: Path, manifest: Manifest, config: Config) -> torch.Tensor:
    """The soft prompt [V, H] of an exported folder that is whole, as float32 numbers of the written type.

    Raises:
        CheckpointError: the folder is not what its manifest says.
        ModelError: its base model, whose structure is needed, is not to be had.
    """
    outline, _ = outline_of(config.model)
    tensors = read_tensors([folder / name for name in manifest.files if name.endswith(".safetensors")])
    table = tensors.get(matrix_names(outline)[0])
    ids = manifest.soft_token_ids
    if table is None or table.dtype not in DTYPES or not ids or not 0 <= min(ids) <= max(ids) < table.shape[0]:
        raise CheckpointError(f"{folder} has no rows for its soft tokens", "export again")
    rows = read_rows(table, ids) * embedding_scale(outline)
    if rows.shape != (manifest.num_virtual_tokens, manifest.embedding_dim) or not torch.isfinite(rows).all():
        raise CheckpointError(f"{folder}: the rows of its soft tokens are {tuple(rows.shape)}, or not finite",
                              "export again")
    return rows


def _megabytes(count: int) -> int:
    return -(-count // MEGABYTE)
