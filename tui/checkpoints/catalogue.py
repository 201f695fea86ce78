"""Every checkpoint of every run, as rows; read without opening a checkpoint file (that needs torch)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from core.contract.checkpoint_files import SUFFIX, TRASH, Trashed, trashed
from core.contract.config import Config
from core.contract.errors import ConfigError, SofttuneError
from core.contract.events import Score, TrainingPlanned
from core.contract.liveness import judge, last_heartbeat
from core.contract.record import RunRecord, State
from core.contract.runs import RUNS, RunFolder
from tui.checkpoints.facts import FactsReader, RunFacts, Scores, read_scores, stamp_of

Value = TypeVar("Value")


@dataclass(frozen=True)
class CheckpointRow:
    """One checkpoint file of a run, or a damaged run folder (`damage` says why, and the rest is empty)."""

    run: RunFolder
    state: State
    """The run's."""
    name: str = ""
    """"best", "epoch_0003" or "last": the file's stem, and the name of its evaluation folder."""
    path: Path = Path()
    epoch: int | None = None
    step: int | None = None
    train_loss: float | None = None
    heldout_loss: float | None = None
    perplexity: float | None = None
    """exp(held-out loss)."""
    overall: Score | None = None
    """Of evaluations/<name>/summary.json; None where the checkpoint was not scored."""
    train: Score | None = None
    heldout: Score | None = None
    virtual_tokens: int | None = None
    learning_rate: float | None = None
    size: int = 0
    """Bytes."""
    written: float = 0.0
    """Seconds since the epoch."""
    damage: str = ""
    model: str = ""
    plan: TrainingPlanned | None = None
    """The schedule that the run really used."""
    faults: tuple[str, ...] = ()
    """Why some of the row is unknown: files of the run that could not be read."""
    foreign: bool = False
    """Whether it was imported and nobody knows how it was trained: its run's settings are the defaults."""

    @property
    def key(self) -> str:
        """What tells a row from every other."""
        return f"{self.run.run_id}/{self.name}"

    @property
    def scored(self) -> bool:
        """Whether its problems were completed and executed."""
        return self.overall is not None


@dataclass(frozen=True)
class Catalogue:
    """What there is, newest run first; `fault` says why the folder of runs cannot be read."""

    rows: tuple[CheckpointRow, ...] = ()
    trash: tuple[Trashed, ...] = ()
    """Deleted checkpoints of all runs, the last deleted one at the end."""
    runs: int = 0
    fault: str = ""


class CatalogueReader:
    """Reads the folder of runs again and again; a file that did not change is read once."""

    def __init__(self, runs: Path = RUNS) -> None:
        self._runs = runs
        self.members = False
        """Whether the runs that a cross-validation or a sweep is made of are read too."""
        self._readers: dict[str, RunReader] = {}
        self.last = Catalogue()

    def read(self) -> Catalogue:
        """The catalogue by now, the same object where nothing has changed; never raises. For a worker thread."""
        catalogue = self._read()
        if catalogue != self.last:
            self.last = catalogue
        return self.last

    def _read(self) -> Catalogue:
        try:
            with os.scandir(self._runs) as entries:
                names = sorted((entry.name for entry in entries if _is(entry, "dir")), reverse=True)
        except FileNotFoundError:
            return Catalogue()
        except OSError as error:
            return Catalogue(fault=f"{self._runs} cannot be read: {error.strerror}")
        folders = [folder for name in names for folder in self._with_members(RunFolder(self._runs / name))]
        self._readers = {folder.run_id: self._readers.get(folder.run_id) or RunReader(folder) for folder in folders}
        rows = tuple(row for reader in self._readers.values() for row in reader.rows())
        trash = [deleted for reader in self._readers.values() for deleted in reader.trash]
        return Catalogue(rows, tuple(sorted(trash, key=lambda deleted: deleted.place.name)), len(names))

    def _with_members(self, folder: RunFolder) -> list[RunFolder]:
        try:
            return [folder, *(folder.members() if self.members else [])]
        except OSError:
            return [folder]


