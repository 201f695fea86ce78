"""The base model of a merged export: its structure and where its weights are. None of them is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.contract.config import ModelSettings
from core.contract.errors import CheckpointError, ModelError
from core.export.weights import DTYPES, SHARD_BYTES, Stored, read_tensors
from core.model.conversion import converted_from_gguf
from core.model.loading import explained, model_source, quiet_transformers

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Source:
    """A base model as its files have it."""

    outline: PreTrainedModel
    """Its structure, on torch's "meta" device: shapes and no numbers."""
    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig
    tensors: dict[str, Stored]
    embedding: str
    """The name of the input embedding's matrix."""
    head: str
    """The name of the output head's; the file of a tied model has none of that name."""

    @property
    def table(self) -> Stored:
        """The input embedding's matrix [R, H]."""
        return self.tensors[self.embedding]

    @property
    def words(self) -> Stored:
        """The output head's matrix, which a tied model shares with the embedding."""
        return self.tensors.get(self.head, self.table)

    @property
    def scale(self) -> float:
        """What the embedding multiplies its rows with (Gemma), else 1."""
        return embedding_scale(self.outline)


def outline_of(settings: ModelSettings) -> tuple[PreTrainedModel, str]:
    """A model's structure on the meta device, and the folder or hub id that its files are in.

    Code that comes with the model is never run.

    Raises:
        ModelError: as `load_model`.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    with explained(settings), quiet_transformers():
        source = model_source(settings)
        place = converted_from_gguf(source, settings.gguf_file, False) if settings.gguf_file else source
        shape = AutoConfig.from_pretrained(place)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(shape), place


def open_source(settings: ModelSettings, scratch: Path) -> Source:
    """Find out what the base model is made of.

    Args:
        scratch: an empty folder, where the weights are written anew if transformers has to make safetensors of them.

    Raises:
        ModelError: as `load_model`.
        CheckpointError: its embeddings are not to be found.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    outline, place = outline_of(settings)
    embedding, head = matrix_names(outline)
    with explained(settings), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(place)
        try:
            generation = GenerationConfig.from_pretrained(place)
        except OSError:  # it has none of its own
            generation = outline.generation_config or GenerationConfig.from_model_config(outline.config)
        tensors = read_tensors(list(_weight_files(place)))
        if not _fits(outline, tensors, embedding, head):  # other names, or weights in torch's own format
            whole = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
            whole.save_pretrained(scratch, max_shard_size=SHARD_BYTES)
            del whole
            tensors = read_tensors(list(_weight_files(str(scratch))))
    if not _fits(outline, tensors, embedding, head):
        raise CheckpointError(f"{settings.name}: no embedding of 16 or 32 bits is called {embedding} in its weights",
                              "export with --format peft")
    return Source(outline, tokenizer, generation, tensors, embedding, head)


def embedding_scale(model: PreTrainedModel) -> float:
    """What a model's input embedding multiplies its rows with, else 1."""
    embedding = model.get_input_embeddings()
    scale = getattr(embedding, "scalar_embed_scale", getattr(embedding, "embed_scale", 1.0))
    return float(scale)


def matrix_names(outline: PreTrainedModel) -> tuple[str, str]:
    """The names of the input embedding's matrix and of the output head's."""
    names = {id(module): name for name, module in outline.named_modules()}
    embedding, head = outline.get_input_embeddings(), outline.get_output_embeddings()
    if head is None or id(head) not in names:
        raise CheckpointError("the model has no output head of its own", "export with --format peft")
    return f"{names[id(embedding)]}.weight", f"{names[id(head)]}.weight"


def _fits(outline: PreTrainedModel, tensors: dict[str, Stored], embedding: str, head: str) -> bool:
    """Whether the two matrices are there under the structure's names, and of types that rows can be written in."""
    tied = outline.config.get_text_config().tie_word_embeddings
    shape = tuple(outline.get_input_embeddings().weight.shape)
    table, words = tensors.get(embedding), tensors.get(head)
    return (table is not None and table.shape == shape and table.dtype in DTYPES
            and (tied if words is None else words.shape == shape and words.dtype in DTYPES))


def _weight_files(place: str) -> Iterator[Path]:
    """The safetensors files that transformers would load; none where the model has no such."""
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

    if single := cached_file(place, SAFE_WEIGHTS_NAME, _raise_exceptions_for_missing_entries=False):
        yield Path(single)
    elif index := cached_file(place, SAFE_WEIGHTS_INDEX_NAME, _raise_exceptions_for_missing_entries=False):
        for name in sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values())):
            if name != Path(name).name:
                raise ModelError(f"{index} names {name}, which is not beside it", "use another copy of the model")
            file = cached_file(place, name)
            assert file is not None
            yield Path(file)
