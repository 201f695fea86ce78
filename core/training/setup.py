"""From settings, a model and problems to a trainer that is ready to go, or to go on."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.errors import CheckpointError, DataError
from core.contract.events import Event, Notice, TrainingPlanned
from core.contract.plan import plan_training
from core.contract.runs import RunFolder
from core.data.batches import encode_problems
from core.data.dataset import Dataset
from core.model.checkpoint import Checkpoint
from core.model.loading import LoadedModel
from core.model.soft_prompt import ResidualPrompt, SoftPrompt, initial_rows
from core.training.checkpoints import CheckpointWriter
from core.training.fit import packed_passes, row_passes, why_autograd
from core.training.loop import Trainer
from core.training.member import Member
from core.training.passes import MicroBatchPasses, Passes


def build_trainer(
    config: Config, loaded: LoadedModel, dataset: Dataset, folder: RunFolder, control: ControlInbox,
    last: Checkpoint | None,
) -> Trainer:
    """A trainer of one soft prompt; see `build_member`."""
    member = build_member(config, loaded, dataset, folder, last)
    passes = choose_passes(loaded, config.training.batch_size, config.training.label_smoothing)
    return Trainer([member], passes, loaded.precision.device, control)


def build_member(
    config: Config, loaded: LoadedModel, dataset: Dataset, folder: RunFolder, last: Checkpoint | None, *,
    number: int = 0, publish: bool = True,
) -> Member:
    """A fresh soft prompt with all that its training needs, or one with all that `last` (its run's last.pt) had.

    Args:
        number: its place in a population.
        publish: whether copies of its checkpoints go to soft_prompts/.

    Raises:
        DataError: no solution has room within `dataset.max_length`.
        CheckpointError: `last` does not fit the model or has no optimizer state.
    """
    torch.manual_seed(config.dataset.seed)
    if last is None:
        settings = config.soft_prompts
        rows = initial_rows(
            loaded.model, loaded.tokenizer, settings.num_virtual_tokens, from_vocab=settings.init_from_vocab,
            seed=config.dataset.seed, text=settings.init_text,
        )
    else:
        try:
            last.check_fits(loaded.embedding_dim, loaded.name)
        except CheckpointError as error:
            raise CheckpointError(error.what, "restore the model that the run began with, or start a new run") from None
        rows = last.soft_prompt
    residual = config.soft_prompts.reparameterisation == "residual"
    soft_prompt = ResidualPrompt(rows, config.dataset.seed) if residual else SoftPrompt(rows)
    soft_prompt.to(loaded.precision.device)
    examples = {e.task_id: e for e in encode_problems(loaded.tokenizer, dataset.selected, config) if e.target}
    sides = [[examples[i] for i in ids if i in examples] for ids in (dataset.split.train, dataset.split.heldout)]
    if not all(sides):
        raise DataError(f"dataset.max_length {config.dataset.max_length} leaves no solution to learn from",
                        "raise dataset.max_length")
    plan = plan_training(config, len(sides[0]), len(sides[1]))
    writer = CheckpointWriter(folder, config, dataset.split, publish=publish)
    member = Member(soft_prompt, *sides, config, plan, writer, loaded.precision, number)
    if last is not None:
        try:
            member.restore(last.training or {})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the state of training in {folder.checkpoints}/last.pt cannot be used: {error}",
                                  "start a new run") from None
    return member


def choose_passes(loaded: LoadedModel, batch_size: int, label_smoothing: float = 0.0) -> Passes:
    """The fastest passes that this machine and model allow, with `batch_size` rows at a time for each soft prompt.

    All members of a population have the label smoothing of its passes.
    """
    arguments = loaded, batch_size, label_smoothing
    return row_passes(*arguments) or packed_passes(*arguments) or MicroBatchPasses(*arguments)


def told_of(passes: Passes, loaded: LoadedModel) -> Iterator[Notice]:
    """What the user should know of the chosen passes."""
    if type(passes) is MicroBatchPasses:
        yield why_autograd(loaded)


def announce(config: Config, dataset: Dataset, member: Member) -> Iterator[Event]:
    """The schedule that is really used, and what of the settings could not be taken literally."""
    plan = member.plan
    yield TrainingPlanned(
        train_problems=plan.train_problems, heldout_problems=plan.heldout_problems,
        effective_batch=plan.effective_batch, steps_per_epoch=plan.steps_per_epoch, total_steps=plan.total_steps,
        num_epochs=config.training.num_epochs, learning_rate=config.training.learning_rate,
        warmup_steps=plan.warmup_steps, schedule=config.training.schedule, optimizer=config.training.optimizer,
    )
    for setting, what, remedy in plan.notices:
        yield Notice(setting=setting, what=what, remedy=remedy)
    if config.hardware.num_workers:
        yield Notice(level="info", setting="hardware.num_workers", remedy="set it to 0",
                     what="batches are tokenized once and stay in memory; no worker process is started")
    yield from dataset.overlap()
    used = {example.task_id: example for example in (*member.train, *member.heldout)}
    cut = [task for task, example in used.items() if example.cut]
    dropped = [problem.task_id for problem in dataset.selected if problem.task_id not in used]
    for tasks, what in ((cut, "lose the end of their solution"), (dropped, "have no room for a solution; left out")):
        if tasks:
            yield Notice(
                setting="dataset.max_length", what=f"{len(tasks)} problems {what}: {', '.join(tasks)}",
                remedy=f"raise dataset.max_length above {config.dataset.max_length}",
            )
