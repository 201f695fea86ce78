"""`softtune export` and `softtune import`: from a checkpoint file to a folder of another format, and back."""

from __future__ import annotations

from pathlib import Path

from core.contract.config import Config
from core.contract.errors import UsageError
from core.contract.runs import SOFT_PROMPTS
from core.data.humaneval import load_problems
from core.export.merged import export_merged
from core.export.peft import export_peft, import_peft
from core.model.checkpoint import load_checkpoint, save_checkpoint
from core.model.loading import load_model

VERIFIED_PROBLEMS = 8


def export(checkpoint_path: Path, name: str, folder: Path) -> None:
    """Write `folder` in the format `name`, "peft" or "merged"; the base model is the checkpoint's own.

    Code that comes with the model is never run, whatever the checkpoint says: a checkpoint may be anybody's.

    Raises:
        CheckpointError, ModelError, DataError: as reading, loading and writing have it; nothing half-written is left.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    config = checkpoint.settings(Config)
    cpu = config.hardware.model_copy(update={"device": "cpu"})
    model = config.model.model_copy(update={"trust_remote_code": False})
    loaded = load_model(config.model_copy(update={"hardware": cpu, "model": model}))
    checkpoint.check_fits(loaded.embedding_dim, loaded.name)
    if name == "peft":
        export_peft(checkpoint, folder, loaded.model.config)
        return
    problems = load_problems(config.dataset.path).problems[:VERIFIED_PROBLEMS]
    export_merged(checkpoint, loaded, [problem.prompt for problem in problems], folder)


def import_adapter(folder: Path) -> Path:
    """Save an adapter as soft_prompts/<folder>.pt and give that path.

    Raises:
        CheckpointError: it is no adapter that holds a soft prompt.
        UsageError: the file is there already.
    """
    checkpoint = import_peft(folder)
    path = SOFT_PROMPTS / f"{folder.resolve().name}.pt"
    if path.exists():
        raise UsageError(f"{path} exists already", "move it away, or rename the adapter's folder")
    save_checkpoint(checkpoint, path)
    return path
