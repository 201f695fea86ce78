"""The model alone on a run's problems: completed and scored once for a model, its settings and the problems."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from core.comparison import compare_rows
from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.errors import SandboxError, SofttuneError
from core.contract.events import (
    BaselineCompleted,
    CompletionGenerated,
    CompletionsSaved,
    EvaluationCompleted,
    Event,
    Notice,
    ProblemEvaluated,
    Progress,
)
from core.contract.files import write_whole
from core.contract.record import Split
from core.data.humaneval import Problem
from core.evaluation.completions import read_completions
from core.evaluation.permission import refusal_to_run
from core.evaluation.scoring import score
from core.evaluation.tally import tally
from core.generation.problems import complete_problems
from core.model.loading import LoadedModel
from core.storage import until_written

BASELINES = Path("results/baselines")
ALONE = "the model alone"
NO_SPLIT = Split(train=[], heldout=[])


def score_baseline(
    config: Config, loaded: LoadedModel, problems: Sequence[Problem], split: Split, control: ControlInbox
) -> Generator[Event, None, EvaluationCompleted | None]:
    """Complete and score problems without a soft prompt, or find that it was done before.

    The generator's value is the scores by `split`; None where they cannot be had, which is told and fails nothing.
    Files are in results/baselines/: one that was cut short goes on the next time.
    """
    if not config.evaluation.score_baseline or refusal_to_run(config.evaluation):
        return None
    settings = settings_of(config, loaded, problems)
    folder = folder_of(settings)
    completions, results = folder / "completions.jsonl", folder / "results.jsonl"
    known = results.exists()
    try:
        if not known:
            yield from until_written(
                lambda: write_whole(folder / "settings.json", json.dumps(settings, indent=1) + "\n"), control)
            yield from _without_results(_made(config, loaded, problems, completions, results, control))
        rows = read_completions(results)
    except SandboxError as error:
        yield Notice(what=f"{ALONE} was not scored: {error.what}", remedy=error.remedy)
        return None
    except SofttuneError as error:
        yield Notice(what=f"{ALONE} was not scored: {error.what}", remedy=error.remedy,
                     setting="evaluation.score_baseline")
        return None
    evaluation = EvaluationCompleted(
        checkpoint=ALONE, overall=tally(rows), train=tally(_side(rows, split.train)),
        heldout=tally(_side(rows, split.heldout)), isolation=str(rows[0].get("isolation", "")),
        completions_path=str(completions), results_path=str(results),
    )
    yield BaselineCompleted(evaluation=evaluation, known_before=known)
    return evaluation


def verdict_beside(baseline: EvaluationCompleted, evaluation: EvaluationCompleted) -> str:
    """Whether the soft prompt is better than the model alone, by the held-out problems where there are some."""
    paired = compare_rows(*(read_completions(Path(one.results_path)) for one in (baseline, evaluation))).paired
    kind, words = ("heldout", "held-out") if paired["heldout"].total else ("all", "all")
    return f"{paired[kind].total} {words}: {paired[kind].sentence('the soft prompt')}"


def settings_of(config: Config, loaded: LoadedModel, problems: Sequence[Problem]) -> dict[str, Any]:
    """All that the completions of the model alone, and their verdicts, depend on."""
    inference = config.inference
    return {
        "model": config.model.model_dump(), "weights": _fingerprint(loaded), "dtype": str(loaded.precision.weights),
        "autocast": str(loaded.precision.autocast),
        "inference": inference.model_dump(exclude={"checkpoint_path", "output_path", "batch_size"}),
        "seed": config.dataset.seed if inference.temperature > 0 else None,
        "limits": [config.evaluation.timeout_seconds, config.evaluation.memory_limit_mb],
        "problems": _sha256(json.dumps([dataclasses.astuple(problem) for problem in problems]).encode()),
    }


def folder_of(settings: dict[str, Any]) -> Path:
    """Where the baseline with these settings is, or will be."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", settings["model"]["name"]).strip("-.")[-40:]
    return BASELINES / f"{name}-{_sha256(json.dumps(settings, sort_keys=True).encode())[:12]}"


def _made(
    config: Config, loaded: LoadedModel, problems: Sequence[Problem], completions: Path, results: Path,
    control: ControlInbox,
) -> Iterator[Event]:
    """The events of completing, where that was not done before, and of scoring."""
    if not completions.exists():
        origin = {"checkpoint": "", "model": loaded.name}
        yield from complete_problems(
            config, loaded, None, list(problems), NO_SPLIT, completions, control, origin=origin
        )
    by_id = {problem.task_id: problem for problem in problems}
    for event in score(read_completions(completions), by_id, None, config.evaluation, results_path=results,
                       completions_path=completions, control=control):
        if not isinstance(event, Notice):  # how programs are isolated is told with the run's own
            yield event


def _without_results(events: Iterable[Event]) -> Iterator[Event]:
    """The events with what a run's own scores are made of turned into mere progress."""
    for event in events:
        match event:
            case Progress():
                yield event.model_copy(update={"detail": ALONE})
            case CompletionGenerated(done=done, total=total):
                yield Progress(stage="completing", done=done, total=total, unit="completions", detail=ALONE)
            case ProblemEvaluated(done=done, total=total):
                yield Progress(stage="scoring", done=done, total=total, unit="programs", detail=ALONE)
            case CompletionsSaved() | EvaluationCompleted():
                pass
            case _:
                yield event


def _side(rows: Iterable[dict[str, Any]], tasks: Iterable[str]) -> list[dict[str, Any]]:
    known = set(tasks)
    return [row for row in rows if row["task_id"] in known]


def _fingerprint(loaded: LoadedModel) -> str:
    """A hash of the beginning of every weight: a folder may hold another model under the same name."""
    digest = hashlib.sha256()
    for name, weight in loaded.model.named_parameters():
        digest.update(name.encode())
        digest.update(bytes(weight.detach().flatten()[:1024].cpu().contiguous().view(torch.uint8).tolist()))
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
