"""What a tracker shows of an event: points of curves, and what the run came to. Pure functions.

Names are those that the packages' own integrations use: a part before the slash that groups them, then the figure.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.contract.events import (
    PASS_AT,
    BaselineCompleted,
    CrossValidated,
    EpochCompleted,
    EvaluationCompleted,
    Event,
    FoldScore,
    ModelLoaded,
    RunFailed,
    RunFinished,
    Score,
    StepCompleted,
    SweepCompleted,
    TrialCompleted,
    ValidationCompleted,
)
from core.trackers.tracker import Figure

GB = 1e9


def scalars(event: Event) -> dict[str, float]:
    """Points of curves; loss in nats, memory in GB, pass@k as shares. {} for what has none."""
    match event:
        case StepCompleted():
            memory = event.memory
            return {
                "train/loss": event.loss, "train/learning_rate": event.learning_rate,
                "train/grad_norm": event.grad_norm, "train/tokens_per_second": event.tokens_per_second,
                "train/epoch": event.epoch, "memory/allocated_gb": memory.allocated / GB,
                "memory/reserved_gb": memory.reserved / GB, "memory/peak_gb": memory.peak / GB,
                "memory/process_gb": memory.process / GB,
            }
        case EpochCompleted():
            return {"train/epoch_loss": event.train_loss}
        case ValidationCompleted():
            return {"heldout/loss": event.loss, "heldout/perplexity": event.perplexity}
        case EvaluationCompleted():
            return passed(_by_kind(event))
        case CrossValidated():
            return {"heldout/loss": event.heldout_loss, "heldout/perplexity": event.perplexity}
    return {}


def _by_kind(event: EvaluationCompleted) -> dict[str, Score]:
    scores = {"all": event.overall, "train": event.train, "heldout": event.heldout}
    return {kind: score for kind, score in scores.items() if score.total}


def passed(scores: Mapping[str, Score]) -> dict[str, float]:
    """pass@k by kind of problem, for the k that there are samples for."""
    return {f"pass@{k}/{kind}": share for kind, score in scores.items() for k in PASS_AT
            if (share := score.pass_at(k)) is not None}


def summary(event: Event) -> dict[str, Figure]:
    """What a run came to, as far as this event says; {} for nothing."""
    match event:
        case ModelLoaded():
            return {"device": event.device_name, "dtype": event.dtype,
                    "trainable_parameters": event.trainable_parameters, "frozen_parameters": event.frozen_parameters}
        case ValidationCompleted() if event.is_best:
            return {"heldout/best_loss": event.loss, "heldout/best_perplexity": event.perplexity,
                    "heldout/best_epoch": event.epoch}
        case EvaluationCompleted():
            return _measured(_by_kind(event))
        case BaselineCompleted():
            return {f"baseline/{name}": value for name, value in _measured(_by_kind(event.evaluation)).items()}
        case SweepCompleted() if event.trials and event.trials[0].state == "complete":
            best = event.trials[0]
            return {"best/trial": best.number, **_parameters("best/", best)}
        case RunFinished():
            return {"seconds": event.seconds} | ({"verdict": event.verdict} if event.verdict else {})
        case RunFailed():
            return {"error": event.what}
    return {}


def _measured(scores: Mapping[str, Score]) -> dict[str, Figure]:
    """pass@k with what it is made of and its 95 % interval."""
    figures: dict[str, Figure] = dict(passed(scores))
    for kind, score in scores.items():
        figures |= {f"problems/{kind}": score.total, f"passed/{kind}": score.passed}
        for name, (low, high) in score.intervals.items():
            figures |= {f"{name}/{kind}_low": low, f"{name}/{kind}_high": high}
    return figures


def fold_summary(fold: FoldScore) -> dict[str, Figure]:
    """What a fold of a cross-validation came to."""
    scored = _measured({"heldout": fold.score}) if fold.score else {}
    return {"heldout/loss_taken": fold.heldout_loss, "heldout/epoch_taken": fold.epoch, **scored}


def trial_summary(trial: TrialCompleted) -> dict[str, Figure]:
    """What a trial of a sweep came to, and what it tried."""
    scored = _measured({"heldout": trial.score}) if trial.score else {}
    reason: dict[str, Figure] = {"trial/reason": trial.reason} if trial.reason else {}
    return {"trial/state": trial.state, **_parameters("trial/", trial), **reason, **scored}


def _parameters(prefix: str, trial: TrialCompleted) -> dict[str, Figure]:
    found = {"value": trial.value, "heldout_loss": trial.heldout_loss, "epoch": trial.epoch, **trial.parameters}
    return {f"{prefix}{name}": value for name, value in found.items() if value is not None}
