"""What curves say in words: each diagnosis on a run that has it, and none on healthy ones."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import get_args

import pytest

from core.contract import events as ev
from core.contract.config import Config
from core.contract.errors import WeakSandboxError
from core.contract.events import Event
from tests.tui.fake_run import GB, training
from tui.run_view import RunView, advance
from tui.train.diagnoses import HELD_SECONDS, Diagnosis, Kind, diagnoses, settled
from tui.train.hardware import Reading
from tui.train.words import diagnosis_lines


def memory(used: float = 3.0, total: float = 24.0, device: str = "cuda") -> ev.Memory:
    return ev.Memory(device=device, allocated=int(used * GB), reserved=int(used * GB), peak=int(used * GB),
                     total=int(total * GB), process=2 * GB)


def run(
    losses: Iterable[float], heldout: Iterable[float] = (), per_epoch: int = 9, total: int = 90, warmup: int = 3,
    used: ev.Memory | None = None,
) -> RunView:
    """A run with these training losses, and a held-out loss at its start and after each epoch."""
    values, best = list(heldout), math.inf
    events: list[Event] = [ev.TrainingPlanned(
        train_problems=131, heldout_problems=33, effective_batch=16, steps_per_epoch=per_epoch, total_steps=total,
        num_epochs=total // per_epoch, learning_rate=0.02, warmup_steps=warmup)]

    def validation(step: int) -> None:
        nonlocal best
        loss = values.pop(0)
        is_best = step > 0 and loss < best
        best = min(best, loss) if step else best
        events.append(ev.ValidationCompleted(epoch=step // per_epoch, step=step, loss=loss, perplexity=math.exp(loss),
                                             is_best=is_best))

    if values:
        validation(0)
    for step, loss in enumerate(losses, 1):
        events.append(ev.StepCompleted(
            time=float(step), step=step, total_steps=total, epoch=(step - 1) // per_epoch + 1, loss=loss,
            learning_rate=0.01, grad_norm=1.0, tokens_per_second=100.0, memory=used or memory()))
        if step % per_epoch == 0 and values:
            validation(step)
    return advance(RunView(), events)


def falling(steps: int, noise: float = 0.0, seed: int = 1, start: float = 1.3, end: float = 0.8) -> list[float]:
    dice = random.Random(seed)
    return [end + (start - end) * math.exp(-step / 14) + dice.gauss(0, noise) for step in range(steps)]


def kinds(view: RunView, **known: object) -> list[str]:
    return [one.kind for one in diagnoses(view, **known)]  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
def test_a_healthy_noisy_run_gives_none_at_any_step(seed: int) -> None:
    losses = falling(90, noise=0.12, seed=seed)
    heldout = [0.82 + 0.4 * math.exp(-epoch / 2) for epoch in range(11)]
    for steps in range(1, 91, 2):
        assert kinds(run(losses[:steps], heldout[: 1 + steps // 9])) == [], steps


@pytest.mark.parametrize("seed", range(8))
def test_the_fake_run_gives_only_what_is_true_of_it(seed: int) -> None:
    events = list(training("x", seed=seed))
    for cut in range(0, len(events), 7):
        view = advance(RunView(), events[:cut])
        told = kinds(view)
        assert set(told) <= {"warm-up", "overfitting"}, told
        assert "overfitting" not in told or view.done_steps > 60  # its held-out loss rises from step 54 on


def test_overfitting_names_both_losses_and_the_setting() -> None:
    heldout = [1.2, 0.95, 0.9, 0.85, 0.86, 0.87, 0.88]
    found = diagnoses(run(falling(54), heldout))
    assert [one.kind for one in found] == ["overfitting"]
    assert "0.850 (epoch 3) → 0.880" in found[0].what and found[0].setting == "training.num_epochs"


@pytest.mark.parametrize("heldout", [
    [1.2, 0.9, 0.85, 0.86],  # one rise is no trend
    [1.2, 0.9, 0.85, 0.851, 0.852],  # too little to mean something
    [1.2, 0.9, 0.85, 0.9, 0.86],  # coming down again
    [1.2, 0.9, 0.86, 0.85, 0.84],
])
def test_no_overfitting_without_a_rise(heldout: list[float]) -> None:
    assert kinds(run(falling(9 * (len(heldout) - 1)), heldout)) == []


def test_no_overfitting_where_the_training_loss_rises_too() -> None:
    losses = falling(27) + [0.9 + 0.002 * step for step in range(27)]
    assert "overfitting" not in kinds(run(losses, [1.2, 0.95, 0.9, 0.85, 0.86, 0.87, 0.88]))


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_loss_that_does_not_fall(noise: float) -> None:
    dice = random.Random(4)
    flat = [1.2 + dice.gauss(0, noise) for _ in range(60)]
    assert kinds(run(flat[:20], [1.2, 1.2])) == []  # too early to say
    found = diagnoses(run(flat, [1.2] * 7))
    assert [one.kind for one in found] == ["no decrease"] and "training.learning_rate" in found[0].remedy
    assert "in 60 steps" in found[0].what
    assert kinds(run(flat, [1.2, 1.1, 1.0, 0.9])) == []  # the held-out loss knows better


def test_a_long_warmup_is_waited_for() -> None:
    assert kinds(run([1.2] * 60, total=300, warmup=100)) == []
    assert kinds(run([1.2] * 140, total=300, warmup=100)) == ["no decrease"]


def test_divergence() -> None:
    climbing = falling(40, 0.05) + [0.85 + 0.05 * step for step in range(30)]
    found = diagnoses(run(climbing))
    assert [one.kind for one in found] == ["divergence"] and found[0].setting == "training.learning_rate"
    recovering = [*climbing, *(2.3 - 0.04 * step for step in range(35))]
    assert "divergence" not in kinds(run(recovering, total=200))


def test_a_loss_that_is_no_number_again_and_again() -> None:
    assert kinds(run([1.0, math.nan, 0.9])) == []
    assert kinds(run([1.0, math.nan, math.inf, math.nan])) == ["divergence"]


def test_memory_nearly_full() -> None:
    view = run(falling(20), used=memory(22.4))
    found = diagnoses(view)
    assert [one.kind for one in found] == ["memory"] and "GPU" in found[0].what
    assert found[0].remedy.index("batch_size") < found[0].remedy.index("torch_dtype")
    assert kinds(view, active=False) == []
    assert kinds(run(falling(20), used=memory(21.5))) == []
    machine = run(falling(20), used=memory(3, 16, "cpu"))
    assert kinds(machine, reading=Reading(machine_memory=0.95)) == ["memory"]
    assert kinds(machine, reading=Reading(machine_memory=0.5)) == kinds(machine) == []
    shared = diagnoses(run(falling(20), used=memory(3)), reading=Reading(gpu_memory=0.95))
    assert [one.kind for one in shared] == ["memory"] and "with other programs" in shared[0].what
    assert kinds(run(falling(20), used=memory(3)), reading=Reading(machine_memory=0.95, gpu_memory=0.5)) == []
    assert kinds(run([1.0], used=memory(3, 0))) == []  # a device that says nothing of its size


def test_a_warmup_that_is_longer_than_the_run() -> None:
    found = diagnoses(advance(RunView(), training("x", steps=9)))
    assert [one.kind for one in found] == ["warm-up"]
    assert "3 are used" in found[0].what and found[0].remedy == "set training.warmup_steps to 3"
    assert kinds(run(falling(20), warmup=90)) == ["warm-up"]
    again = advance(advance(RunView(), training("x", steps=9)), [ev.RunStarted(run_id="x", model="m", pid=1)])
    assert diagnoses(again) == ()  # what was said to an engine before is not said to this one


def test_a_run_that_will_not_be_scored_says_so_while_it_goes_on() -> None:
    refusal = WeakSandboxError()
    notice = ev.Notice(setting=refusal.setting, what=refusal.what, remedy=refusal.remedy)
    view = advance(run(falling(20)), [notice])
    assert kinds(view) == kinds(view, config=Config()) == ["scoring"] and kinds(view, active=False) == []
    allowed = Config.model_validate({"evaluation": {"allow_weak_sandbox": True}})
    assert kinds(view, config=allowed) == []  # it is scored, and was told of that
    for width in (80, 120, 200):
        lines = [line.plain for line in diagnosis_lines(diagnoses(view), width, 4)]
        assert lines and refusal.setting in " ".join(lines) and all(len(line) <= width for line in lines)


def test_early_stopping_is_near() -> None:
    view = run(falling(45), [1.2, 0.9, 0.85, 0.85, 0.85, 0.85][:5])
    config = Config()
    assert config.evaluation.early_stopping_patience == 3
    assert kinds(view, config=config) == ["early stopping"]
    assert kinds(view, config=config, active=False) == kinds(view) == []
    assert kinds(run(falling(27), [1.2, 0.9, 0.85, 0.85]), config=config) == []


@pytest.mark.parametrize("view", [
    RunView(), run([]), run([1.0]), run([math.nan]), run([1.0] * 3, total=0, per_epoch=1), run([0.0] * 50),
    run([1e300] * 50), run([1.0], [1.0]),
])
def test_odd_runs_raise_nothing(view: RunView) -> None:
    assert isinstance(diagnoses(view, Config(), Reading()), tuple)


def test_each_remedy_names_settings_that_exist() -> None:
    found = [
        *diagnoses(run(falling(54), [1.2, 0.95, 0.9, 0.85, 0.86, 0.87, 0.88]), Config()),
        *diagnoses(run([1.2] * 60)), *diagnoses(run([math.nan] * 4)), *diagnoses(run(falling(9), used=memory(24))),
        *diagnoses(run(falling(36), [1.2, 0.9, 0.85, 0.85, 0.85]), Config()), *diagnoses(run(falling(9), warmup=99)),
        *diagnoses(advance(run(falling(9)), [ev.Notice(setting=WeakSandboxError.setting, what="weak")])),
    ]
    assert {one.kind for one in found} == set(get_args(Kind)) - {"waiting"}  # which no setting ends
    known = {f"{section}.{key}" for section, field in Config.model_fields.items()
             for key in field.annotation.model_fields}  # type: ignore[union-attr]
    for one in found:
        assert one.setting in known and one.setting.partition(".")[2] in one.remedy, one


def test_what_a_run_waits_for_is_said_until_it_goes_on() -> None:
    waits = advance(run([math.nan] * 4), [ev.RunPaused(reason="runs/x: No space left on device")])
    found = diagnoses(waits)
    assert [one.kind for one in found] == ["waiting", "divergence"]
    assert "No space left" in found[0].what and "by itself" in found[0].remedy
    assert [one.kind for one in diagnoses(waits, active=False)] == ["divergence"]
    after = diagnoses(advance(waits, [ev.RunResumed()]))
    assert [one.diagnosis.kind for one in settled(settled((), found, 0.0), after, 1.0)] == ["divergence"]
    assert not diagnoses(advance(RunView(), [ev.RunPaused()]))


def test_what_comes_and_goes_stays() -> None:
    one, other = Diagnosis("memory", "a", "b", "c"), Diagnosis("overfitting", "a", "b", "c")
    shown = settled((), [other], 0.0)
    shown = settled(shown, [one], 1.0)
    assert [s.diagnosis for s in shown] == [one, other]
    assert [s.diagnosis for s in settled(shown, [one], 1.0 + HELD_SECONDS)] == [one]
    newer = Diagnosis("memory", "more", "b", "c")
    assert [s.diagnosis.what for s in settled(shown, [newer], 2.0)] == ["more", "a"]
