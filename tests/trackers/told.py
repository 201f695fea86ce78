"""What a short run tells, for tests of what is shown of it."""

from __future__ import annotations

from collections.abc import Iterator

from core.contract import events as ev
from core.contract.config import Config
from core.contract.runs import RunFolder, create_run

MEMORY = ev.Memory(device="cpu", allocated=2 * 10**9, reserved=2 * 10**9, peak=3 * 10**9, total=8 * 10**9,
                   process=2 * 10**9)


def a_run(tracker: str, kind: str = "training") -> RunFolder:
    """A new run in the current folder, to be shown in a tracker."""
    config = Config()
    logging = config.logging.model_copy(update={"tracker": tracker})
    return create_run(config.model_copy(update={"logging": logging}), "shown", kind=kind)


def step(number: int, loss: float | None = None, **more: object) -> ev.StepCompleted:
    """One optimizer step, two of which make an epoch."""
    return ev.StepCompleted(
        step=number, total_steps=4, epoch=(number + 1) // 2, loss=1 / number if loss is None else loss,
        learning_rate=0.01 / number, grad_norm=0.1 + number, tokens_per_second=1000.0, memory=MEMORY, **more,
    )


def validation(number: int, **more: object) -> ev.ValidationCompleted:
    """The validation after a step."""
    return ev.ValidationCompleted(epoch=number // 2, step=number, loss=2 / (number + 1), perplexity=3.0,
                                  is_best=number > 0, **more)


def score(passed: int, total: int) -> ev.Score:
    """Problems with one sample each."""
    return ev.Score.of([(1, 1)] * passed + [(0, 1)] * (total - passed))


def training(run_id: str, resumed: int = 0, until: int = 4) -> Iterator[ev.Event]:
    """What a run of two epochs tells, until a step, or to its end."""
    yield ev.RunStarted(run_id=run_id, model="tiny", pid=1, resumed_from_step=resumed)
    if not resumed:
        yield validation(0)
    for number in range(resumed + 1, until + 1):
        yield step(number)
        if number % 2 == 0:
            yield ev.EpochCompleted(epoch=number // 2, num_epochs=2, train_loss=0.5, seconds=1.0)
            yield validation(number)
    if until == 4:
        yield ev.EvaluationCompleted(
            checkpoint="best", overall=score(3, 10), train=score(2, 8), heldout=score(1, 2), isolation="none",
            completions_path="", results_path="",
        )
        yield ev.RunFinished(verdict="no better", seconds=9.0)
