"""Whole runs of training for the benches: several soft prompts together or one alone, through `Trainer.fit`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.events import Event, StepCompleted, ValidationCompleted
from core.contract.runs import create_run
from core.data.batches import Example, encode_problems
from core.data.humaneval import load_problems, select_problems, split_problems
from core.model.loading import LoadedModel
from core.model.soft_prompt import initial_rows
from core.training.loop import Trainer
from core.training.member import Member
from core.training.setup import choose_passes
from tests.bench.steps import make_member


@dataclass(frozen=True)
class Run:
    """What a run of training took, in seconds."""

    fit: float
    """All of it: steps, validations, checkpoints."""
    steps: float
    """Its optimizer steps alone."""
    curves: dict[str, list[float]]
    """Each soft prompt's losses in the order of its steps and validations, by its number."""


class TimedTrainer(Trainer):
    """A trainer that adds up the seconds of its optimizer steps."""

    step_seconds = 0.0

    def train_step(self, members: Sequence[Member]) -> Iterator[Event]:
        """See `Trainer`."""
        begun = time.perf_counter()
        yield from super().train_step(members)
        self.step_seconds += time.perf_counter() - begun


def split_examples(loaded: LoadedModel, config: Config) -> tuple[list[Example], list[Example]]:
    """HumanEval's problems in tokens, as (training, held out) by `dataset.seed`."""
    problems = select_problems(load_problems(config.dataset.path), config.dataset)
    split = split_problems(problems, config.dataset)
    examples = {example.task_id: example for example in encode_problems(loaded.tokenizer, problems, config)}
    return [examples[task] for task in split.train], [examples[task] for task in split.heldout]


def starting_rows(loaded: LoadedModel, config: Config, number: int = 0) -> torch.Tensor:
    """Initial rows [V, H] of the soft prompt with this number."""
    return initial_rows(
        loaded.model, loaded.tokenizer, config.soft_prompts.num_virtual_tokens, from_vocab=True,
        seed=config.dataset.seed + number,
    )


def train_whole(
    loaded: LoadedModel, config: Config, train: Sequence[Example], heldout: Sequence[Example], numbers: Sequence[int]
) -> Run:
    """Train the soft prompts with these numbers in one pass; run folders and checkpoints are written where we are."""
    members = [
        make_member(Member, loaded, config, train, heldout, starting_rows(loaded, config, number),
                    create_run(config, f"prompt{number}"), number)
        for number in numbers
    ]
    passes = choose_passes(loaded, config.training.batch_size)
    trainer = TimedTrainer(members, passes, loaded.precision.device, ControlInbox())
    curves: dict[str, list[float]] = {str(number): [] for number in numbers}
    begun = time.perf_counter()
    for event in trainer.fit():
        if isinstance(event, StepCompleted | ValidationCompleted):
            curves[str(event.member)].append(event.loss)
    return Run(time.perf_counter() - begun, trainer.step_seconds, curves)
