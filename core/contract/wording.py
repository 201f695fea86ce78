"""Events in words: the readable log, the headless command and the UI's log say the same thing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import singledispatch
from typing import Any

from core.contract.events import (
    PASS_AT,
    BaselineCompleted,
    CheckpointSaved,
    CompletionsSaved,
    CrossValidated,
    EpochCompleted,
    EvaluationCompleted,
    LossMeasured,
    ModelLoaded,
    Notice,
    RunFailed,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    Score,
    StepCompleted,
    SweepCompleted,
    SweepPlanned,
    TimeSplit,
    TrainingPlanned,
    TrialCompleted,
    TrialStarted,
    ValidationCompleted,
)
from core.contract.statistics import Interval, mcnemar_exact


def describe(event: Any) -> list[str]:
    """Lines of plain text for one event; none for those that only move a progress bar."""
    name = getattr(event, "name", "")
    return [f"{name}  {line}" if name else line for line in _describe(event)]


@singledispatch
def _describe(event: Any) -> list[str]:
    return []


@_describe.register
def _(event: RunStarted) -> list[str]:
    resumed = f", resumed after step {event.resumed_from_step}" if event.resumed_from_step else ""
    return [f"run {event.run_id}{resumed}"]


@_describe.register
def _(event: ModelLoaded) -> list[str]:
    ratio = event.trainable_parameters / event.frozen_parameters if event.frozen_parameters else 0.0
    return [
        f"device                {event.device} ({event.device_name}), {event.dtype}",
        f"model                 {event.model}, loaded in {duration(event.seconds)}",
        f"soft prompt           {event.num_virtual_tokens} virtual tokens × {event.embedding_dim}",
        f"trainable parameters  {event.trainable_parameters:,}",
        f"frozen parameters     {event.frozen_parameters:,} (ratio {ratio:.4%})",
    ]


@_describe.register
def _(event: TrainingPlanned) -> list[str]:
    return [
        f"problems              {event.train_problems} to train, {event.heldout_problems} held out",
        f"optimizer steps       {event.total_steps} ({event.num_epochs} epochs × {event.steps_per_epoch})",
        f"effective batch       {event.effective_batch}",
        f"optimizer             {OPTIMIZERS.get(event.optimizer, event.optimizer)}",
        f"learning rate         {event.learning_rate:g}, warm-up {event.warmup_steps} steps, "
        f"then {schedule_text(event.schedule)}",
    ]


OPTIMIZERS = {"adamw": "AdamW", "adafactor": "Adafactor (learning rate relative to the parameters)",
              "sgd": "SGD with momentum"}


def schedule_text(schedule: str) -> str:
    """What the learning rate does after its warm-up: "linear decay", "cosine decay", "constant"."""
    return schedule if schedule == "constant" else f"{schedule} decay"


@_describe.register
def _(event: StepCompleted) -> list[str]:
    where = f"epoch {event.epoch} step {event.step}/{event.total_steps}"
    return [
        f"{where}  loss {event.loss:.4f}  lr {event.learning_rate:.2e}  grad norm {event.grad_norm:.3f}  "
        f"{event.tokens_per_second:,.0f} tok/s"
    ]


@_describe.register
def _(event: EpochCompleted) -> list[str]:
    took = duration(event.seconds)
    return [f"epoch {event.epoch}/{event.num_epochs} done in {took}: average training loss {event.train_loss:.4f}"]


@_describe.register
def _(event: ValidationCompleted) -> list[str]:
    figures = f"held-out loss {event.loss:.4f}, perplexity {event.perplexity:.3f}"
    if event.epoch == 0:
        return [f"untrained prompt: {figures}"]
    before = "" if event.previous_best is None else f" (best so far {event.previous_best:.4f})"
    return [f"epoch {event.epoch}: {figures}{before}"]


@_describe.register
def _(event: LossMeasured) -> list[str]:
    return [f"{event.checkpoint}: loss {event.loss:.4f}, perplexity {event.perplexity:.3f} on {event.problems} "
            "held-out problems"]


@_describe.register
def _(event: TimeSplit) -> list[str]:
    rest = event.seconds - sum(event.sections.values())
    lines = [f"where {duration(event.seconds)} of training went ({event.steps} steps):"]
    for name, seconds in [*event.sections.items(), ("other", rest)]:
        share = seconds / event.seconds if event.seconds else 0.0
        lines.append(f"  {name:<10}  {seconds:8.2f} s  {share:6.1%}  {'█' * round(40 * share)}".rstrip())
    return [*lines, *([f"trace of the first steps: {event.trace}"] if event.trace else [])]


@_describe.register
def _(event: CheckpointSaved) -> list[str]:
    if event.is_best:
        return [f"✓ New best checkpoint saved to {path}" for path in event.published or [event.path]]
    return []


@_describe.register
def _(event: Notice) -> list[str]:
    where = f"{event.setting}: " if event.setting else ""
    mark = "!" if event.level == "warning" else "·"
    return [f"{mark} {where}{event.what}", *([f"  → {event.remedy}"] if event.remedy else [])]


@_describe.register
def _(event: CompletionsSaved) -> list[str]:
    return [f"{event.total} completions saved to {event.path}"]


@_describe.register
def _(event: EvaluationCompleted) -> list[str]:
    samples = f" ({event.overall.samples:,} samples)" if event.overall.several else ""
    return [
        f"scored {event.overall.total} problems{samples} of {event.checkpoint} in {duration(event.seconds)} "
        f"(isolation: {event.isolation})",
        f"completions: {event.completions_path}",
        f"results: {event.results_path}",
    ]


@_describe.register
def _(event: BaselineCompleted) -> list[str]:
    score, known = event.evaluation.overall, " (known from an earlier run)" if event.known_before else ""
    return [f"model alone: pass@1 {share_text(score.pass_at_1)} on {score.total} problems{known}",
            f"results: {event.evaluation.results_path}"]


@_describe.register
def _(event: CrossValidated) -> list[str]:
    lines = [f"{'fold':<8}{'train':>7}{'held out':>10}{'epoch':>7}{'loss':>9}{'perplexity':>12}"
             f"{'passed':>8}{'pass@1':>8}{'95 % interval':>17}"]
    for fold in event.folds:
        lines.append(f"{fold.fold:<8}{fold.train_problems:>7}{fold.heldout_problems:>10}{fold.epoch:>7}"
                     f"{_held_out(fold.heldout_loss, fold.score)}")
    problems = sum(fold.heldout_problems for fold in event.folds)
    lines.append(f"{'pooled':<8}{'':>7}{problems:>10}{'':>7}{_held_out(event.heldout_loss, event.score)}")
    return [line.rstrip() for line in lines]


def _held_out(loss: float, score: Score | None) -> str:
    figures = f"{loss:>9.4f}{math.exp(min(loss, 700)):>12.3f}"
    if score is None:
        return figures
    return f"{figures}{score.passed:>8}{share_text(score.pass_at_1):>8}{interval_text(score.interval()):>17}"


@_describe.register
def _(event: SweepPlanned) -> list[str]:
    folds = f", each in {event.folds} folds" if event.folds else ""
    return [f"sweep of {', '.join(event.parameters)}: {event.trials} trials{folds}; objective "
            f"{OBJECTIVES[event.objective]}"]


@_describe.register
def _(event: TrialStarted) -> list[str]:
    return [f"trial {event.number}: {point_text(event.parameters)}"]


@_describe.register
def _(event: TrialCompleted) -> list[str]:
    figures = [f"held-out loss {event.heldout_loss:.4f}"] if event.heldout_loss is not None else []
    figures += [f"pass@1 {share_text(event.score.pass_at_1)}"] if event.score else []
    figures += [event.reason] if event.reason else []
    return [f"trial {event.number} {event.state}: {', '.join(figures)}"]


@_describe.register
def _(event: SweepCompleted) -> list[str]:
    names = list(dict.fromkeys(name for trial in event.trials for name in trial.parameters))
    rows = [["rank", "trial", "held-out loss", "pass@1", "95 % interval", "epoch", *names]]
    for rank, trial in enumerate(event.trials, start=1):
        score = trial.score
        rows.append([
            str(rank) if trial.state == "complete" else trial.state, str(trial.number),
            "–" if trial.heldout_loss is None else f"{trial.heldout_loss:.4f}",
            share_text(score.pass_at_1 if score else None), interval_text(score.interval() if score else None),
            "–" if trial.epoch is None else str(trial.epoch),
            *(value_text(trial.parameters.get(name)) for name in names),
        ])
    if not any(trial.score for trial in event.trials):
        rows = [row[:3] + row[5:] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    best = event.trials[0] if event.trials else None
    if best and best.state == "complete":
        table.append(f"the best settings: {best.config} (softtune train takes that file)")
    return table


OBJECTIVES = {"heldout_loss": "held-out loss", "heldout_pass_at_1": "held-out pass@1"}
"""What a sweep looks for, in words."""


def point_text(parameters: Mapping[str, Any]) -> str:
    """A point of a sweep: "training.learning_rate 0.0123, variant text"."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in parameters.items())


