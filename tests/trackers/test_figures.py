"""What trackers show of events."""

from __future__ import annotations

import pytest

from core.contract import events as ev
from core.trackers.figures import fold_summary, scalars, summary, trial_summary
from tests.trackers.told import score, step, training, validation


def test_a_step_and_a_validation_are_points_of_curves_under_the_usual_names() -> None:
    points = scalars(step(2))
    assert points.keys() == {
        "train/loss", "train/learning_rate", "train/grad_norm", "train/tokens_per_second", "train/epoch",
        "memory/allocated_gb", "memory/reserved_gb", "memory/peak_gb", "memory/process_gb",
    }
    assert points["train/loss"] == 0.5 and points["memory/peak_gb"] == 3.0
    assert scalars(validation(0)) == {"heldout/loss": 2.0, "heldout/perplexity": 3.0}


def test_pass_at_1_is_a_point_and_its_interval_in_the_summary() -> None:
    (evaluation,) = (event for event in training("r") if isinstance(event, ev.EvaluationCompleted))
    assert scalars(evaluation) == {"pass@1/all": 0.3, "pass@1/train": 0.25, "pass@1/heldout": 0.5}
    said = summary(evaluation)
    low, high = score(1, 2).intervals["pass@1"]
    assert (said["pass@1/heldout_low"], said["pass@1/heldout_high"]) == (low, high)
    assert (said["passed/train"], said["problems/train"]) == (2, 8)
    alone = summary(ev.BaselineCompleted(evaluation=evaluation))
    assert alone["baseline/pass@1/all"] == 0.3 and not any(name.startswith("pass@") for name in alone)
    nothing_trained = evaluation.model_copy(update={"train": score(0, 0)})
    assert scalars(nothing_trained).keys() == {"pass@1/all", "pass@1/heldout"}


def test_only_the_best_validation_is_in_the_summary() -> None:
    assert summary(validation(0)) == {}
    assert summary(validation(2))["heldout/best_epoch"] == 1


def test_folds_and_trials_have_summaries_of_their_own() -> None:
    fold = ev.FoldScore(fold=1, run_id="runs/x/members/fold-01", train_problems=8, heldout_problems=2, epoch=3,
                        heldout_loss=0.9, score=score(1, 2))
    assert fold_summary(fold)["pass@1/heldout"] == 0.5 and fold_summary(fold)["heldout/epoch_taken"] == 3
    trial = ev.TrialCompleted(number=2, parameters={"training.learning_rate": 0.1, "dataset.path": None},
                              state="pruned", reason="behind", heldout_loss=1.5)
    assert trial_summary(trial) == {"trial/state": "pruned", "trial/heldout_loss": 1.5, "trial/reason": "behind",
                                    "trial/training.learning_rate": 0.1}
    best = trial.model_copy(update={"state": "complete", "value": 1.5})
    assert summary(ev.SweepCompleted(objective="heldout_loss", trials=[best]))["best/trial"] == 2
    assert summary(ev.SweepCompleted(objective="heldout_loss", trials=[trial])) == {}


@pytest.mark.parametrize("event", [
    ev.Notice(what="x"), ev.Progress(stage="loading", done=0, total=1, unit="model"), ev.RunPaused(),
])
def test_the_rest_is_not_shown(event: ev.Event) -> None:
    assert scalars(event) == {} and summary(event) == {}
