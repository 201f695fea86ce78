"""Cross-validation: every problem is held out once, so that all of them say what a soft prompt does for new ones.

The folds train together, each as a member of the run (`core.population`); `core.folds` says how they are measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial

from core.baseline import score_baseline, verdict_beside
from core.contract.config import Config, DatasetSettings
from core.contract.control import ControlInbox, StopRequested
from core.contract.events import (
    CrossValidated,
    EvaluationCompleted,
    Event,
    FoldScore,
    RunFinished,
    RunStarted,
    RunStopped,
)
from core.contract.record import Split
from core.contract.runs import RunFolder
from core.data.dataset import prepare_dataset
from core.data.humaneval import Problem
from core.evaluation.permission import foretell_refusal, unless_refused
from core.failure import failure_of_run
from core.folds import Fold, choose_epochs, evaluation_of, finish, pooled_loss, score_folds, seats_of
from core.jobs import load
from core.population import MemberLogs, train_together, trained_or_raise
from core.storage import until_written
from core.training.loss import perplexity

POOLED = "heldout"
"""The evaluation of the run that has every problem as the fold completed it that held it out."""


def crossvalidate(config: Config, folder: RunFolder, folds: int, control: ControlInbox) -> Iterator[Event]:
    """Train a soft prompt for each fold, and complete and score every problem with the one that has not seen it.

    A run that was cut short goes on from what its folder has. Nothing is published under soft_prompts/.
    """
    start = time.perf_counter()
    logs = MemberLogs(control)
    try:
        yield RunStarted(run_id=folder.run_id, model=config.model.name, pid=os.getpid(),
                         resumed_from_step=steps_before(folder))
        if config.evaluation.score_after_training:
            yield from foretell_refusal(config.evaluation)
        dataset = yield from until_written(partial(prepare_dataset, config, folder, hold_out_all), control)
        with logs:
            seats = yield from until_written(partial(seats_of, config, folder, folds), control)
            loaded = yield from load(config, control)
            yield from train_together(seats, loaded, logs, control)
            trained_or_raise(seats)
            chosen = [Fold(seat, *taken) for seat, taken in zip(seats, choose_epochs(seats), strict=True)]
            evaluation = baseline = None
            if config.evaluation.score_after_training:
                scoring = score_folds(
                    config, loaded, chosen, dataset.selected, folder.evaluation(POOLED), logs, control)
                evaluation = yield from unless_refused(
                    scoring, config.evaluation, folder.evaluation(POOLED) / "completions.jsonl")
                baseline = yield from score_baseline(config, loaded, dataset.selected, dataset.split, control)
            for fold in chosen:
                yield from logs.of(fold.seat, finish(fold))
        report = pooled(chosen, evaluation)
        yield report
        yield RunFinished(
            evaluation=evaluation, baseline=baseline,
            verdict=verdict_beside(baseline, evaluation) if baseline and evaluation else "",
            best_heldout_loss=report.heldout_loss, seconds=time.perf_counter() - start,
        )
    except StopRequested:
        yield RunStopped(step=0)
    except Exception as error:  # the run must say what it died of, whatever that is
        yield failure_of_run(error, folder, "crossvalidate")


def steps_before(folder: RunFolder) -> int:
    """After which step the member whose curve the run shows, its first one, will go on."""
    first = folder.members()[:1]
    return first[0].read_record().step if first else 0


def hold_out_all(problems: list[Problem], settings: DatasetSettings) -> Split:
    """Every problem is held out in some fold."""
    return Split(train=[], heldout=[problem.task_id for problem in problems])


def pooled(folds: Sequence[Fold], evaluation: EvaluationCompleted | None) -> CrossValidated:
    """The report of all folds."""
    scores = [evaluation_of(fold) for fold in folds]
    loss = pooled_loss(folds)
    return CrossValidated(
        folds=[
            FoldScore(
                fold=number, run_id=fold.seat.folder.run_id, train_problems=len(fold.seat.trained.train),
                heldout_problems=len(fold.seat.trained.heldout), epoch=fold.epoch, heldout_loss=fold.heldout_loss,
                score=scored.heldout if scored and evaluation else None,
            ) for number, (fold, scored) in enumerate(zip(folds, scores, strict=True), start=1)
        ],
        heldout_loss=loss, perplexity=perplexity(loss), score=evaluation.heldout if evaluation else None,
    )
