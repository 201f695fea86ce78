"""Curves, axes, numbers in words, visible text: the pure parts under the plots and panels."""

from __future__ import annotations

import math

import pytest

from tui.formatting import clock_time, counted, data_size, duration, figure, rate, small_percent
from tui.train.axes import label, linear_axis, log_axis
from tui.train.curves import BLOCK, Curve, Smoother
from tui.train.look import Look
from tui.visible import visible, visible_line


def test_thinning_keeps_the_extremes() -> None:
    curve = Curve().extended([(float(x), 5.0 if x == 5_000 else -5.0 if x == 7_000 else 0.0) for x in range(10_000)])
    xs, ys = curve.thinned(0, 9_999, 50)
    assert len(xs) <= 100 and xs == sorted(xs)
    assert max(ys) == 5.0 and min(ys) == -5.0


def test_thinning_a_window_keeps_its_neighbours() -> None:
    curve = Curve().extended([(float(x), float(x)) for x in range(100)])
    xs, _ = curve.thinned(40.5, 50.5, 60)
    assert xs == [float(x) for x in range(40, 52)]


def test_thinning_nothing_and_one_point() -> None:
    assert Curve().thinned(0, 1, 10) == ([], [])
    assert Curve((3.0,), (4.0,)).thinned(3, 3, 10) == ([3.0], [4.0])


def test_points_that_are_no_numbers_are_dropped() -> None:
    curve = Curve().extended([(1, 1.0), (2, math.nan), (3, -math.inf), (4, 2.0)])
    assert curve.ys == (1.0, 2.0) and curve.dropped == 2


def test_a_point_that_goes_back_replaces_what_followed() -> None:
    curve = Curve((1.0, 2.0, 3.0), (1.0, 2.0, 3.0)).extended([(4, 4.0), (2, 9.0), (5, 5.0), (5, 6.0)])
    assert (curve.xs, curve.ys) == ((1.0, 2, 5), (1.0, 9.0, 6.0))


@pytest.mark.parametrize("parts", [(1000,), (1, 63, 1, 200, 735), (500, 500)])
def test_remembered_extremes_change_nothing(parts: tuple[int, ...]) -> None:
    points = [(float(x), math.sin(x * x)) for x in range(1000)]
    curve = Curve()
    for part in parts:
        curve = curve.extended(points[len(curve):len(curve) + part])
    plain = Curve(curve.xs, curve.ys)
    assert len(curve.extremes) == 1000 // BLOCK * 2 and not plain.extremes
    for low, high in ((0, 999), (13, 900), (300, 640)):
        assert curve.thinned(low, high, 7) == plain.thinned(low, high, 7)
    shorter = curve.extended([(70.0, 9.0)])
    assert len(shorter) == 71 and shorter.thinned(0, 70, 5) == Curve(shorter.xs, shorter.ys).thinned(0, 70, 5)


def test_reading_a_curve() -> None:
    curve = Curve((1.0, 2.0, 4.0), (1.0, 3.0, 5.0))
    assert curve.at(0.5) is None and curve.at(3.0) == (2.0, 3.0) and curve.at(9.0) == (4.0, 5.0)
    assert curve.mean(1.0, 4.0) == 4.0 and curve.mean(4.0, 9.0) is None


def test_numbers_that_no_float_holds_are_dropped() -> None:
    assert Curve().extended([(1, 10**400), (2, 1.0)]) == Curve((2,), (1.0,), (1,))
    assert Curve().extended([(1, 1.7e308), (2, 1.7e308)]).ys == (1.7e308, 1.7e308)


def test_smoothing_all_at_once_is_the_same() -> None:
    values, singly = [1.0, 3.0, 0.5], Smoother()
    for value in values:
        singly = singly.add(value, 7)
    together, means = Smoother().add_all(values, 7)
    assert together == singly and means[-1] == pytest.approx(singly.value)


STEPS = Curve(tuple(float(x) for x in range(1, 101)), (0.0,) * 100)


def test_the_cursor_goes_by_steps_and_strides() -> None:
    look = Look().reading(STEPS)
    assert look.cursor == 100
    assert look.stepped(1, STEPS).cursor == 100 and look.stepped(-1, STEPS).cursor == 99
    assert look.stepped(-1, STEPS, 0.1).cursor == 90
    assert look.at(1, STEPS).stepped(-1, STEPS).cursor == 1
    assert look.unread().cursor is None and Look().stepped(1, STEPS).cursor is None
    assert Look().reading(Curve()).cursor is None


def test_the_cursor_goes_further_where_steps_are_dense() -> None:
    dense = Curve(tuple(float(x) for x in range(10_000)), (0.0,) * 10_000)
    look = Look().reading(dense).stepped(-1, dense)
    assert look.cursor == pytest.approx(9_899, abs=2)
    close = look.zoomed(1 / 64).centred(dense).stepped(-1, dense)
    assert look.cursor is not None and close.cursor == pytest.approx(look.cursor - 2, abs=1)


def test_a_zoomed_window_follows_the_cursor() -> None:
    look = Look(share=0.1).reading(STEPS)
    assert look.cursor == 100 and look.window(STEPS) == (90.0, 100.0)
    for _ in range(30):
        look = look.stepped(-1, STEPS)
        window = look.window(STEPS)
        assert window is not None and look.cursor is not None and window[0] - 1e-9 <= look.cursor <= window[1] + 1e-9
    assert look.unread().window(STEPS) == look.window(STEPS)  # it stays where the cursor was
    window = look.zoomed(0.5).centred(STEPS).window(STEPS)
    assert window is not None and sum(window) / 2 == pytest.approx(look.cursor)
    grown = STEPS.extended([(float(x), 0.0) for x in range(101, 400)])
    later = look.window(grown)
    assert later is not None and look.cursor is not None and later[0] <= look.cursor <= later[1]


