"""Drawing with plotext: every size and every kind of data gives text of the right size."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult

from tui.curves import Curve
from tui.widgets.plot import Plot
from tui.widgets.plot_canvas import Picture, Trace, draw


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
    assert styles == {"$plot-train", "$plot-frame 60%"}


def test_points_and_lines_differ_without_colour() -> None:
    curve = Curve((1.0, 9.0), (1.0, 2.0))
    points = draw(Picture("", (Trace("held-out", curve, "red", "points"),)), 60, 12).plain
    assert points.count("●") == 2 and braille(points) == 0
    dots = draw(Picture("", (Trace("train", curve, "red", "dots"),)), 60, 12).plain
    assert braille(dots) == 2


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
