"""Completing a prompt that the user typed."""

from __future__ import annotations

import time
from pathlib import Path

from core.contract.workbench import Complete, PromptCompleted, TextAdded
from core.data.batches import encode_problems
from core.data.humaneval import Problem
from core.generation.decoder import Completion, Request, stream
from core.generation.problems import decoding_settings, shared_prefix
from core.model.checkpoint import load_checkpoint
from core.workbench import Replies
from core.workbench.models import Models, settings_of

NAME = "the prompt"
"""Stands where messages about problems have a task id."""


def complete_prompt(request: Complete, models: Models) -> Replies:
    """Complete a prompt as `softtune infer` completes a problem's, giving the text as it grows and as it is written.

    It is not post-processed: that takes a function to complete, and the whole of the text.
    """
    config, checkpoint = request.config, None
    if request.checkpoint:
        path = Path(request.checkpoint)
        checkpoint = load_checkpoint(path)
        config = settings_of(checkpoint, config)
    loaded = yield from models.loaded(request.id, config)
    rows = None
    if checkpoint is not None:
        checkpoint.check_fits(loaded.embedding_dim, loaded.name)
        rows = checkpoint.soft_prompt if request.soft_prompt else None
    (example,) = encode_problems(loaded.tokenizer, [Problem(NAME, request.prompt, "", "", "")], config)
    prefix = shared_prefix(loaded, rows, example)
    started = time.perf_counter()
    pieces = stream(loaded.model, loaded.tokenizer, prefix, Request(NAME, example.context), decoding_settings(config))
    for piece in pieces:
        if isinstance(piece, Completion):
            yield PromptCompleted(
                request=request.id, text=piece.text, tokens=len(piece.token_ids), finish_reason=piece.finish_reason,
                seconds=time.perf_counter() - started,
            )
        else:
            yield TextAdded(request=request.id, text=piece) if piece else None
    return ""
