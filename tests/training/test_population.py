"""Several soft prompts in one pass: each trains as it would alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from core.contract.config_file import load_config
from core.contract.control import Command, ControlInbox, StopRequested
from core.contract.errors import SofttuneError
from core.contract.events import CheckpointSaved, Event, Notice, StepCompleted, ValidationCompleted
from core.contract.plan import plan_training
from core.contract.record import Split
from core.contract.runs import create_run
from core.data.batches import encode_problems
from core.data.humaneval import load_problems
from core.model.checkpoint import load_checkpoint
from core.model.loading import LoadedModel
from core.model.soft_prompt import ResidualPrompt, SoftPrompt
from core.training.checkpoints import CheckpointWriter
from core.training.loop import Trainer
from core.training.member import Member
from core.training.packed.passes import PackedPasses
from core.training.passes import MicroBatchPasses, Passes
from core.training.rows.passes import RowPasses
from tests.training.conftest import SMALL

DIFFERENCES = [
    ["training.learning_rate=0.05"],
    ["training.learning_rate=0.2", "dataset.seed=7", "training.max_grad_norm=0.01"],
    ["training.gradient_accumulation_steps=1", "training.warmup_steps=3", "training.weight_decay=0.5"],
    ["training.num_epochs=5", "evaluation.early_stopping_patience=1", "training.learning_rate=0.9"],
    ["soft_prompts.reparameterisation=residual", "training.optimizer=sgd", "training.schedule=cosine"],
    ["soft_prompts.reparameterisation=residual", "training.schedule=constant", "training.learning_rate=0.01"],
    ["training.optimizer=adafactor", "training.learning_rate=0.3", "training.gradient_accumulation_steps=1"],
]
"""Of seven members: their steps per epoch, epochs and ends differ, too."""
COUNTS = [19, 12, 19, 8, 6, 6, 6]


def member_of(number: int, loaded: LoadedModel, *more: str) -> Member:
    config = load_config(overrides=[*SMALL, *DIFFERENCES[number], *more])
    problems = load_problems().problems[number : number + COUNTS[number] + 4]
    examples = encode_problems(loaded.tokenizer, problems, config)
    train, heldout = examples[:-4], examples[-4:]
    rows = torch.randn(5, 64, generator=torch.Generator().manual_seed(number)) * 0.2
    folder = create_run(config, f"member{number}")
    writer = CheckpointWriter(folder, config, Split(train=[e.task_id for e in train], heldout=[]))
    plan = plan_training(config, len(train), len(heldout))
    residual = config.soft_prompts.reparameterisation == "residual"
    prompt = ResidualPrompt(rows, number) if residual else SoftPrompt(rows)
    return Member(prompt, train, heldout, config, plan, writer, loaded.precision, number)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def curve(events: list[Event], number: int) -> list[tuple[str, int, float]]:
    kept = [e for e in events if isinstance(e, StepCompleted | ValidationCompleted) and e.member == number]
    return [(event.type, event.step, event.loss) for event in kept]


@pytest.mark.parametrize("kind", [RowPasses, MicroBatchPasses, PackedPasses])
def test_each_member_learns_what_it_would_learn_alone(
    kind: type[RowPasses] | type[MicroBatchPasses] | type[PackedPasses], loaded: LoadedModel
) -> None:
    together, members = learn_alike(kind(loaded, 4), loaded, range(4))
    ends = [event.member for event in together if isinstance(event, Notice)]
    assert ends == [3] and members[3].standing.epoch < 6, "one of them is meant to stop early"
    assert {e.member for e in together if isinstance(e, CheckpointSaved)} == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", [RowPasses, MicroBatchPasses, PackedPasses])
def test_so_it_does_with_an_optimizer_a_schedule_and_a_network_of_its_own(
    kind: type[RowPasses] | type[MicroBatchPasses] | type[PackedPasses], loaded: LoadedModel
) -> None:
    learn_alike(kind(loaded, 4, 0.1), loaded, range(4, 7))


def learn_alike(passes: Passes, loaded: LoadedModel, numbers: Iterable[int]) -> tuple[list[Event], list[Member]]:
    """Train members together, and see that each comes out as it does alone."""
    members = [member_of(number, loaded) for number in numbers]
    together = list(Trainer(members, passes, loaded.precision.device, ControlInbox()).fit())
    for member in members:
        number = member.number
        alone = member_of(number, loaded)
        expected = curve(list(Trainer([alone], passes, loaded.precision.device, ControlInbox()).fit()), number)
        found = curve(together, number)
        assert [point[:2] for point in found] == [point[:2] for point in expected]
        assert max(abs(a[2] - b[2]) for a, b in zip(found, expected, strict=True)) <= 1e-6 * len(expected)
        assert member.standing.epoch == alone.standing.epoch
        kept = load_checkpoint(member.checkpoints.folder.checkpoints / "best.pt").soft_prompt
        kept_alone = load_checkpoint(alone.checkpoints.folder.checkpoints / "best.pt").soft_prompt
        assert (kept - kept_alone).abs().max() <= 1e-4
    return together, members


def test_a_stopped_population_goes_on_to_the_same_bits(loaded: LoadedModel) -> None:
    def trainer(members: list[Member]) -> Trainer:
        return Trainer(members, RowPasses(loaded, 4), loaded.precision.device, ControlInbox())

    def steps(events: list[Event]) -> set[tuple[int, str, int, float]]:
        return {(number, *point) for number in range(2) for point in curve(events, number)}

    whole = list(trainer([member_of(0, loaded), member_of(2, loaded)]).fit())
    first = trainer([member_of(0, loaded), member_of(2, loaded)])
    seen: list[Event] = []

    def until_stopped() -> Iterator[Event]:
        for event in first.fit():
            yield event
            if isinstance(event, StepCompleted) and event.step == 3:
                first.control.request(Command.STOP)

    with pytest.raises(StopRequested):
        seen.extend(until_stopped())
    again = [member_of(0, loaded), member_of(2, loaded)]
    for member, old in zip(again, first.members, strict=True):
        last = load_checkpoint(old.checkpoints.folder.checkpoints / "last.pt")
        member.soft_prompt.weight.data.copy_(last.soft_prompt)
        assert last.training is not None
        member.restore(last.training)
    assert steps(whole) == steps(seen) | steps(list(trainer(again).fit()))


def test_one_that_diverges_does_not_end_the_others(loaded: LoadedModel) -> None:
    def diverging() -> Member:
        member = member_of(1, loaded, "training.num_epochs=30", "evaluation.early_stopping_patience=null")
        member.soft_prompt.weight.data.fill_(math.nan)
        return member

    good = member_of(0, loaded)
    events = list(Trainer([good, diverging()], RowPasses(loaded, 4), loaded.precision.device, ControlInbox()).fit())
    assert "10 steps in a row" in [e for e in events if isinstance(e, Notice) and e.member == 1][-1].what
    assert good.standing.epoch == 3 and good.standing.best_loss is not None
    with pytest.raises(SofttuneError, match="10 steps in a row"):
        list(Trainer([diverging()], RowPasses(loaded, 4), loaded.precision.device, ControlInbox()).fit())
