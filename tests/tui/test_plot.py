"""Drawing with plotext: every size and every kind of data gives text of the right size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.app import App, ComposeResult

from tui.train.curves import Curve
from tui.widgets.plot import Plot
from tui.widgets.plot_canvas import CURSOR, Picture, Trace, draw


def picture(*ys: float, **kind: object) -> Picture:
    curve = Curve(tuple(float(x) for x in range(1, len(ys) + 1)), tuple(ys))
    return Picture("loss", (Trace("train", curve, "$plot-train"),), **kind)  # type: ignore[arg-type]


def braille(text: str) -> int:
    return sum("⠁" <= char <= "⣿" for char in text)


@pytest.mark.parametrize("size", [(60, 12), (40, 8), (20, 5), (12, 3)])
@pytest.mark.parametrize(
    "ys", [(1.0,), (1.0, 1.0, 1.0), (1.0, 0.5, 0.2), (0.0, 0.0), (-1e-12, 1e12), tuple(range(5000))]
)
@pytest.mark.parametrize("logarithmic", [False, True])
def test_what_is_drawn_fits(size: tuple[int, int], ys: tuple[float, ...], logarithmic: bool) -> None:
    lines = draw(picture(*ys, logarithmic=logarithmic), *size).plain.split("\n")
    assert len(lines) <= size[1] and all(len(line) <= size[0] for line in lines)


def test_a_curve_is_there() -> None:
    assert braille(draw(picture(3.0, 2.0, 1.0), 60, 12).plain) > 20


def test_one_point_is_there() -> None:
    assert braille(draw(picture(3.0), 60, 12).plain) == 1


def test_no_points_say_what_will_come() -> None:
    assert "no data yet" in draw(picture(), 60, 12).plain
    assert "above zero" in draw(picture(0.0, -1.0, logarithmic=True), 60, 12).plain
    assert "window" in draw(picture(1.0, 2.0, window=(50.0, 60.0)), 60, 12).plain


def test_nothing_paints_a_background() -> None:
    styles = {str(span.style) for span in draw(picture(3.0, 2.0, 1.0), 60, 12).spans}
    assert styles == {"$plot-train", "$plot-frame 85%"}


def test_points_and_lines_differ_without_colour() -> None:
    curve = Curve((1.0, 9.0), (1.0, 2.0))
    points = draw(Picture("", (Trace("held-out", curve, "red", "points"),)), 60, 12).plain
    assert points.count("●") == 2 and braille(points) == 0
    dots = draw(Picture("", (Trace("train", curve, "red", "dots"),)), 60, 12).plain
    assert braille(dots) == 2


@pytest.mark.parametrize("size", [(60, 12), (33, 7), (100, 20)])
@pytest.mark.parametrize("at", [0.0, 0.3, 0.71, 1.0])
def test_the_cursor_stands_where_its_step_is_drawn(size: tuple[int, int], at: float) -> None:
    low, high = 3.0, 480.0
    x = low + at * (high - low)
    frame = Trace("", Curve((low, high), (0.0, 1.0)), "red")
    point = Trace("", Curve((x,), (0.5,)), "blue", "points", mark="Z")
    lines = draw(Picture("", (frame, point), cursor=x), *size).plain.split("\n")
    row = next(line for line in lines if "Z" in line)
    columns = {line.index(CURSOR, row.index("Z")) for line in lines if line.find(CURSOR, row.index("Z")) >= 0}
    assert columns == {row.index("Z")}
    without = draw(Picture("", (frame, point)), *size).plain.split("\n")
    assert lines[-2:] == without[-2:] and len(lines) == len(without) and all(len(line) <= size[0] for line in lines)


def test_no_cursor_outside_the_window_or_without_data() -> None:
    assert CURSOR * 2 not in draw(picture(1.0, 2.0, cursor=9.0), 60, 12).plain
    assert draw(picture(1.0, 2.0, cursor=9.0), 60, 12).plain == draw(picture(1.0, 2.0), 60, 12).plain
    assert "no data yet" in draw(picture(cursor=1.0), 60, 12).plain


def test_room_ahead_keeps_the_axis() -> None:
    def labels(steps: int) -> str:
        return draw(picture(*(1.0 / n for n in range(1, steps + 1)), ahead=40.0), 60, 12).plain.split("\n")[-1]

    assert labels(21) == labels(39) and "40" in labels(21)
    assert picture(1.0, 2.0, window=(0.0, 1.0), ahead=40.0).x_limits() == (0.0, 1.0)


def test_a_letter_ends_a_line() -> None:
    curve = Curve((1.0, 2.0, 3.0), (1.0, 3.0, 2.0))
    assert draw(Picture("", (Trace("", curve, "red", mark="b"),)), 60, 12).plain.count("b") == 1
    zoomed = Picture("", (Trace("", curve, "red", mark="b"),), window=(0.5, 2.5))
    assert draw(zoomed, 60, 12).plain.count("b") == 1


@pytest.mark.parametrize("ys", [(-1.7e308, 1.7e308), (1e300, 1.0), (5e-324, 1e-320), (1e16, 1e16 + 2)])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_values_at_the_limits_of_floats(ys: tuple[float, ...], logarithmic: bool) -> None:
    lines = draw(picture(*ys, logarithmic=logarithmic), 60, 12).plain.split("\n")
    assert all(len(line) <= 60 for line in lines)


class PlotApp(App[None]):
    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {"plot-train": "#ff0000", "plot-frame": "#00ff00"}

    def compose(self) -> ComposeResult:
        yield Plot("loss")


async def test_a_plot_is_built_at_most_four_times_a_second() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 24)) as pilot:
        plot = app.query_one(Plot)
        await pilot.pause(0.3)
        before = plot.builds
        for number in range(2, 40):
            plot.show(picture(*map(float, range(number))))
            await pilot.pause(0.01)
        assert plot.builds - before <= 5
        await pilot.pause(0.3)
        built = plot.builds
        plot.refresh()
        await pilot.pause(0.3)
        assert plot.builds == built  # nothing has changed


async def test_a_cursor_builds_nothing_and_a_key_does_not_wait() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 24)) as pilot:
        plot = app.query_one(Plot)
        plot.show(picture(1.0, 2.0, 3.0))
        await pilot.pause()
        for number in range(3):
            before = plot.builds
            plot.show(picture(*map(float, range(number + 4))), at_once=True)
            await pilot.pause()
            assert plot.builds == before + 1
        held = plot._picture
        plot.show(replace(held, cursor=2.0))
        await pilot.pause()
        assert plot.builds == before + 1 and "step 2" in str(plot.border_title)


async def test_a_long_legend_keeps_the_letters() -> None:
    app = PlotApp()
    async with app.run_test(size=(40, 12)) as pilot:
        curve = Curve((1.0, 2.0), (1.0, 2.0))
        own, other = Trace("train", curve, "red"), Trace("a-run-with-a-long-name", curve, "blue", "points", "a")
        app.query_one(Plot).show(Picture("loss", (other, own)))
        await pilot.pause()
        assert "long" not in str(app.query_one(Plot).border_title) and "a" in str(app.query_one(Plot).border_title)


async def test_a_hidden_plot_is_not_built() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 24)) as pilot:
        plot = app.query_one(Plot)
        plot.display = False
        await pilot.pause()
        before = plot.builds
        plot.show(picture(1.0, 2.0, 3.0))
        await pilot.pause(0.3)
        assert plot.builds == before
