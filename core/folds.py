"""The folds of a cross-validation: which problems each holds out, which epoch of each is taken, and how it scores.

Of each fold the epoch is taken that was best for the other folds: the problems on which it is then measured had no say
in it. So all folds train all epochs, and nothing is stopped early.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.errors import SofttuneError
from core.contract.events import EvaluationCompleted, Event, RunFinished
from core.contract.files import write_whole
from core.contract.record import Split
from core.contract.runs import RunFolder, create_member
from core.data.batches import supervised_tokens
from core.data.dataset import SplitBy
from core.data.humaneval import Problem, split_folds
from core.evaluation.completions import read_completions
from core.evaluation.job import with_summary
from core.evaluation.scoring import score
from core.evaluation.tally import tally
from core.generation.problems import complete_problems
from core.model.checkpoint import load_checkpoint
from core.model.loading import LoadedModel
from core.population import MemberLogs, Seat
from core.storage import until_written


@dataclass(frozen=True)
class Fold:
    """What one fold came to: its run, the epoch that was taken, and the loss on its held-out problems then."""

    seat: Seat
    epoch: int
    heldout_loss: float

    @property
    def tokens(self) -> int:
        """Supervised tokens of the held-out problems."""
        return supervised_tokens(self.seat.trained.heldout)


def fold_of(folds: int, number: int) -> SplitBy:
    """How one of so many folds, from 0, splits problems."""
    return lambda problems, settings: split_folds(problems, folds, settings.seed)[number]


def seats_of(config: Config, folder: RunFolder, folds: int, prefix: str = "", first: int = 0) -> list[Seat]:
    """The members of a cross-validation, a fold each; their folders are made where they are not there yet.

    Args:
        prefix: of their names, where a run has more than these members; `first` is the number of the first of them.
    """
    every_epoch = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={
        "early_stopping_patience": None, "save_best_only": False,
    })})
    return [
        Seat(first + number, create_member(folder, f"{prefix}fold-{number + 1:02d}", every_epoch), every_epoch,
             fold_of(folds, number))
        for number in range(folds)
    ]


def choose_epochs(seats: Sequence[Seat]) -> list[tuple[int, float]]:
    """For each fold (the epoch whose held-out loss was lowest in the other folds, this fold's own loss then).

    The losses of folds are joined by the mean over their supervised tokens.

    Raises:
        SofttuneError: no epoch has a finite loss in every fold.
    """
    losses = [heldout_losses(seat) for seat in seats]
    weights = [supervised_tokens(seat.trained.heldout) for seat in seats]
    epochs = [epoch for epoch in losses[0] if all(math.isfinite(known.get(epoch, math.nan)) for known in losses)]
    if not epochs:
        raise SofttuneError("no epoch has a finite held-out loss in every fold", "lower training.learning_rate")
    chosen = []
    for place, own in enumerate(losses):
        others = [other for other in range(len(losses)) if other != place]
        best = min(epochs, key=lambda epoch: sum(losses[i][epoch] * weights[i] for i in others))  # noqa: B023 - at once
        chosen.append((best, own[best]))
    return chosen


def heldout_losses(seat: Seat) -> dict[int, float]:
    """The held-out loss of each validated epoch, from the checkpoints of a run."""
    losses = {}
    for path in sorted(seat.folder.checkpoints.glob("epoch_*.pt")):
        checkpoint = load_checkpoint(path)
        loss = checkpoint.metrics.get("heldout_loss")
        if loss is not None:
            losses[checkpoint.epoch] = loss
    return losses


def pooled_loss(folds: Sequence[Fold]) -> float:
    """Mean over the supervised tokens of all held-out problems; of one fold exactly its own."""
    if len(folds) == 1:
        return folds[0].heldout_loss
    return sum(fold.heldout_loss * fold.tokens for fold in folds) / sum(fold.tokens for fold in folds)


def score_folds(
    config: Config, loaded: LoadedModel, folds: Sequence[Fold], problems: Sequence[Problem], target: Path,
    logs: MemberLogs, control: ControlInbox,
) -> Generator[Event, None, EvaluationCompleted | None]:
    """Complete each fold's held-out problems with its soft prompt, then execute all; the value is the pooled scores.

    Args:
        problems: in the order in which they are scored; those that no fold holds out are not.
        target: the folder for the pooled completions and results.
    """
    for fold in folds:
        if not completions_of(fold).exists():
            yield from logs.of(fold.seat, complete_fold(config, loaded, fold, control))
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for fold in folds:
        for row in read_completions(completions_of(fold)):
            rows[row["task_id"]].append(row)
    lines = "".join(json.dumps(row) + "\n" for problem in problems for row in rows.get(problem.task_id, []))
    yield from until_written(lambda: write_whole(target / "completions.jsonl", lines), control)
    of = f"{len(folds)} folds" if len(folds) > 1 else folds[0].seat.folder.root.name
    evaluation = yield from with_summary(score(
        read_completions(target / "completions.jsonl"), {p.task_id: p for p in problems if p.task_id in rows},
        Split(train=[], heldout=list(rows)), config.evaluation, results_path=target / "results.jsonl",
        completions_path=target / "completions.jsonl", checkpoint=of, control=control,
    ), target / "summary.json", control)
    results = read_completions(target / "results.jsonl")
    for fold in folds:
        own = set(fold.seat.prepared.split.heldout)
        mine = "".join(json.dumps(row) + "\n" for row in results if row["task_id"] in own)
        yield from until_written(partial(write_whole, completions_of(fold).with_name("results.jsonl"), mine), control)
    return evaluation


def complete_fold(config: Config, loaded: LoadedModel, fold: Fold, control: ControlInbox) -> Iterator[Event]:
    """Complete the problems that a fold has held out."""
    path = fold.seat.folder.checkpoints / f"epoch_{fold.epoch:04d}.pt"
    origin = {"checkpoint": str(path), "model": loaded.name, "run_id": fold.seat.folder.run_id}
    dataset = fold.seat.prepared
    problems = [problem for problem in dataset.selected if dataset.split.kind(problem.task_id) == "heldout"]
    yield from complete_problems(
        config, loaded, load_checkpoint(path).soft_prompt, problems, dataset.split, completions_of(fold), control,
        origin=origin,
    )


def completions_of(fold: Fold) -> Path:
    """Where a fold's completions of its held-out problems are."""
    return fold.seat.folder.evaluation(f"epoch_{fold.epoch:04d}") / "completions.jsonl"


def finish(fold: Fold) -> Iterator[Event]:
    """The end of a fold's own run."""
    standing = fold.seat.trained.standing
    yield RunFinished(
        evaluation=evaluation_of(fold), best_heldout_loss=standing.best_loss, best_epoch=standing.best_epoch,
        best_checkpoint=str(fold.seat.folder.checkpoints / "best.pt"), seconds=0.0,
    )


def evaluation_of(fold: Fold) -> EvaluationCompleted | None:
    """A fold's own scores, from its results file; None where nothing was executed."""
    file = completions_of(fold).with_name("results.jsonl")
    if not file.exists():
        return None
    rows = read_completions(file)
    return EvaluationCompleted(
        checkpoint=f"epoch_{fold.epoch:04d}", overall=tally(rows), train=tally([]), heldout=tally(rows),
        isolation=str(rows[0].get("isolation", "")), completions_path=str(completions_of(fold)), results_path=str(file),
    )
