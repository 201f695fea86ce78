"""What a run will write, checked against the room that its disks have before hours are spent on it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from core.contract.config import Config
from core.contract.errors import UsageError
from core.contract.estimate import gigabytes, model_shape, soft_prompt_bytes
from core.contract.plan import plan_training, split_sizes

WIDTH = 1024
"""H of a model that is not known yet."""
CHECKPOINT_BYTES = 16_000
"""Of a checkpoint beside its tensors: settings, split, and the state of random numbers in last.pt."""
EVENT_BYTES = 600
"""Of one line of events.jsonl, about; an optimizer step's has 440."""
HUMANEVAL_PROBLEMS, HUMANEVAL_BYTES = 164, 214_438
TOKEN_BYTES = 6
"""Of one generated token as JSON text, about."""
COPIES_OF_COMPLETIONS = 4
"""events.jsonl, completions.jsonl, its published copy, results.jsonl."""
SPARE = 2_000_000
"""For logs and temporary files."""


def bytes_written(config: Config) -> int:
    """The most that a run writes, about: checkpoints with their published copies, events, completions and results."""
    shape = model_shape(config.model)
    width = config.soft_prompts.embedding_dim or (shape.hidden if shape else WIDTH)
    prompt = 4 * config.soft_prompts.num_virtual_tokens * width
    problems, data = _problems(config.dataset.path, config.dataset.max_samples)
    plan = plan_training(config, *split_sizes(max(problems, 2), config.dataset.train_val_split))
    epochs = 0 if config.evaluation.save_best_only else config.training.num_epochs
    last = soft_prompt_bytes(config, width)  # a little less: gradients are not written
    checkpoints = 2 * (epochs + 1) * (prompt + CHECKPOINT_BYTES) + 3 * (last + CHECKPOINT_BYTES)
    if config.dataset.evaluation_path:
        problems, data = _problems(config.dataset.evaluation_path, config.dataset.max_samples)
    samples = problems * config.inference.num_samples if config.evaluation.score_after_training else 0
    completions = COPIES_OF_COMPLETIONS * samples * (config.inference.max_new_tokens * TOKEN_BYTES + EVENT_BYTES)
    return checkpoints + plan.total_steps * EVENT_BYTES + completions + data + SPARE


def check_space(config: Config, places: dict[str, Path]) -> None:
    """Raise UsageError where a run will not have room; `places` are its folders, made or not, by what to call them."""
    needed = bytes_written(config)
    for name, place in places.items():
        nearest = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
        free = shutil.disk_usage(nearest).free
        if free < needed:
            raise UsageError(
                f"{name}: {nearest} has {gigabytes(free)} free, and this run may write {gigabytes(needed)}",
                "make room (df -h), or start elsewhere; evaluation.save_best_only: true and fewer training.num_epochs, "
                "inference.num_samples or inference.max_new_tokens need less",
            )


def _problems(path: str | None, most: int | None) -> tuple[int, int]:
    """(the most problems that a file can have, or `most` of them, bytes of the copy of them)."""
    if path is None:
        return min(HUMANEVAL_PROBLEMS, most or HUMANEVAL_PROBLEMS), HUMANEVAL_BYTES
    try:
        data = os.stat(path).st_size
    except OSError:
        return most or HUMANEVAL_PROBLEMS, HUMANEVAL_BYTES  # the engine will say what is wrong with it
    each = HUMANEVAL_BYTES // HUMANEVAL_PROBLEMS // 4
    return min(most or data, data // each + 1), data
