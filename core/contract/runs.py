"""Run folders: `runs/<date>-<time>-<name>/` with configuration, state, events, checkpoints and evaluations."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from core.contract.config import Config
from core.contract.config_file import parse_config, render_config
from core.contract.errors import SofttuneError, UsageError
from core.contract.events import Event, UnknownEvent, event_line, parse_event
from core.contract.files import write_whole

RUNS = Path("runs")
SOFT_PROMPTS = Path("soft_prompts")
LOGS = Path("logs")
BEST_PUBLISHED = SOFT_PROMPTS / "best_soft_prompts.pt"

State = Literal["queued", "running", "paused", "stopped", "finished", "failed", "crashed", "damaged"]
ACTIVE: frozenset[str] = frozenset({"queued", "running", "paused"})
QUEUE_SECONDS = 60
"""A queued run that no engine took up within this time counts as crashed."""

FORMAT_VERSION = 1


class Split(BaseModel):
    """Task ids that train and task ids that are held out."""

    model_config = ConfigDict(frozen=True)
    train: list[str]
    heldout: list[str]

    def kind(self, task_id: str) -> Literal["train", "heldout", ""]:
        """Which side a problem is on; "" for one the split does not know."""
        return "train" if task_id in self.train else "heldout" if task_id in self.heldout else ""


class RunRecord(BaseModel):
    """run.json: the state of a run as its engine last wrote it."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())
    format_version: int = FORMAT_VERSION
    run_id: str
    state: State = "queued"
    pid: int | None = None
    pid_started: float | None = None
    """Start time of that process, so that a reused pid is not taken for it."""
    host: str = ""
    started: float
    """Seconds since the epoch."""
    ended: float | None = None
    model: str = ""
    versions: dict[str, str] = {}
    dataset_sha256: str = ""
    split: Split | None = None
    step: int = 0
    total_steps: int = 0
    heldout_loss: float | None = None
    pass_at_1: dict[str, float | None] = {}
    """pass@1 by "all", "train", "heldout", once scored."""
    error: str = ""


@dataclass
class RunFolder:
    """The paths of one run; makes nothing by itself."""

    root: Path
    run_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.run_id = self.root.name

    config_file = property(lambda self: self.root / "config.yml")
    record_file = property(lambda self: self.root / "run.json")
    events_file = property(lambda self: self.root / "events.jsonl")
    control_file = property(lambda self: self.root / "control.jsonl")
    engine_log = property(lambda self: self.root / "engine.log")
    checkpoints = property(lambda self: self.root / "checkpoints")
    problems_file = property(lambda self: self.root / "problems.jsonl")
    trace_file = property(lambda self: self.root / "profile" / "trace.json.gz")

    def evaluation(self, checkpoint: str) -> Path:
        """Folder for the completions and results of one checkpoint ("best", "epoch_0003")."""
        return Path(self.root) / "evaluations" / checkpoint

    def read_record(self) -> RunRecord:
        """Read run.json as written; `judge` adds what the machine knows."""
        return RunRecord.model_validate_json(Path(self.record_file).read_bytes())

    def write_record(self, record: RunRecord) -> None:
        """Replace run.json as a whole."""
        write_whole(Path(self.record_file), record.model_dump_json(indent=1) + "\n")

    def read_config(self) -> Config:
        """The resolved configuration of the run; raises UsageError where it cannot be read."""
        try:
            text = Path(self.config_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.config_file} cannot be read: {error}", "start a new run") from None
        return parse_config(text, str(self.config_file))


def check_outputs(config: Config, output: Path | None = None) -> None:
    """Raise UsageError when a place that a job will write to cannot be written, before hours are spent on it."""
    target = output or Path(config.inference.output_path)
    setting = "--output" if output else "inference.output_path"
    if target.is_dir():
        raise UsageError(f"{setting}: {target} is a folder", "name a file")
    for folder, name in ((target.parent, setting), (SOFT_PROMPTS, "soft_prompts/"), (LOGS, "logs/"), (RUNS, "runs/")):
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise UsageError(f"{name}: {nearest} is no folder that can be written to",
                             "mend it, or start softtune in another folder")