@pytest.mark.parametrize("look", [Look(share=0.1, back=0.5), Look(share=0.1, cursor=97.0)])
def test_a_window_that_was_moved_away_stays_while_the_run_goes_on(look: Look) -> None:
    before, window = STEPS, look.window(STEPS)
    for last in (101, 250, 9_000):
        after = before.extended([(float(x), 0.0) for x in range(int(before.xs[-1]) + 1, last + 1)])
        look, before = look.grown(before, after), after
        assert look.window(after) == pytest.approx(window) and look.zoomed(0.5).share < look.share + 1e-12
    back = Curve(before.xs[:50], before.ys[:50])
    again = look.grown(before, back)
    low, high = again.window(back) or (0.0, 0.0)
    assert 0 <= low < high <= 50 and (again.cursor is None or again.cursor == 50)


def test_a_window_at_the_end_moves_along() -> None:
    grown = STEPS.extended([(101.0, 0.0)])
    assert Look(share=0.1).grown(STEPS, grown) == Look(share=0.1)
    assert Look(cursor=50.0).grown(STEPS, grown) == Look(cursor=50.0)
    assert Look(share=0.1, back=0.5).grown(Curve(), STEPS) == Look(share=0.1, back=0.5)


@pytest.mark.parametrize(("seconds", "words"), [(math.nan, "–"), (math.inf, "–"), (1e30, "–")])
def test_what_is_no_time(seconds: float, words: str) -> None:
    assert clock_time(seconds) == words


def test_smoothing_has_no_bias_at_the_start() -> None:
    assert Smoother().add(4.0, 50).value == pytest.approx(4.0)
    smoother = Smoother()
    for _ in range(10):
        smoother = smoother.add(2.0, 7)
    assert smoother.value == pytest.approx(2.0)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.62, 1.38), (-3, 7), (0, 1e-9), (1e9, 3.4e9), (5, 5), (0, 0)])
def test_ticks_are_inside_and_have_room(low: float, high: float) -> None:
    axis = linear_axis(low, high, at_most=4)
    assert axis.low < axis.high and 1 <= len(axis.ticks) <= 5
    assert all(axis.low - 1e-9 <= at <= axis.high * (1 + 1e-9) + 1e-9 for at, _ in axis.ticks)
    assert len({words for _, words in axis.ticks}) == len(axis.ticks)


def test_steps_are_ticked_at_whole_numbers() -> None:
    assert [words for _, words in linear_axis(1, 3, 9, whole=True).ticks] == ["1", "2", "3"]
    assert all(at == int(at) for at, _ in linear_axis(1, 1, 9, whole=True).ticks)


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.5), (1e-6, 1e3), (0.9, 0.95), (2, 2)])
def test_a_logarithmic_axis_has_ticks(low: float, high: float) -> None:
    axis = log_axis(low, high, at_most=5)
    assert axis.low < axis.high and 1 <= len(axis.ticks) <= 6


def test_huge_values_do_not_hang_the_axis() -> None:
    assert linear_axis(1e16, 1e16 + 2, 5).ticks


@pytest.mark.parametrize(("value", "step", "words"), [
    (0.25, 0.25, "0.25"), (1200, 200, "1,200"), (3_000_000, 1e6, "3M"), (0, 1, "0"), (2e-5, 1e-5, "2e-5"),
    (0.5, 0.5, "0.5"),
])
def test_tick_labels(value: float, step: float, words: str) -> None:
    assert label(value, step) == words


def test_numbers_in_words() -> None:
    assert [duration(s) for s in (0, 252, 3852, 180_000, None, math.nan)] == \
        ["00:00", "04:12", "1:04:12", "2 d 02:00", "–", "–"]
    assert [data_size(b) for b in (12, 3.1e9, 640e6)] == ["12 B", "3.1 GB", "640 MB"]
    assert [figure(v) for v in (1.0237, None, math.nan, -math.inf, 12345.6, 0.00042)] == \
        ["1.024", "–", "not a number", "infinite", "12,345.6", "4.2e-4"]
    assert [rate(v) for v in (0.02, 0.0081, 8.1e-5)] == ["0.02", "0.0081", "8.1e-5"]
    assert small_percent(17_920 / 494_032_768) == "0.0036 %"
    assert counted(1, "steps") == "1 step" and counted(1204, "steps") == "1,204 steps"


@pytest.mark.parametrize(("text", "shown"), [
    ("plain [red]text[/]", "plain [red]text[/]"), ("\x1b]52;c;x\x07", "␛]52;c;x␇"), ("a\tb", "a   b"),
    ("\x7f\x00", "␡␀"),
    ("a\u202eb\u200b", "a‹U+202E›b‹U+200B›"), ("\ud800", "‹U+D800›"), ("日本", "日本"), ("\x9b31m", "‹U+009B›31m"),
    ("one\ntwo", "one\ntwo"), ("a\u2028b", "a‹U+2028›b"), ("\r", "␍"),
])
def test_hostile_text_becomes_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert "\n" not in visible_line(text)
    visible(text).encode("utf-8")