def value_text(value: Any) -> str:
    """A setting's value, numbers to four significant digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@_describe.register
def _(event: RunPaused) -> list[str]:
    return ["paused"]


@_describe.register
def _(event: RunResumed) -> list[str]:
    return ["going on"]


@_describe.register
def _(event: RunStopped) -> list[str]:
    kept = f"; training can go on from {event.checkpoint}" if event.checkpoint else ""
    return [f"stopped after step {event.step}{kept}"]


@_describe.register
def _(event: RunFinished) -> list[str]:
    lines = [f"finished in {duration(event.seconds)}"]
    if event.best_heldout_loss is not None:
        best, of = ("best ", f" (epoch {event.best_epoch})") if event.best_epoch else ("", "")
        lines.append(f"{best}held-out loss {event.best_heldout_loss:.4f}{of}")
    checkpoint = [event.best_checkpoint] if event.best_checkpoint else []
    lines += [f"soft prompt: {path}" for path in event.published or checkpoint]
    if event.evaluation is not None:
        lines += score_table(by_kind(event.evaluation), by_kind(event.baseline) if event.baseline else None)
    return [*lines, *([event.verdict] if event.verdict else [])]


def by_kind(event: EvaluationCompleted) -> dict[str, Score]:
    """Its scores by kind of problem; where all were held out, there is nothing else to tell."""
    if not event.train.total and event.heldout.total == event.overall.total > 0:
        return {"held-out": event.heldout}
    return {"all": event.overall, "train": event.train, "held-out": event.heldout}


@_describe.register
def _(event: RunFailed) -> list[str]:
    return [f"✗ {event.what}", *(f"  {line}" for line in event.why.splitlines()),
            *([f"  → {event.remedy}"] if event.remedy else [])]


def score_table(scores: Mapping[str, Score], alone: Mapping[str, Score] | None = None) -> list[str]:
    """Total, Passed, Failed and pass@k with intervals, one line a kind of problem; with several samples, what Passed
    means then.

    Args:
        alone: the scores of the model alone, which stand below those with the same name.
    """
    below = {name: (alone or {})[name] for name in scores if name in (alone or {})}
    every = [*scores.values(), *below.values()]
    ks = measured_ks(every)
    ranged = any(score.interval() for score in every)
    shares = "".join(f"{f'pass@{k}':>9}" + (f"{'95 % interval':>17}" if k == 1 and ranged else "") for k in ks)
    lines = [f"{'problems':<13}{'Total':>7}{'Passed':>8}{'Failed':>8}{shares}"]
    for name, score in scores.items():
        lines.append(_score_row(name, score, ks))
        if name in below:
            lines.append(_score_row("  model alone", below[name], ks))
    for k in ks[1:]:
        found = [f"{name} {interval_text(score.interval(k))}" for name, score in scores.items() if score.interval(k)]
        lines += [f"pass@{k}, 95 %: {', '.join(found)}"] if found else []
    each = samples_each(every)
    if each:
        samples = max(score.samples for score in every)
        lines.append(f"Passed: at least one of a problem's samples ({samples:,} samples, {each} a problem)")
    return lines


def _score_row(name: str, score: Score, ks: Iterable[int]) -> str:
    shares = "".join(
        f"{share_text(score.pass_at(k)):>9}" + (f"{interval_text(score.interval()):>17}" if k == 1 else "") for k in ks
    )
    return f"{name:<13}{score.total:>7}{score.passed:>8}{score.failed:>8}{shares}".rstrip()


def interval_text(interval: Interval | None) -> str:
    """"0.048 – 0.273"; "" where there is none."""
    return f"{interval[0]:.3f} – {interval[1]:.3f}" if interval else ""


SIGNIFICANT = 0.05
"""A p-value below it is called evidence."""


def unsplit_warning(name: str, other: str) -> str:
    """That a comparison may flatter one side."""
    return (f"what {name} trained on is not known: it may have trained on problems that {other} holds out, and then "
            "the held-out figures flatter it")


def flips_verdict(gained: int, lost: int, b: str = "B", either: str = "either") -> str:
    """Whether B is better than A, in words, from the problems that flipped: the exact McNemar test of them."""
    numbers, p = f"{gained} gained, {lost} lost", mcnemar_exact(gained, lost)
    if not gained and not lost:
        return f"the same problems pass: {numbers}"
    if p < SIGNIFICANT:
        said = f"{b} is {'better' if gained > lost else 'worse'}"
    elif gained == lost:
        said = f"no evidence that {either} is better"
    else:
        said = f"no evidence that {b} is {'better' if gained > lost else 'worse'}"
    return f"{said}: {numbers}, p {p_text(p)} (exact McNemar)"


def p_text(p: float) -> str:
    """"= 0.021", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def measured_ks(scores: Iterable[Score]) -> list[int]:
    """1, and the other k for which some of the scores has pass@k."""
    known = list(scores)
    return [k for k in PASS_AT if k == 1 or any(score.pass_at(k) is not None for score in known)]


def samples_each(scores: Iterable[Score]) -> str:
    """How many samples a problem has, on average: "10", "2.5"; "" where all have one each."""
    largest = max((score for score in scores if score.several), key=lambda score: score.samples, default=None)
    return f"{round(largest.samples / largest.total, 1):g}" if largest else ""


def share_text(value: float | None) -> str:
    """A pass@k to three places; a dash where it is not known."""
    return "–" if value is None else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 8.2 s, 3:05, 1:02:00."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
