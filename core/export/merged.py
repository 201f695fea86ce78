"""A soft prompt inside an ordinary transformers folder: any engine that loads the base model serves it, unmodified.

P stands in rows of the embedding that no token uses; new special tokens name those rows, and the tokenizer puts them in
front of every text by itself. The output head keeps the original matrix of its own, or the soft rows would become
words that the model can say.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from core.contract.errors import CheckpointError
from core.generation.decoder import Completion, DecodingSettings, Request, complete
from core.model.checkpoint import Checkpoint
from core.model.loading import LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERIFIED_TOKENS = 24


def export_merged(checkpoint: Checkpoint, loaded: LoadedModel, prompts: Sequence[str], folder: Path) -> None:
    """Write the folder, then load it with plain transformers and compare greedy tokens with softtune's own.

    Args:
        loaded: the base model on the CPU; its weights are moved into the merged model, so it is of no use afterwards.
        prompts: texts to verify on.
        folder: made here; it must not exist yet, or be empty.

    Raises:
        CheckpointError: the folder is in use, the tokenizer cannot be extended, or the verification failed; then
            nothing is left.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is not an empty folder", "name a new one; nothing was overwritten")
    expected = _own_completions(checkpoint, loaded, prompts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as unfinished:
        whole = Path(unfinished) / "model"
        tokenizer, soft_ids = _tokenizer_that_prepends(loaded.tokenizer, checkpoint.num_virtual_tokens)
        _place_rows(loaded.model, checkpoint.soft_prompt, soft_ids)
        loaded.model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        _verify(whole, prompts, soft_ids, expected)
        if folder.exists():
            folder.rmdir()
        os.rename(whole, folder)


def _tokenizer_that_prepends(
    tokenizer: PreTrainedTokenizerBase, count: int
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """A copy with `count` new special tokens that its post-processor puts in front, and the ids they really got."""
    from tokenizers import processors

    merged = copy.deepcopy(tokenizer)
    backend = getattr(merged, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError("this tokenizer is not a fast one and cannot prepend tokens", "export with --format peft")
    names = [f"<|soft_{index}|>" for index in range(count)]
    merged.add_special_tokens({"additional_special_tokens": names}, replace_extra_special_tokens=False)
    ids = [int(token_id) for token_id in merged.convert_tokens_to_ids(names)]
    template = processors.TemplateProcessing(
        single=" ".join([*names, "$A"]), pair=" ".join([*names, "$A", "$B:1"]),
        special_tokens=list(zip(names, ids, strict=True)),
    )
    before = backend.post_processor
    backend.post_processor = processors.Sequence([before, template]) if before is not None else template
    return merged, ids


def _place_rows(model: PreTrainedModel, rows: torch.Tensor, ids: list[int]) -> None:
    """Write P [V, H] into the embedding's rows `ids`, on a head of its own; grow both where there are too few rows."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    old, width = embedding.weight.shape
    size = max(old, max(ids) + 1)
    table = torch.zeros(size, width, dtype=embedding.weight.dtype)
    table[:old] = embedding.weight.detach()
    table[ids] = rows.to(table.dtype)
    words = torch.zeros(size, width, dtype=head.weight.dtype)
    words[:old] = head.weight.detach()
    outputs = nn.Linear(width, size, bias=head.bias is not None)
    outputs.weight = nn.Parameter(words, requires_grad=False)
    if head.bias is not None:
        outputs.bias = nn.Parameter(nn.functional.pad(head.bias.detach(), (0, size - old)), requires_grad=False)
    text = model.config.get_text_config()
    text.vocab_size, text.tie_word_embeddings, model.config.tie_word_embeddings = size, False, False
    inputs = type(embedding)(size, width) if type(embedding) is nn.Embedding else copy.deepcopy(embedding)
    inputs.weight = nn.Parameter(table, requires_grad=False)
    model.set_input_embeddings(inputs)
    model.set_output_embeddings(outputs)
    assert model.generation_config is not None
    model.generation_config.suppress_tokens = [*(model.generation_config.suppress_tokens or []), *ids]


def _own_completions(checkpoint: Checkpoint, loaded: LoadedModel, prompts: Sequence[str]) -> list[list[int]]:
    requests = [Request(str(index), tuple(loaded.tokenizer(text)["input_ids"])) for index, text in enumerate(prompts)]
    settings = DecodingSettings(VERIFIED_TOKENS, 0.0, 1.0, (), 0, 8)
    prefix = checkpoint.soft_prompt.to(loaded.model.get_input_embeddings().weight.dtype)
    done = [found for found in complete(loaded.model, loaded.tokenizer, prefix, requests, settings)
            if isinstance(found, Completion)]
    return [list(found.token_ids) for found in sorted(done, key=lambda found: int(found.request.task_id))]


def _verify(folder: Path, prompts: Sequence[str], soft_ids: list[int], expected: list[list[int]]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    ends = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
    for text, wanted in zip(prompts, expected, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        if ids[0, : len(soft_ids)].tolist() != soft_ids:
            raise CheckpointError("the exported tokenizer does not put the soft tokens in front", "use --format peft")
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=VERIFIED_TOKENS,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            )[0, ids.shape[1] :].tolist()
        # A base model may, in theory, say a token of its unused rows; the merged one never does, by design.
        said = list(takewhile(lambda token: token not in soft_ids, wanted))
        found = [token for token in made if token not in ends][: len(said) if len(said) < len(wanted) else None]
        if found != said:
            at = next((i for i, pair in enumerate(zip(found, said, strict=False)) if pair[0] != pair[1]), len(found))
            raise CheckpointError(f"the merged model differs from softtune at token {at} of {text[:40]!r}",
                                  "nothing was written; use --format peft")
