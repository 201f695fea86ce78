"""Copying: the escape sequence for each kind of terminal, the file, and what the user is told."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run
from tui.clipboard import LONGEST_SEQUENCE, copy_file, home_relative, osc52

PLAIN = "\x1b]52;c;" + base64.b64encode("é".encode()).decode() + "\a"


@pytest.mark.parametrize(("environ", "expected"), [
    ({"TERM": "xterm-256color"}, PLAIN),
    ({"TERM": "tmux-256color", "TMUX": "/tmp/tmux"}, PLAIN + "\x1bPtmux;\x1b" + PLAIN + "\x1b\\"),
    ({"TERM": "screen-256color", "TMUX": "/tmp/tmux"}, PLAIN + "\x1bPtmux;\x1b" + PLAIN + "\x1b\\"),
    ({"TERM": "screen"}, "\x1bP" + PLAIN + "\x1b\\"),
])
def test_the_sequence_of_each_terminal(environ: dict[str, str], expected: str) -> None:
    assert osc52("é", environ) == expected


def test_a_text_that_no_terminal_takes_is_not_sent() -> None:
    assert osc52("x" * LONGEST_SEQUENCE, {})
    assert osc52("é" * LONGEST_SEQUENCE, {}) == ""
    assert osc52("\ud800", {}) != ""  # half a pair: models write them


@pytest.mark.parametrize(("environ", "path"), [
    ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/softtune/copied.txt"),
    ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/softtune/copied.txt"),
])
def test_where_the_copy_lies(environ: dict[str, str], path: str) -> None:
    assert copy_file(environ) == Path(path)
    assert home_relative(Path("/h/x"), {"HOME": "/h"}) == "~/x"
    assert home_relative(Path("/other"), {"HOME": "/h"}) == "/other"


async def test_y_copies_and_says_where(
    open_app: OpenApp, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_run(runs, count=3)
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        written: list[str] = []
        assert app._driver is not None
        monkeypatch.setattr(app._driver, "write", written.append)
        await pilot.press("3")
        await until(pilot, lambda: app.screen.copy_text() is not None)
        await pilot.press("y")
        await pilot.pause()
        copied = (tmp_path / "cache" / "softtune" / "copied.txt").read_text()
        assert "HumanEval/0" in copied
        assert osc52(copied) in written
        assert "copied.txt" in told(app)[-1]
        (tmp_path / "cache").rename(tmp_path / "away")
        (tmp_path / "cache").write_text("in the way")
        await pilot.press("y")
        assert "not kept in a file" in told(app)[-1]


async def test_y_on_an_empty_screen_says_so(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("3", "y")
        assert "nothing to copy" in told(app)[-1]
