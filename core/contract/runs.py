"""Run folders: `runs/<date>-<time>-<name>/` with configuration, state, events, checkpoints and evaluations."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from core.contract.config import Config
from core.contract.config_file import parse_config, render_config
from core.contract.errors import SofttuneError, UsageError
from core.contract.files import read_regular, write_whole
from core.contract.liveness import judge, last_heartbeat
from core.contract.record import RunRecord, State
from core.contract.space import check_space

RUNS = Path("runs")
SOFT_PROMPTS = Path("soft_prompts")
LOGS = Path("logs")
BEST_PUBLISHED = SOFT_PROMPTS / "best_soft_prompts.pt"

MEMBERS = "members"


@dataclass
class RunFolder:
    """The paths of one run; makes nothing by itself.

    A cross-validation or a sweep is a run whose folder has a folder for each of those that it is made of, its members:
    runs/<run_id>/members/<name>, whose own id is the part behind runs/.
    """

    root: Path
    run_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.run_id = "/".join(self.root.parts[-3:]) if self.is_member else self.root.name

    @property
    def is_member(self) -> bool:
        """Whether it is one of those that another run is made of."""
        return self.root.parent.name == MEMBERS

    def member(self, name: str) -> RunFolder:
        """The folder of a member."""
        return RunFolder(self.root / MEMBERS / name)

    def members(self) -> list[RunFolder]:
        """Those that are there, in the order of their names."""
        return [RunFolder(root) for root in sorted((self.root / MEMBERS).glob("*")) if root.is_dir()]

    config_file = property(lambda self: self.root / "config.yml")
    record_file = property(lambda self: self.root / "run.json")
    previous_record_file = property(lambda self: self.root / "run.json.previous")
    events_file = property(lambda self: self.root / "events.jsonl")
    control_file = property(lambda self: self.root / "control.jsonl")
    engine_log = property(lambda self: self.root / "engine.log")
    lock_file = property(lambda self: (self.root.parent.parent if self.is_member else self.root) / "engine.lock")
    reserve_file = property(lambda self: self.root / ".reserve")
    checkpoints = property(lambda self: self.root / "checkpoints")
    sweep_file = property(lambda self: self.root / "sweep.yml")
    problems_file = property(lambda self: self.root / "problems.jsonl")
    trace_file = property(lambda self: self.root / "profile" / "trace.json.gz")

    def evaluation(self, checkpoint: str) -> Path:
        """Folder for the completions and results of one checkpoint ("best", "epoch_0003")."""
        return Path(self.root) / "evaluations" / checkpoint

    def read_record(self) -> RunRecord:
        """Read run.json as written; `judge` adds what the machine knows."""
        return RunRecord.model_validate_json(read_regular(Path(self.record_file)))

    def write_record(self, record: RunRecord) -> None:
        """Replace run.json as a whole; the one before stays as run.json.previous."""
        write_whole(Path(self.record_file), _as_text(record), Path(self.previous_record_file))

    def recovered_record(self) -> tuple[RunRecord, str] | None:
        """What stands in for a run.json that is damaged or missing, and in words what it was made of.

        That is the record before. Where that is of no use either, a training run has a new one from its config.yml;
        which problems train follows from that, as when it began. None where there is no way, or run.json is not damaged
        but of a newer softtune, or cannot be read for another reason.
        """
        try:
            self.read_record()
            return None
        except FileNotFoundError:
            pass
        except OSError:
            return None
        except ValidationError as error:
            if any(fault["loc"] == ("format_version",) for fault in error.errors()):
                return None
        with contextlib.suppress(OSError, ValidationError):
            previous = RunRecord.model_validate_json(read_regular(Path(self.previous_record_file)))
            return previous, "the one before it, run.json.previous, is taken instead"
        if self.members() or self.sweep_file.exists():
            return None
        with contextlib.suppress(OSError, SofttuneError):
            config, started = self.read_config(), Path(self.config_file).stat().st_mtime
            return _new_record(self, config, started, state="stopped"), "it is made anew from config.yml"
        return None

    def restore_record(self, record: RunRecord) -> None:
        """Put a record in place of a damaged one, which does not become the one before."""
        write_whole(Path(self.record_file), _as_text(record))

    def read_config(self) -> Config:
        """The resolved configuration of the run; raises UsageError where it cannot be read."""
        try:
            text = read_regular(Path(self.config_file)).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.config_file} cannot be read: {error}", "start a new run") from None
        return parse_config(text, str(self.config_file))

    def check_config_unchanged(self, record: RunRecord) -> None:
        """Raise UsageError where config.yml is not what the run began with: a shorter file may still be a valid one."""
        if record.config_sha256 and _sha256(Path(self.config_file).read_bytes()) != record.config_sha256:
            raise UsageError(f"{self.config_file} was changed or damaged since the run began",
                             f"restore it; or start a new run with it: softtune train {self.config_file}")


def check_outputs(config: Config, output: Path | None = None) -> None:
    """Raise UsageError where a place that a job will write to cannot be written, or a run's has too little room."""
    target = output or Path(config.inference.output_path)
    setting = "--output" if output else "inference.output_path"
    if target.is_dir():
        raise UsageError(f"{setting}: {target} is a folder", "name a file")
    places = {setting: target.parent, "soft_prompts/": SOFT_PROMPTS, "logs/": LOGS, "runs/": RUNS}
    for name, folder in places.items():
        if folder.is_symlink() and not folder.exists():
            raise UsageError(f"{name}: {folder} points to {os.readlink(folder)}, which is not there",
                             "mount what it is on, or make it")
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise UsageError(f"{name}: {nearest} is no folder that can be written to",
                             "mend it, or start softtune in another folder")
    check_space(config, places)