class RunReader:
    """Reads one run folder again and again."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.trash: list[Trashed] = []
        self._facts = FactsReader(Path(folder.events_file))
        self._kept: dict[Path, tuple[object, Any]] = {}

    def rows(self) -> list[CheckpointRow]:
        """A row for each checkpoint; one that tells the damage where there can be none."""
        try:
            return self._rows()
        except Exception as error:  # a bug of ours in reading one run must not take the others off the screen
            return [self._damaged(f"it cannot be read: {type(error).__name__}: {error}")]

    def _rows(self) -> list[CheckpointRow]:
        record, fault = self._once(Path(self.folder.record_file), self._record)
        if record is None:
            return [self._damaged(fault)]
        files, fault = self._files()
        if fault:
            return [self._damaged(fault)]
        if not files:
            return []
        config, config_fault = self._once(Path(self.folder.config_file), self._config)
        facts = self._facts.read()
        state, _ = judge(record, last_heartbeat(Path(self.folder.lock_file)))
        faults = config_fault, facts.fault
        return [self._row(file, state, record, config, facts, faults) for file in files]

    def _row(
        self, file: os.DirEntry[str], state: State, record: RunRecord, config: Config | None, facts: RunFacts,
        faults: tuple[str, ...],
    ) -> CheckpointRow:
        name, status = file.name.removesuffix(SUFFIX), file.stat()
        epoch, step = facts.place(name)
        foreign = record.kind == "import" and not step
        if foreign:
            epoch = step = None
        validation = facts.validations.get(step) if step is not None else None
        scores, fault = self._once(self.folder.evaluation(name) / "summary.json", read_scores)
        scores = scores or Scores()
        empty = "" if status.st_size else f"{file.name} is empty"
        return CheckpointRow(
            self.folder, state, name, Path(file.path), epoch, step, facts.train_losses.get(epoch or 0),
            validation.loss if validation else None, validation.perplexity if validation else None,
            scores.overall, scores.train, scores.heldout,
            config.soft_prompts.num_virtual_tokens if config else facts.virtual_tokens,
            None if foreign else _peak_rate(config, facts), status.st_size, status.st_mtime, plan=facts.plan,
            model=record.model or (config.model.name if config else ""),
            faults=tuple(text for text in (empty, fault, *faults) if text), foreign=foreign,
        )

    def _files(self) -> tuple[list[os.DirEntry[str]], str]:
        place = Path(self.folder.checkpoints)
        try:
            with os.scandir(place) as entries:
                found = list(entries)
            files = [entry for entry in found if entry.name.endswith(SUFFIX) and not entry.name.startswith(".")
                     and _is(entry, "file") and entry.stat()]
        except FileNotFoundError:
            self.trash = []
            return [], ""  # it has not written any yet
        except OSError as error:
            return [], f"checkpoints cannot be listed: {error.strerror}"
        self.trash = trashed(self.folder) if any(entry.name == TRASH for entry in found) else []
        return sorted(files, key=lambda entry: entry.name), ""

    def _record(self, path: Path) -> RunRecord:
        return self.folder.read_record()

    def _config(self, path: Path) -> Config:
        return self.folder.read_config()

    def _damaged(self, reason: str) -> CheckpointRow:
        return CheckpointRow(self.folder, "damaged", damage=reason)

    def _once(self, path: Path, read: Callable[[Path], Value]) -> tuple[Value | None, str]:
        """(what `read` gives, "") or (None, why not); read anew only when the file has changed."""
        stamp = stamp_of(path)
        kept = self._kept.get(path)
        if kept is None or kept[0] != stamp:
            kept = self._kept[path] = (stamp, _tried(path, read))
        result: tuple[Value | None, str] = kept[1]
        return result


def _is(entry: os.DirEntry[str], kind: Literal["dir", "file"]) -> bool:
    """A link that leads nowhere, or round in a circle, is neither; the others of its folder are still listed."""
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:
        return False


def _peak_rate(config: Config | None, facts: RunFacts) -> float | None:
    if config is not None:
        return config.training.learning_rate
    return facts.plan.learning_rate if facts.plan else None


def _tried(path: Path, read: Callable[[Path], Value]) -> tuple[Value | None, str]:
    try:
        if path.exists() and not path.is_file():
            return None, f"{path.name} is no file"
        return read(path), ""
    except FileNotFoundError:
        return None, f"there is no {path.name}"
    except OSError as error:
        return None, f"{path.name} cannot be read: {error.strerror}"
    except ConfigError as error:
        return None, "; ".join(str(fault) for fault in error.faults)
    except SofttuneError as error:
        return None, error.what
    except ValidationError as error:
        return None, f"{path.name}: {error.errors()[0]['msg']}"
    except ValueError as error:
        return None, f"{path.name}: {error}"
