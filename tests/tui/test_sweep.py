"""Pure parts of the Sweep screen: trials from events, their order, columns, slices, words, and taking settings."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from core.contract import events as ev
from core.contract.config import Config
from core.contract.errors import SofttuneError
from core.contract.sweep_plan import SweepPlan
from tests.tui.fake_sweep import PLAN, RATE, SCHEDULE, TOKENS, folds, make_sweep, outcome, points, sweeping
from tui.run_view import RunView, advance
from tui.sweep.columns import Order, as_text, columns_of, layout, ordered, two_lines
from tui.sweep.reader import ShownSweep, SweepReader
from tui.sweep.slices import slices
from tui.sweep.using import prepare_use, take_back, write
from tui.sweep.view import SweepView, parameters, ranked, short_names
from tui.sweep.view import advance as after
from tui.sweep.words import empty_content, status_lines, trial_lines
from tui.train.results import results
from tui.widgets.plot_canvas import SPOT, draw, drawing

WHOLE = after(SweepView(), sweeping("s"))


def test_trials_come_from_events_and_a_resumed_sweep_tells_them_again() -> None:
    view = after(SweepView(), sweeping("s", done=3, running=2))
    assert [trial.state for trial in view.trials.values()] == ["complete"] * 3 + ["running"] * 2
    assert view.trials[3].heldout_loss == 1.0 and view.trials[3].epoch == 2
    again = after(view, [event for event in sweeping("s", done=3) if not isinstance(event, ev.TrialStarted)])
    assert len(again.trials) == 5 and after(again, [outcome(0, points()[0])]) is again
    restarted = after(again, [ev.TrialStarted(number=3, parameters=points()[3])])
    assert restarted.trials[3].heldout_loss is None and restarted.trials[3].state == "running"


def test_what_an_engine_left_was_cut_short() -> None:
    view = after(SweepView(), sweeping("s", done=2, running=1))
    assert [trial.state for trial in ranked(view, True)] == ["complete", "complete", "running"]
    assert [trial.state for trial in ranked(view, False)][-1] == "cut short"
    assert [trial.rank for trial in ranked(view, True)] == [1, 2, None]


def test_names_and_heads() -> None:
    assert short_names([RATE, "a.seed", "b.seed"]) == {RATE: "learning_rate", "a.seed": "a.seed", "b.seed": "b.seed"}
    assert two_lines("num_virtual_tokens") == ("num_virtual", "_tokens") and two_lines("schedule") == ("", "schedule")
    assert parameters(WHOLE) == [RATE, TOKENS, SCHEDULE]


def test_columns_sort_and_fit() -> None:
    trials, columns = ranked(WHOLE, False), columns_of(WHOLE)
    by_rate = [trial.parameters[RATE] for trial in ordered(trials, columns, Order(RATE, True))]
    assert by_rate == sorted(by_rate, reverse=True)
    assert ordered(trials, columns, Order("loss", True))[-1].number == 10  # it has none, in either direction
    assert ordered(trials, columns, Order("loss", False))[-1].number == 10
    assert [trial.rank for trial in ordered(trials, columns, Order("rank", True))][-1] == 1
    wide = [place.column.id for place in layout(columns, trials, 118)]
    assert wide == ["rank", "trial", "loss", "epoch", RATE, TOKENS, SCHEDULE, "seconds"]
    assert [place.column.id for place in layout(columns, trials, 52)] == ["rank", "trial", "loss", RATE, TOKENS]
    assert "seconds" in [place.column.id for place in layout(columns, trials, 52, "seconds")]
    text = as_text(trials, columns).splitlines()
    assert text[0].split("\t")[:3] == ["rank", "trial", "held-out loss"] and len(text) == 17
    assert text[-1].endswith("no validation gave a finite loss")


def test_a_slice_has_an_axis_for_numbers_and_columns_for_choices() -> None:
    trials = ranked(WHOLE, False)
    rate, tokens, schedule = slices(WHOLE, trials, PLAN, False)
    assert (rate.scale, tokens.names) == ("powers", ("10", "20", "50"))
    assert schedule.names == ("linear", "cosine", "constant")
    assert rate.spot(trials[0]) == (pytest.approx(math.log10(trials[0].parameters[RATE])), trials[0].value)
    shown = draw(rate.picture, 38, 12).plain
    assert "0.001" in shown and "0.1" in shown and "★" in shown and "×" in shown
    assert "constant" in draw(schedule.picture, 38, 12).plain
    assert rate.words(trials[0]).startswith("trial 7: 0.0517 → 0.81")
    failed = next(trial for trial in trials if trial.state == "failed")
    assert rate.spot(failed) is None and rate.words(failed).endswith("failed") and rate.words(None) == ""


def test_a_slice_without_a_plan_is_logarithmic_where_values_span_much() -> None:
    trials = ranked(WHOLE, False)
    rate, tokens, _ = slices(WHOLE, trials, None, True)
    assert (rate.scale, tokens.scale) == ("powers", "whole") and rate.picture.logarithmic
    near = SweepPlan.model_validate({"parameters": {RATE: {"low": 0.01, "high": 0.5}}})
    assert slices(WHOLE, trials, near, False)[0].scale == "numbers"
    many = SweepPlan.model_validate({"parameters": {TOKENS: list(range(10, 51))}})
    assert slices(WHOLE, trials, many, False)[1].scale == "whole"
    assert "a point for every trial" in draw(slices(SweepView(WHOLE.planned), [], PLAN, False)[0].picture, 40, 9).plain


@pytest.mark.parametrize("logarithmic", [False, True])
def test_the_spot_stands_on_its_point(logarithmic: bool) -> None:
    trials = ranked(WHOLE, False)
    for one in slices(WHOLE, trials, PLAN, logarithmic):
        for width, height in ((36, 6), (54, 13), (56, 13), (75, 16)):
            found = drawing(one.picture, width, height)
            for trial in trials:
                spot = one.spot(trial)
                marked = found.with_spot(spot, logarithmic).plain
                assert marked.count(SPOT) == (spot is not None)
                assert sum(marked.count(sign) for sign in "●×★") + marked.count(SPOT) == sum(
                    found.content.plain.count(sign) for sign in "●×★"), (one.name, trial.number)


def test_words(runs: Path) -> None:
    sweep = ShownSweep("2026-11-25-101500-s", WHOLE, plan=PLAN, sweeps=("2026-11-25-101500-s", "old"))
    trials = ranked(WHOLE, False)
    first, second, third = (line.plain for line in status_lines(sweep, trials, 120))
    assert "16 of 16 trials done  3 pruned  1 failed" in first and "1 of 2 sweeps  [ older" in first
    assert "the lowest held-out loss" in second and "best 0.8155 of trial 7, epoch 4" in second
    assert "learning_rate 0.001 – 0.5 (log), num_virtual_tokens 10 | 20 | 50" in third
    assert "varies learning_rate, num_virtual_tokens, schedule" in status_lines(sweep, trials, 80)[2].plain
    assert "has not begun" in status_lines(ShownSweep("x"), [], 80)[1].plain
    pruned = next(trial for trial in trials if trial.state == "pruned")
    assert "above the median" in trial_lines(pruned, 130)[0].plain and "0.03066" in trial_lines(pruned, 130)[1].plain
    assert "above the median" in trial_lines(pruned, 60)[1].plain
    scored = ranked(after(SweepView(), sweeping("s", "heldout_pass_at_1")), False)[0]
    assert "pass@1 0.273 (0.151 – 0.442)" in trial_lines(scored, 120)[0].plain
    assert "softtune sweep sweep.yml" in empty_content("").plain and empty_content("no").plain == "✗ no"


def test_the_reader_finds_the_sweep_that_is_wanted(runs: Path) -> None:
    assert SweepReader(runs).read("") == ShownSweep()
    old, new = make_sweep(runs / "2026-11-24-a"), make_sweep(runs / "2026-11-25-b", done=2, running=1)
    (runs / "2026-11-26-broken").mkdir()
    reader = SweepReader(runs)
    shown = reader.read("", ("2026-11-26-broken",))
    assert shown.run_id == new.run_id and shown.sweeps == (new.run_id, old.run_id) and len(shown.view.trials) == 3
    assert shown.plan == PLAN and reader.read("") is shown
    assert reader.read("", (old.run_id,)).run_id == old.run_id
    assert len(reader.read(old.run_id, (new.run_id,)).view.trials) == 16
    runs.rename(runs.with_name("away"))
    runs.write_text("")
    assert "Not a directory" in reader.read("").fault


def test_taking_settings_writes_what_differs_and_can_be_taken_back(runs: Path) -> None:
    config = Config()
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": "other"})})
    sweep = ShownSweep("s", WHOLE, plan=PLAN, config=config)
    best, path = ranked(WHOLE, False)[0], runs.parent / "prompt_tuning.yml"
    before = "# mine\ntraining:\n  learning_rate: 0.01  # why\nsoft_prompts:\n  num_virtual_tokens: 50\n"
    path.write_text(before)
    use = prepare_use(sweep, best, path)
    assert [name for name, _, _ in use.changes] == [RATE, SCHEDULE] and use.left == ("model.name",)
    assert f"{RATE}  0.01 → {best.parameters[RATE]!r}" in use.words and "another model.name" in use.words
    write(use)
    assert "# mine" in path.read_text() and f"learning_rate: {best.parameters[RATE]!r}  # why" in path.read_text()
    assert "model" not in path.read_text() and prepare_use(sweep, best, path).before == use.after
    with pytest.raises(SofttuneError, match="changed by another program"):
        write(use)
    take_back(use)
    assert path.read_text() == before
    path.write_text("training: {learning_rate: fast}\n")
    with pytest.raises(SofttuneError, match="learning_rate"):
        prepare_use(sweep, best, path)
    with pytest.raises(SofttuneError, match="cannot be read"):
        prepare_use(replace(sweep, plan=None), best, path)


def test_a_file_is_made_where_there_is_none(runs: Path) -> None:
    sweep = ShownSweep("s", WHOLE, plan=PLAN, config=Config())
    path = runs.parent / "new.yml"
    use = prepare_use(sweep, ranked(WHOLE, False)[0], path)
    assert use.before is None and not use.left and "There is no such file yet" in use.words
    write(use)
    assert "num_virtual_tokens: 50" in path.read_text()
    take_back(use)
    assert not path.exists()


def test_folds_stand_where_the_scores_are() -> None:
    view = advance(RunView(), [folds()])
    lines = [line.plain for line in results(replace(view, verdict="it is better"), 56, 20)]
    assert lines[0].split()[:5] == ["epoch", "loss", "passed", "pass@1", "95"] and lines[1].startswith("fold 1")
    assert "16/165" in lines[6] and "0.061 – 0.152" in lines[6] and lines[7] == "it is better"
    assert all(len(line) <= 36 for line in (line.plain for line in results(view, 36, 20)))
    assert [line.plain.split()[0] for line in results(view, 36, 4)] == ["epoch", "pooled"]
    unscored = [line.plain.split() for line in results(advance(RunView(), [folds(scored=False)]), 56, 20)]
    assert unscored[0] == ["epoch", "loss"] and unscored[-1] == ["pooled", "0.879"]
