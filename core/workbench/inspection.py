"""Looking into soft prompts: what their virtual tokens are near to, in the vocabulary and in another prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize

from core.contract.errors import CheckpointError
from core.contract.workbench import (
    CosinesMapped,
    InspectTokens,
    MapCosines,
    Neighbour,
    TokensInspected,
    VirtualToken,
)
from core.generation.stopping import Detokenizer
from core.generation.streaming import REPLACEMENT
from core.model.checkpoint import load_checkpoint
from core.workbench import Replies
from core.workbench.models import Models, own_settings_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS_AT_ONCE = 8192
"""Of the vocabulary: 30 MB in float32 at a width of 896."""


def inspect_tokens(request: InspectTokens, models: Models) -> Replies:
    """Norms of the virtual tokens, and the real vocabulary tokens nearest to each."""
    path = Path(request.checkpoint)
    checkpoint = load_checkpoint(path)
    loaded = yield from models.loaded(request.id, own_settings_of(checkpoint))
    checkpoint.check_fits(loaded.embedding_dim, loaded.name)
    embedding, tokenizer = loaded.model.get_input_embeddings(), loaded.tokenizer
    token_ids = real_tokens(tokenizer, len(embedding.weight))
    cosines, nearest, norms = nearest_tokens(checkpoint.soft_prompt, embedding, token_ids, request.neighbours)
    tokens = [
        VirtualToken(norm=norm, nearest=[
            Neighbour(token=token_text(tokenizer, token_id), token_id=token_id, cosine=cosine)
            for cosine, token_id in zip(row, ids, strict=True)])
        for norm, row, ids in zip(checkpoint.soft_prompt.norm(dim=1).tolist(), cosines.tolist(), nearest.tolist(),
                                  strict=True)
    ]
    yield TokensInspected(request=request.id, tokens=tokens, vocabulary_norm=norms.median().item())
    return ""


def map_cosines(request: MapCosines) -> Replies:
    """The cosine of every pair of virtual tokens of two checkpoints; needs no model."""
    a, b = (load_checkpoint(Path(path)) for path in (request.a, request.b))
    if a.embedding_dim != b.embedding_dim:
        raise CheckpointError(
            f"{request.a} is {a.embedding_dim} wide, and {request.b} is {b.embedding_dim}",
            f"compare checkpoints of one model; these are of {a.base_model} and {b.base_model}",
        )
    cosines = normalize(a.soft_prompt, dim=1) @ normalize(b.soft_prompt, dim=1).T
    yield CosinesMapped(request=request.id, cosines=cosines.tolist())
    return ""


@torch.inference_mode()
def nearest_tokens(
    rows: torch.Tensor, embedding: Any, token_ids: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Nearest of the tokens [N] to each of the rows [V, H] by cosine: cosines and ids, both [V, count], nearest first.

    The third is the norms [N] of the tokens' embeddings. The vocabulary is looked through in parts, in float32.
    """
    device = embedding.weight.device
    wanted = normalize(rows.to(device, torch.float32), dim=1)
    best = torch.empty(len(rows), 0, device=device)
    best_ids = torch.empty(len(rows), 0, dtype=torch.long, device=device)
    norms = []
    for ids in token_ids.to(device).split(ROWS_AT_ONCE):
        words = embedding(ids).float()  # called, not indexed: some models scale inside it
        norms.append(words.norm(dim=1))
        cosines = torch.cat([best, wanted @ normalize(words, dim=1).T], dim=1)
        candidates = torch.cat([best_ids, ids.expand(len(rows), -1)], dim=1)
        best, places = cosines.topk(min(count, cosines.shape[1]), dim=1)
        best_ids = candidates.gather(1, places)
    return best.cpu(), best_ids.cpu(), torch.cat(norms).cpu()


def real_tokens(tokenizer: PreTrainedTokenizerBase, rows: int) -> torch.Tensor:
    """Ids [N] of the tokenizer's tokens, ascending; what the embedding has beyond them is spare."""
    return torch.tensor(sorted(token_id for token_id in set(tokenizer.get_vocab().values()) if token_id < rows))


def token_text(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    """A token as it reads behind other text, so with its leading space; its name where it is no text by itself."""
    before = tokenizer("x", add_special_tokens=False)["input_ids"]
    text = Detokenizer(tokenizer, ()).text(before, [token_id])
    return text if text and REPLACEMENT not in text else str(tokenizer.convert_ids_to_tokens(token_id))
