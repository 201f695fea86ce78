"""What a completion is made with and how it is written down, whoever makes it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.contract.config import Config
from core.contract.record import Split
from core.data.humaneval import Problem
from core.data.prompts import INFILLING_ENDS
from core.generation.postprocess import Level, post_process
from core.generation.requests import DecodingSettings, FinishReason


def decoding_settings(config: Config) -> DecodingSettings:
    """How a configuration says to complete."""
    settings = config.inference
    return DecodingSettings(
        settings.max_new_tokens, settings.temperature, settings.top_p, tuple(settings.stop_sequences),
        config.dataset.seed, settings.batch_size, INFILLING_ENDS if settings.style == "infilling" else (),
    )


def sample_row(
    task_id: str, sample: int, completion: str, tokens: int | None, finish_reason: FinishReason, split: Split,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """One line of a completions file.

    Args:
        tokens: how many were generated; None where nobody counted them.
    """
    return {
        "task_id": task_id, "completion": completion, "sample": sample, "split": split.kind(task_id), "tokens": tokens,
        "finish_reason": finish_reason, **origin,
    }


def processed(row: Mapping[str, Any], problem: Problem, level: Level) -> dict[str, Any]:
    """A line of a completions file with its completion processed, and kept as it was beside that."""
    raw = row["completion"]
    return {**row, "completion": post_process(raw, problem, level), "raw_completion": raw, "post_processing": level}
