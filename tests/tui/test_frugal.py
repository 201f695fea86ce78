"""Only changed cells are sent, and the terminal still shows what it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from core.contract import events as ev
from core.contract.event_log import EventLog
from tests.tui.conftest import OpenApp, until
from tests.tui.fake_run import make_run, training
from tui.frugal import GAP, RunsUpdate, TerminalCells


def layout(*lines: str) -> LayoutUpdate:
    strips = [[Strip([Segment(line)])] for line in lines]
    return LayoutUpdate(strips, Region(0, 0, len(lines[0]), len(lines)))  # type: ignore[arg-type]


def chops(line: str, left: int = 0, right: int | None = None) -> ChopsUpdate:
    end = len(line) if right is None else right
    return ChopsUpdate([{0: Strip([Segment(line)])}], [(0, left, end)], [[len(line)]])


def sent(update: object) -> list[tuple[int, int, str]]:
    assert isinstance(update, RunsUpdate)
    return [(y, x, strip.text) for y, x, strip in update.runs]


def test_what_is_there_is_not_sent_again() -> None:
    cells, screen = TerminalCells(), object()
    assert sent(cells.trimmed(screen, layout("abcd", "efgh"))) == [(0, 0, "abcd"), (1, 0, "efgh")]
    assert cells.trimmed(screen, layout("abcd", "efgh")) is None
    assert sent(cells.trimmed(screen, chops("abXd"))) == [(0, 2, "X")]
    assert cells.trimmed(screen, chops("abXd")) is None


def test_near_changes_go_together_and_far_ones_apart() -> None:
    cells, screen = TerminalCells(), object()
    cells.trimmed(screen, layout("." * 30))
    assert sent(cells.trimmed(screen, chops("X.X" + "." * 27))) == [(0, 0, "X.X")]
    far = "X.X" + "." * (GAP + 1) + "Y" + "." * (25 - GAP)
    assert sent(cells.trimmed(screen, chops(far))) == [(0, GAP + 4, "Y")]


def test_another_style_is_a_change() -> None:
    cells, screen = TerminalCells(), object()
    cells.trimmed(screen, layout("ab"))
    bold = ChopsUpdate([{0: Strip([Segment("a"), Segment("b", Style(bold=True))])}], [(0, 0, 2)], [[2]])
    assert sent(cells.trimmed(screen, bold)) == [(0, 1, "b")]


def test_what_lies_beyond_the_span_was_not_rendered() -> None:
    cells, screen = TerminalCells(), object()
    cells.trimmed(screen, layout("abcdef"))
    assert sent(cells.trimmed(screen, chops("XY    ", right=2))) == [(0, 0, "XY")]
    assert cells.trimmed(screen, chops("XYcdef")) is None


def test_wide_characters_are_sent_whole() -> None:
    cells, screen = TerminalCells(), object()
    for _ in range(2):
        assert sent(cells.trimmed(screen, layout("日本ab"))) == [(0, 0, "日本ab")]
    cells.trimmed(screen, layout("日abc\u0301"))  # as many characters as cells, but not one each
    assert sent(cells.trimmed(screen, layout("日xbc\u0301"))) == [(0, 0, "日xbc\u0301")]


def test_another_screen_and_a_resize_send_all() -> None:
    cells, screen, other = TerminalCells(), object(), object()
    cells.trimmed(screen, layout("abcd"))
    assert sent(cells.trimmed(other, layout("abcd"))) == [(0, 0, "abcd")]
    cells.forget()
    assert sent(cells.trimmed(other, layout("abcd"))) == [(0, 0, "abcd")]
    assert cells.trimmed(other, None) is None


async def test_a_terminal_shows_what_the_app_shows(
    open_app: OpenApp, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid: dict[tuple[int, int], str] = {}
    whole = TerminalCells.trimmed

    def watched(cells: TerminalCells, screen: object, update: object) -> Any:
        trimmed = whole(cells, screen, update)
        for y, x, strip in trimmed.runs if isinstance(trimmed, RunsUpdate) else ():
            grid.update({(y, x + n): char for n, char in enumerate(strip.text)})
        return trimmed

    monkeypatch.setattr(TerminalCells, "trimmed", watched)
    folder = make_run(runs, training("x", steps=30), state="running", alive=True, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.scene.active)
        log = EventLog(Path(folder.events_file))
        for keys in (("plus", "left"), ("r", "left"), ("v",), ("v",), ("escape", "escape"), ("question_mark",),
                     ("escape",), ("2",), ("1",), ("pageup",), ("0", "L")):
            await pilot.press(*keys)
            log.append(ev.Notice(what=f"after {keys}"))
            await pilot.pause(0.05)
        log.close()
        await until(pilot, lambda: "'L'" in app.scene.view.log[-1].text)
        await pilot.pause(0.4)
        for y, strip in enumerate(app.screen._compositor.render_strips()):
            assert "".join(grid.get((y, x), "?") for x in range(120)) == strip.text, y