def create_run(config: Config, name: str, runs: Path = RUNS) -> RunFolder:
    """Make the folder of a new run, in state "queued".

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
        write_whole(Path(folder.config_file), render_config(config))
        record = RunRecord(run_id=folder.run_id, started=now, host=socket.gethostname(), model=config.model.name)
        folder.write_record(record)
        Path(folder.events_file).touch()
        return folder
    raise UsageError(f"{runs} has 99 runs named {stem}", "choose another --name")


def find_run(run_id: str, runs: Path = RUNS) -> RunFolder:
    """The folder of a run, by its id, the end of its id (its name), or "last"; raises UsageError where none fits."""
    known = sorted(path.name for path in runs.glob("*") if path.is_dir())
    if run_id == "last" and known:
        return RunFolder(runs / known[-1])
    fits = [name for name in known if name == run_id] or [name for name in known if name.endswith(f"-{run_id}")]
    if not fits:
        remedy = f"the newest are: {', '.join(known[-3:])}" if known else "there are no runs here yet: softtune train"
        raise UsageError(f"there is no run {run_id!r} in {runs}/", remedy)
    return RunFolder(runs / fits[-1])


def process_start(pid: int) -> float | None:
    """When a process started (clock ticks since boot); None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        return None
    else:
        after_name = stat.rpartition(")")[2].split()
        return None if after_name[0] == "Z" else float(after_name[19])
    try:  # a system without /proc: all that can be asked is whether it is there
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return None
    return 0.0


def judge(record: RunRecord, now: float | None = None) -> State:
    """The state of a run, given that its engine may be gone without having said so."""
    if record.state not in ACTIVE or record.host != socket.gethostname():
        return record.state
    if record.pid is None:
        waited = (time.time() if now is None else now) - record.started
        return "queued" if waited < QUEUE_SECONDS else "crashed"
    started = process_start(record.pid)
    return record.state if started is not None and started == record.pid_started else "crashed"


@dataclass(frozen=True)
class RunSummary:
    """One line in a list of runs; `reason` says why a run is damaged or failed."""

    folder: RunFolder
    state: State
    record: RunRecord | None
    reason: str = ""


def summarize(folder: RunFolder) -> RunSummary:
    """What is known of one run; a folder that cannot be read is "damaged", with the reason."""
    try:
        record = folder.read_record()
    except OSError as error:
        return RunSummary(folder, "damaged", None, f"run.json: {error.strerror}")
    except ValidationError as error:
        first = error.errors()[0]
        return RunSummary(folder, "damaged", None, f"run.json: {first['msg']}")
    return RunSummary(folder, judge(record), record, record.error)


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


class EventLog:
    """The engine's end of events.jsonl: appends whole lines. A torn line that a crash left is cut off first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 - lives as long as the run
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            self._file.truncate(whole)

    def append(self, event: Event) -> None:
        """Write one event; it is in the kernel's hands when this returns."""
        self._file.write(event_line(event).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Make everything durable."""
        os.fsync(self._file.fileno())
        self._file.close()


_events: TypeAdapter[list[Event]] = TypeAdapter(list[Annotated[Event, Field(discriminator="type")]])


class EventTail:
    """A reader's end of events.jsonl: each `read` gives what arrived since the last one.

    A line that is not whole yet waits; a line that is no event is counted in `skipped`, one of a newer version in
    `unknown`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.behind = False
        self.skipped = 0
        self.unknown = 0

    def read(self, at_most: int = -1) -> list[Event]:
        """New events, oldest first; [] when there are none or the file is not there yet.

        Args:
            at_most: bytes to read now, so that a long log comes in parts; -1 for all. `behind` says if more is there.
        """
        self.behind = False
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read(at_most)
                if len(data) == at_most:
                    data += file.readline()
                    self.behind = True
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        lines = whole.splitlines()
        try:
            return _events.validate_json(b"[" + b",".join(lines) + b"]")
        except ValidationError:
            return self._one_by_one(lines)

    def _one_by_one(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            event = parse_event(line)
            if event is None:
                self.skipped += 1
            elif isinstance(event, UnknownEvent):
                self.unknown += 1
            else:
                events.append(event)
        return events


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file that are JSON objects; a torn or foreign line is left out."""
    import json

    rows = []
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
