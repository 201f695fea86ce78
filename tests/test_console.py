"""What a person sees who trains headless in a terminal."""

import io
import re

from core.console import reporter
from core.contract.events import (
    EpochCompleted,
    EvaluationCompleted,
    Memory,
    Progress,
    RunFinished,
    Score,
    StepCompleted,
    TrainingPlanned,
    ValidationCompleted,
)

MEMORY = Memory(device="cpu", allocated=1, reserved=1, peak=1, total=1, process=1)
SCORE = Score(total=2, passed=1, failed=1, pass_at_1=0.5)


class Tty(io.StringIO):
    """A terminal that remembers everything."""

    def isatty(self) -> bool:
        return True


def step(number: int, epoch: int) -> StepCompleted:
    return StepCompleted(step=number, total_steps=4, epoch=epoch, loss=1.25, learning_rate=0.02, grad_norm=0.5,
                         tokens_per_second=10.0, memory=MEMORY)


def test_bars_stand_in_the_story_and_the_table_comes_last() -> None:
    evaluation = EvaluationCompleted(
        checkpoint="best", overall=SCORE, train=SCORE, heldout=SCORE, isolation="x", completions_path="c",
        results_path="r",
    )
    out = Tty()
    with reporter(out, io.StringIO(), as_json=False) as show:
        show(Progress(stage="loading", done=0, total=1, unit="model", detail="m"))
        show(TrainingPlanned(train_problems=8, heldout_problems=2, effective_batch=4, steps_per_epoch=2, total_steps=4,
                             num_epochs=2, learning_rate=0.02, warmup_steps=1))
        for epoch in (1, 2):
            show(step(2 * epoch - 1, epoch))
            show(step(2 * epoch, epoch))
            show(EpochCompleted(epoch=epoch, num_epochs=2, train_loss=1.2, seconds=1.0))
            show(Progress(stage="validating", done=2, total=2, unit="problems"))
            show(ValidationCompleted(epoch=epoch, step=2 * epoch, loss=1.0, perplexity=2.7, is_best=True))
        show(RunFinished(seconds=9.0, evaluation=evaluation))
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in out.getvalue().splitlines()]
    story = [line for line in lines if "2/2" in line or "done in" in line or "held-out loss" in line]
    order = [next(i for i, line in enumerate(lines) if re.search(words, line)) for words in (
        r"epoch 1 .*2/2.*loss 1\.2500 .*lr 2\.00e-02", r"epoch 1/2 done", r"epoch 1: held-out", r"epoch 2 .*2/2",
        r"epoch 2/2 done", r"epoch 2: held-out", r"finished in", r"^problems +Total", r"^all ", r"^train ",
        r"^held-out ",
    )]
    assert order == sorted(order), story  # what stands below is the bar's, which the terminal had erased
