"""Themes as files, and the remembered choice."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App
from textual.color import Color

from tui.preferences import Preferences
from tui.themes import DARK, LIGHT, PLOT_COLOURS, SIXTEEN, config_folder, default_theme, load_themes, plot_colours


def test_ours_load(tmp_path: Path) -> None:
    themes, failed = load_themes(tmp_path)
    assert failed == []
    by_name = {theme.name: theme for theme in themes}
    assert {DARK, LIGHT, SIXTEEN} <= set(by_name)
    assert by_name[DARK].dark and not by_name[LIGHT].dark and by_name[SIXTEEN].ansi


def test_sixteen_means_sixteen(tmp_path: Path) -> None:
    theme = next(theme for theme in load_themes(tmp_path)[0] if theme.name == SIXTEEN)
    colours = [theme.primary, theme.foreground, theme.background, *plot_colours(theme).values()]
    assert all(Color.parse(str(colour)).ansi is not None for colour in colours)


def test_a_user_adds_and_replaces(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nprimary: '#123456'\n")
    (tmp_path / "dark.yml").write_text(f"name: {DARK}\nprimary: '#abcdef'\n")
    themes, failed = load_themes(tmp_path)
    by_name = {theme.name: theme for theme in themes}
    assert failed == [] and by_name["mine"].primary == "#123456" and by_name[DARK].primary == "#abcdef"
    assert set(plot_colours(by_name["mine"])) == set(PLOT_COLOURS)


@pytest.mark.parametrize(("content", "said"), [
    ("name: [", "expected"), ("- a list", "not a theme"), ("name: x", "primary"), ("primary: '#fff'", "name"),
    ("name: x\nprimary: nocolour", "primary: nocolour"), ("name: x\nprimary: '#fff'\nprimry: red", "primry"),
    ("name: x\nprimary: '#fff'\nvariables: [1]", "variables"), ("\xff\xfe".encode("latin-1"), "codec"),
    ("name: x\nprimary: '#fff'\nvariables:\n  plot-train: nocolour", "plot-train"),
])
def test_a_broken_file_is_named_with_its_fault(tmp_path: Path, content: str | bytes, said: str) -> None:
    (tmp_path / "broken.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    themes, failed = load_themes(tmp_path)
    assert len(themes) >= 3
    assert len(failed) == 1 and failed[0].startswith("broken.yaml: ") and said in failed[0]


async def test_textual_takes_every_theme(tmp_path: Path) -> None:
    app: App[None] = App()
    async with app.run_test() as pilot:
        for theme in load_themes(tmp_path)[0]:
            app.register_theme(theme)
            app.theme = theme.name
            await pilot.pause()


@pytest.mark.parametrize(("environ", "name"), [
    ({"TERM": "xterm-256color"}, DARK), ({"TERM": "xterm", "COLORTERM": "truecolor"}, DARK),
    ({"TERM": "linux"}, SIXTEEN), ({"TERM": "screen"}, SIXTEEN), ({"TERM": "tmux-256color"}, DARK), ({}, DARK),
])
def test_the_first_theme_fits_the_terminal(environ: dict[str, str], name: str) -> None:
    assert default_theme(environ) == name


def test_config_folder() -> None:
    assert config_folder({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/softtune")
    assert config_folder({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}) == Path("/h/.config/softtune")


def test_the_choice_is_remembered_beside_other_keys(tmp_path: Path) -> None:
    preferences = Preferences(tmp_path / "new")
    assert preferences.theme == ""
    preferences.remember(theme="paper")
    assert Preferences(tmp_path / "new").theme == "paper"
    (tmp_path / "new" / "ui.yml").write_text("theme: a\nkeymap: {q: x}\n")
    preferences.remember(theme="b")
    assert "keymap" in (tmp_path / "new" / "ui.yml").read_text() and preferences.theme == "b"


@pytest.mark.parametrize("content", ["theme: [", "- x", "theme: 3", ""])
def test_broken_preferences_are_no_preferences(tmp_path: Path, content: str) -> None:
    (tmp_path / "ui.yml").write_text(content)
    assert Preferences(tmp_path).theme == ""
