"""What the Playground can complete with: the checkpoint files that are there, and the settings that go with one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.contract.config import Config
from core.contract.errors import SofttuneError
from core.contract.runs import BEST_PUBLISHED, RunFolder
from tui.plan_words import Plan


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint; `run_id` is "" for one outside of the run folders."""

    path: Path
    run_id: str = ""
    written: float = 0.0
    """Seconds since the epoch."""

    @property
    def name(self) -> str:
        """"best", "epoch_0003"."""
        return self.path.stem

    @property
    def title(self) -> str:
        """What to call it where it stands alone."""
        return f"{self.name} of {self.run_id}" if self.run_id else str(self.path)


@dataclass(frozen=True)
class Bench:
    """What a completion would use now.

    Args:
        checkpoints: all that can be chosen.
        checkpoint: the one in use; None where there is none.
        config: settings to complete with; None where they are faulty.
        model: the base model's name; "" where only the checkpoint knows it.
        fault: why the settings cannot be used.
    """

    checkpoints: tuple[CheckpointFile, ...] = ()
    checkpoint: CheckpointFile | None = None
    config: Config | None = None
    model: str = ""
    fault: SofttuneError | None = None


def list_checkpoints(runs: Path, published: Path = BEST_PUBLISHED) -> tuple[CheckpointFile, ...]:
    """The published best one, then those of every run, newest first; what cannot be read is left out."""
    found = [file for path in _matching(runs, "*/checkpoints/*.pt") if (file := _file(path, path.parent.parent.name))]
    first = _file(published)
    return (*([first] if first else []), *sorted(found, key=lambda file: (file.written, str(file.path)), reverse=True))


def default_checkpoint(files: tuple[CheckpointFile, ...], path: str) -> CheckpointFile | None:
    """The one at `inference.checkpoint_path`, else the newest run's best, else the newest."""
    named = next((file for file in files if file.path == Path(path)), None) or (_file(Path(path)) if path else None)
    if named is not None:
        return named
    in_runs = [file for file in files if file.run_id]
    best = [file for file in in_runs if file.name == "best"]
    return max(best, key=lambda file: file.run_id) if best else in_runs[0] if in_runs else None


def survey(plan: Plan, runs: Path, followed: str = "", chosen: CheckpointFile | None = None) -> Bench:
    """Look at the files; never raises.

    Args:
        plan: what `s` would start.
        runs: the folder of runs.
        followed: the id of the run that the app follows, or "".
        chosen: the checkpoint that the user wants; None for the default.
    """
    files = list_checkpoints(runs)
    planned: Config | None = None
    fault: SofttuneError | None = None
    try:
        planned = plan.load()
    except SofttuneError as error:
        fault = error
    checkpoint = chosen or default_checkpoint(files, planned.inference.checkpoint_path if planned else "")
    own = _config_of(runs, checkpoint.run_id if checkpoint else "")
    config = own or _config_of(runs, followed) or planned
    known = config if own or checkpoint is None else None
    return Bench(files, checkpoint, config, known.model.name if known else "", None if config else fault)


def _config_of(runs: Path, run_id: str) -> Config | None:
    """A run's settings; None where it has none that can be read: what was planned is used then."""
    if not run_id:
        return None
    try:
        return RunFolder(runs / run_id).read_config()
    except SofttuneError:
        return None


def _matching(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def _file(path: Path, run_id: str = "") -> CheckpointFile | None:
    try:
        written = path.stat().st_mtime
    except OSError:
        return None
    return CheckpointFile(path, run_id, written) if path.is_file() else None