def create_run(config: Config, name: str, runs: Path = RUNS, **fields: Any) -> RunFolder:
    """Make the folder of a new run, in state "queued"; `fields` are further ones of its RunRecord.

    Raises:
        UsageError: the name has characters that a folder should not have, or the folder cannot be made.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UsageError(f"--name {name!r} is not usable", "use letters, digits, dot, dash and underscore, at most 64")
    now = time.time()
    stem = f"{time.strftime('%Y-%m-%d-%H%M%S', time.localtime(now))}-{name}"
    for number in range(1, 100):
        root = runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            root.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(f"the run folder {root} cannot be made: {error.strerror}",
                             "start softtune in a folder that you may write to") from None
        folder = RunFolder(root)
        try:
            _fill(folder, config, now, **fields)
        except OSError as error:
            shutil.rmtree(root, ignore_errors=True)
            raise UsageError(f"the run folder {root} cannot be written: {error.strerror}",
                             "make room, or mend its permissions (df -h)") from None
        return folder
    raise UsageError(f"{runs} has 99 runs named {stem}", "choose another --name")


def create_member(folder: RunFolder, name: str, config: Config) -> RunFolder:
    """The folder of a member of a run, made if it is not there yet; it comes with its record or not at all."""
    member = folder.member(name)
    if not member.root.exists():
        unfinished = RunFolder(folder.root / f".{name}.new")
        shutil.rmtree(unfinished.root, ignore_errors=True)
        unfinished.root.mkdir(parents=True)
        _fill(unfinished, config, time.time(), member.run_id)
        member.root.parent.mkdir(exist_ok=True)
        unfinished.root.rename(member.root)
    return member


def _fill(folder: RunFolder, config: Config, started: float, run_id: str = "", **fields: Any) -> None:
    """Write what a run has before an engine takes it up."""
    write_whole(Path(folder.config_file), render_config(config))
    folder.write_record(_new_record(folder, config, started, **{"run_id": run_id or folder.run_id, **fields}))
    Path(folder.events_file).touch()


def _new_record(folder: RunFolder, config: Config, started: float, **fields: Any) -> RunRecord:
    """The record of a run whose config.yml has been written."""
    known = {"run_id": folder.run_id, "host": socket.gethostname(), "model": config.model.name,
             "config_sha256": _sha256(Path(folder.config_file).read_bytes())}
    return RunRecord(started=started, **{**known, **fields})


def _as_text(record: RunRecord) -> str:
    return record.model_dump_json(indent=1) + "\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def find_run(run_id: str, runs: Path = RUNS) -> RunFolder:
    """The folder of a run, by its id, the end of its id (its name), or "last"; raises UsageError where none fits.

    "last" is the newest that softtune made here, and not one that was imported, where there is such.
    """
    known = sorted(path.name for path in runs.glob("*") if path.is_dir())
    if run_id == "last" and known:
        newest = (RunFolder(runs / name) for name in reversed(known))
        return next((run for run in newest if not _imported(run)), RunFolder(runs / known[-1]))
    fits = [name for name in known if name == run_id] or [name for name in known if name.endswith(f"-{run_id}")]
    if not fits:
        remedy = f"the newest are: {', '.join(known[-3:])}" if known else "there are no runs here yet: softtune train"
        raise UsageError(f"there is no run {run_id!r} in {runs}/", remedy)
    return RunFolder(runs / fits[-1])


def _imported(run: RunFolder) -> bool:
    with contextlib.suppress(OSError, ValidationError):
        return run.read_record().kind == "import"
    return False


@dataclass(frozen=True)
class RunSummary:
    """One line in a list of runs; `reason` says why a run is damaged or failed."""

    folder: RunFolder
    state: State
    record: RunRecord | None
    reason: str = ""


def summarize(folder: RunFolder, heartbeat: float | None | Literal["now"] = "now") -> RunSummary:
    """What is known of one run; a folder that cannot be read is "damaged", with the reason.

    Args:
        heartbeat: when an engine last gave a sign of life; "now" looks.
    """
    try:
        record = folder.read_record()
    except OSError as error:
        return _damaged(folder, str(error.strerror))
    except ValidationError as error:
        return _damaged(folder, error.errors()[0]["msg"].removeprefix("Value error, "))
    state, reason = judge(record, last_heartbeat(Path(folder.lock_file)) if heartbeat == "now" else heartbeat)
    return RunSummary(folder, state, record, reason)


def _damaged(folder: RunFolder, fault: str) -> RunSummary:
    to_mend = not folder.is_member and folder.recovered_record()
    mend = f"; softtune train --resume {folder.run_id} puts it right" if to_mend else ""
    return RunSummary(folder, "damaged", None, f"run.json: {fault}{mend}")


def list_runs(runs: Path = RUNS) -> list[RunSummary]:
    """Every run, newest first."""
    try:
        folders = (path for path in runs.iterdir() if path.is_dir() and not path.name.startswith("."))
        roots: Iterable[Path] = sorted(folders, reverse=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        remedy = "check its permissions" if runs.is_dir() else f"{runs} has to be a folder: move it away"
        raise SofttuneError(f"{runs} cannot be read: {error.strerror}", remedy) from None
    return [summarize(RunFolder(root)) for root in roots]


