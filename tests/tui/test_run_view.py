"""The snapshot of a run, from lists of events."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest

from core.contract import events as ev
from core.contract.events import Event
from core.contract.runs import RunFolder
from tests.tui.fake_run import memory, problems, training, whole_run
from tui.run_view import LOG_LIMIT, RunView, advance
from tui.train.curves import Curve


def step(number: int, loss: float = 1.0, at: float = 0.0, total: int = 10) -> ev.StepCompleted:
    return ev.StepCompleted(time=at or float(number), step=number, total_steps=total, epoch=1, loss=loss,
                            learning_rate=0.01, grad_norm=0.5, tokens_per_second=100.0, memory=memory(number, "cpu"))


def test_a_whole_run(tmp_path: Path) -> None:
    view = advance(RunView(), whole_run(RunFolder(tmp_path / "run"), problems(10), steps=18))
    assert view.outcome == "finished"
    assert view.train_loss.xs == tuple(range(1, 19))
    assert view.heldout_loss.xs == (0, 9, 18)
    assert view.best is not None and view.best.epoch == 2
    assert view.score is not None and view.score.overall.total == 10
    assert len(view.problems) == 10 and all(state.verdict for state in view.problems.values())
    assert "finished in" in view.log[-1].text


def test_batches_make_no_difference(tmp_path: Path) -> None:
    events = list(training("run", steps=18))
    singly = RunView()
    for event in events:
        singly = advance(singly, [event])
    assert singly == advance(RunView(), events)


def test_the_old_view_stays_as_it_was() -> None:
    before = advance(RunView(), [step(1)])
    after = advance(before, [step(2)])
    assert len(before.train_loss) == 1 and len(after.train_loss) == 2


def test_nothing_new_keeps_the_curves() -> None:
    before = advance(RunView(), [step(1)])
    assert advance(before, [ev.RunPaused()]).train_loss is before.train_loss


def test_a_loss_that_is_no_number_is_said_and_not_drawn() -> None:
    view = advance(RunView(), [step(1), step(2, math.nan), step(3, math.inf), step(4, 0.5)])
    assert view.train_loss.ys == (1.0, 0.5) and view.train_loss.dropped == 2
    assert view.smooth_loss.last is not None and math.isfinite(view.smooth_loss.last)
    assert [line.kind for line in view.log] == ["warning", "warning"]
    assert "not a number" in view.log[0].text and "learning_rate" in view.log[0].remedy


def test_a_resumed_run_rewrites_what_came_after_the_checkpoint() -> None:
    first = [step(number, 1.0) for number in range(1, 7)]
    again = [ev.RunStarted(run_id="r", model="m", resumed_from_step=4, pid=1), step(5, 2.0)]
    view = advance(RunView(), [*first, ev.RunStopped(step=6), *again])
    assert view.train_loss.xs == (1, 2, 3, 4, 5) and view.train_loss.last == 2.0
    assert view.outcome == ""


CURVES = tuple(each.name for each in fields(RunView) if isinstance(each.default, Curve))


@pytest.mark.parametrize(("killed", "resumed"), [(7, 5), (7, 6), (7, 7), (5, 0), (11, 10)])
def test_a_killed_and_resumed_run_reads_as_one_that_went_through(tmp_path: Path, killed: int, resumed: int) -> None:
    bad = {3: math.nan, 6: math.inf, 8: math.nan}  # before, between and after
    whole = [event.model_copy(update={"loss": bad.get(event.step, event.loss)})
             if isinstance(event, ev.StepCompleted) else event
             for event in whole_run(RunFolder(tmp_path / "r"), problems(4), steps=12, per_epoch=3)]
    begun, rest = told_until(whole, killed), whole[len(told_until(whole, resumed)):]
    head = [event for event in whole if isinstance(event, ev.ModelLoaded | ev.TrainingPlanned)]
    again = [ev.RunStarted(run_id="r", model="m", resumed_from_step=resumed, pid=2), *head]
    if not resumed:
        again += [event for event in whole if isinstance(event, ev.ValidationCompleted) and event.step == 0]
    through = advance(RunView(), told_until(whole, resumed))
    gone_back = advance(RunView(), [*begun, again[0]])
    for name in (*CURVES, "validation", "best", "done_steps", "smoother", "problems", "score"):
        assert getattr(gone_back, name) == getattr(through, name), name
    end, resumed_end = advance(RunView(), whole), advance(gone_back, [*again[1:], *rest])
    assert advance(RunView(), [*begun, *again, *rest]) == resumed_end  # in one batch, or in two
    for name in (*CURVES, "validations", "best", "step", "stage", "phase", "smoother", "problems", "score", "outcome"):
        assert getattr(resumed_end, name) == getattr(end, name), name


def told_until(events: list[Event], step: int) -> list[Event]:
    """What a run has told by the end of a step, with the validation that belongs to it."""
    later = (event for event in events if isinstance(event, ev.StepCompleted) and event.step > step)
    return events[: events.index(next(later))]


def test_a_run_that_dies_twice_between_two_checkpoints() -> None:
    first = [step(number, 1 / number) for number in range(1, 7)]
    again = ev.RunStarted(run_id="r", model="m", resumed_from_step=4, pid=1)
    rest = [step(number, 1 / number) for number in range(5, 9)]
    once, twice = advance(RunView(), [*first, again, *rest]), advance(RunView(), [*first, again, again, *rest])
    assert twice.smooth_loss == once.smooth_loss == advance(RunView(), [*first[:4], *rest]).smooth_loss


def test_what_a_pause_waits_for() -> None:
    full = advance(RunView(), [ev.RunPaused(reason="no space")])
    assert full.paused and full.waits_for == "no space" and full.log[-1].kind == "warning"
    assert "no space" in full.log[-1].text and "by itself" in full.log[-1].remedy
    for after in (ev.RunResumed(), ev.RunStopped(step=1), ev.RunFailed(what="x"), ev.RunPaused(),
                  ev.RunStarted(run_id="r", model="m", pid=1)):
        assert advance(full, [after]).waits_for == ""
    assert advance(RunView(), [ev.RunPaused()]).log[-1].kind == "plain"


def test_a_skipped_step_is_told_once() -> None:
    skipped = step(2, math.nan).model_copy(update={"skipped": 1})
    view = advance(RunView(), [ev.Notice(what="step 2 was skipped: loss nan"), skipped])
    assert [line.text for line in view.log] == ["step 2 was skipped: loss nan"] and view.train_loss.dropped == 1


def test_the_next_epoch_ends_the_validation() -> None:
    validating = ev.Progress(stage="validating", done=33, total=33, unit="problems")
    begun = ev.Progress(stage="training", done=2, total=10, unit="steps")
    view = advance(RunView(), [step(1), step(2), validating, begun])
    assert view.phase == view.clock.stage == "training" and view.stage == begun
    view = advance(view, [step(3)])
    assert view.stage is not None and (view.stage.done, view.stage.unit) == (3, "steps")


def test_zero_steps() -> None:
    view = advance(RunView(), [
        ev.TrainingPlanned(train_problems=1, heldout_problems=1, effective_batch=1, steps_per_epoch=0, total_steps=0,
                           num_epochs=1, learning_rate=0.1, warmup_steps=0),
        ev.Progress(stage="training", done=0, total=0, unit="steps"),
    ])
    assert view.total_steps == 0 and view.done_steps == 0


def test_pause_and_resume() -> None:
    view = advance(RunView(), [ev.RunStarted(run_id="r", model="m", pid=1), ev.RunPaused()])
    assert view.paused
    assert not advance(view, [ev.RunResumed()]).paused


def test_pauses_are_not_counted_as_work() -> None:
    view = advance(RunView(), [
        ev.RunStarted(time=100.0, run_id="r", model="m", pid=1), step(1, at=110.0), step(2, at=120.0),
        ev.RunPaused(time=121.0), ev.RunResumed(time=1121.0), step(3, at=1130.0),
    ])
    assert view.clock.elapsed(1130.0) == 30.0
    assert view.clock.left(1130.0) == 7 * 10.0


def test_time_left_counts_down_and_is_unknown_at_first() -> None:
    assert RunView().clock.left(0.0) is None and RunView().clock.elapsed(0.0) is None
    view = advance(RunView(), [ev.RunStarted(time=1.0, run_id="r", model="m", pid=1), step(1, at=10.0)])
    assert view.clock.left(11.0) is None
    view = advance(view, [step(2, at=20.0)])
    assert view.clock.left(25.0) == 75.0


def test_time_left_of_completing() -> None:
    view = advance(RunView(), [
        ev.Progress(time=100.0 + done, stage="completing", done=done, total=20, unit="problems") for done in range(11)
    ])
    assert view.clock.left(110.0) == 10.0


def test_a_new_completion_takes_back_the_old_verdict() -> None:
    done = ev.CompletionGenerated(task_id="a/1", completion="x", tokens=1, finish_reason="stop", done=1, total=1)
    judged = ev.ProblemEvaluated(task_id="a/1", passed=True, verdict="passed", seconds=0.1, done=1, total=1)
    view = advance(RunView(), [done, judged])
    assert view.problems["a/1", 0].passed
    again = advance(view, [done.model_copy(update={"completion": "y"})])
    assert not again.problems["a/1", 0].passed and again.problems["a/1", 0].verdict == ""


def test_finer_progress_of_training_is_kept() -> None:
    fine = ev.Progress(stage="training", done=5, total=131, unit="problems")
    assert advance(RunView(), [fine, step(1)]).stage == fine
    coarse = advance(RunView(), [step(1)]).stage
    assert coarse is not None and (coarse.done, coarse.total, coarse.unit) == (1, 10, "steps")


def test_the_log_is_bounded() -> None:
    view = advance(RunView(), [ev.Notice(what=f"notice {number}") for number in range(LOG_LIMIT + 50)])
    assert len(view.log) == LOG_LIMIT and view.log[-1].text.endswith(str(LOG_LIMIT + 49))


def test_where_the_time_went_is_one_line_of_the_log() -> None:
    sections = {"data": 1.0, "forward": 40.0, "head": 9.0, "backward": 50.0}
    split = ev.TimeSplit(sections=sections, seconds=125.0, steps=6, trace="runs/r/t.json.gz")
    view = advance(RunView(), [split, ev.TimeSplit(sections={}, seconds=0.0, steps=0)])
    assert view.log[0].text == "02:05 of training: backward 40%, forward 32%, head 7%"
    assert view.log[0].remedy == "trace in runs/r/t.json.gz" and len(view.log) == 2


def test_log_lines_are_made_harmless() -> None:
    view = advance(RunView(), [ev.Notice(what="\x1b[31mred\x1b[0m\nsecond [b]line[/b]")])
    assert view.log[0].text == "␛[31mred␛[0m␊second [b]line[/b]"


def test_a_long_run_is_thinned_to_what_a_plot_can_show() -> None:
    view = advance(RunView(), [step(number, total=20_000) for number in range(1, 20_001)])
    xs, _ = view.train_loss.thinned(0, 20_000, 120)
    assert len(view.train_loss) == 20_000 and 120 <= len(xs) <= 240


def test_a_stopped_run_says_how_to_go_on() -> None:
    view = advance(RunView(), [ev.RunStopped(step=3, checkpoint="runs/2026-x/checkpoints/last.pt")])
    assert view.log[-1].remedy.startswith("softtune train --resume 2026-x")
    assert advance(RunView(), [ev.RunStopped(step=3)]).log[-1].remedy == ""


def test_steps_in_batches_are_the_same_as_steps_one_by_one() -> None:
    events = [step(number, math.nan if number % 40 == 7 else 1 / number, total=100) for number in range(1, 91)]
    events += [step(number, 2.0, total=100) for number in range(60, 70)]  # a resumed run goes back
    singly = RunView()
    for event in events:
        singly = advance(singly, [event])
    together = advance(RunView(), events)
    assert together == singly and together.clock == singly.clock and together.train_loss.dropped == 3


def test_notices_about_settings_are_kept_for_one_engine() -> None:
    said = ev.Notice(setting="training.batch_size", what="halved")
    view = advance(RunView(), [said, ev.Notice(what="about nothing")])
    assert view.notices == (said,)
    assert advance(view, [ev.RunStarted(run_id="r", model="m", pid=1)]).notices == ()
