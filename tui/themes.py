"""Colour themes: one YAML file each, ours in themes/, a user's own in the config folder. A later one replaces an
earlier one of the same name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from textual.color import Color, ColorParseError
from textual.theme import Theme

OURS = Path(__file__).parent.parent / "themes"
"""Beside this package, installed or not. `importlib.resources` cannot list a folder without an `__init__.py` in an
editable install on Python 3.11, and another package named `themes` would hide ours from it."""

DARK, LIGHT, SIXTEEN = "softtune-dark", "softtune-light", "terminal-16"

PLOT_COLOURS = {
    "plot-train": "primary", "plot-smooth": "primary", "plot-heldout": "accent", "plot-memory": "secondary",
    "plot-peak": "warning", "plot-rate": "success", "plot-frame": "foreground",
    "plot-other-1": "success", "plot-other-2": "error", "plot-other-3": "secondary", "plot-other-4": "warning",
}
"""Variables that plots use and the theme's colour that each has where a theme does not set it."""

_COLOURS = ("primary", "secondary", "warning", "error", "success", "accent", "foreground", "background", "surface",
            "panel", "boost")
_ALLOWED = frozenset(field.name for field in fields(Theme))


def load_themes(user_folder: Path | None = None) -> tuple[list[Theme], list[str]]:
    """Every theme that could be read, and a sentence for each file that could not.

    Args:
        user_folder: more themes; None looks into the user's config folder.
    """
    folder = config_folder() / "themes" if user_folder is None else user_folder
    users = sorted(path for pattern in ("*.yaml", "*.yml") for path in folder.glob(pattern))
    return parse_themes([*sorted(OURS.glob("*.yaml")), *users])


def parse_themes(sources: Iterable[Path]) -> tuple[list[Theme], list[str]]:
    """(themes, failures) of some files."""
    loaded: dict[str, Theme] = {}
    failed: list[str] = []
    for source in sources:
        try:
            theme = _theme(yaml.safe_load(source.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
            failed.append(f"{source.name}: {' '.join(str(error).split())}")
        else:
            loaded[theme.name] = theme
    return list(loaded.values()), failed


def _theme(value: Any) -> Theme:
    """A theme from YAML; raises ValueError that names the key."""
    if not isinstance(value, dict):
        raise ValueError("not a theme: keys such as `name:` and `primary:` are expected")
    unknown = sorted(set(map(str, value)) - _ALLOWED)
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}; allowed: {', '.join(sorted(_ALLOWED))}")
    for key in ("name", "primary"):
        if not isinstance(value.get(key), str):
            raise ValueError(f"`{key}` is missing or is not text")
    for key in _COLOURS:
        if value.get(key) is not None:
            _check_colour(key, value[key])
    variables = value.get("variables") or {}
    if not isinstance(variables, Mapping) or not all(isinstance(item, str) for item in variables.values()):
        raise ValueError("`variables` must be `name: text` lines")
    for key in PLOT_COLOURS:
        if key in variables:
            _check_colour(f"variables.{key}", variables[key])
    return Theme(**{**value, "variables": {str(key): item for key, item in variables.items()}})


def _check_colour(key: str, value: Any) -> None:
    try:
        Color.parse(str(value))
    except ColorParseError:
        raise ValueError(f"`{key}: {value}` is not a colour; write it as \"#88aaff\" or ansi_blue") from None


def plot_colours(theme: Theme) -> dict[str, str]:
    """Values of the plot variables that a theme leaves out."""
    return {name: getattr(theme, base) or theme.primary for name, base in PLOT_COLOURS.items()}


def config_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's folder for softtune: $XDG_CONFIG_HOME/softtune, else ~/.config/softtune."""
    base = environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path(environ.get("HOME") or "/") / ".config") / "softtune"


def default_theme(environ: Mapping[str, str] = os.environ) -> str:
    """The dark theme, or the 16-colour one where the terminal says that it has no more (rich's own rule)."""
    term = environ.get("TERM", "")
    many = environ.get("COLORTERM", "").casefold() in {"truecolor", "24bit"} or term.rpartition("-")[2] in {
        "256color", "direct", "kitty", "ghostty",
    }
    return DARK if many or not term else SIXTEEN
