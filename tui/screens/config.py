"""The Config screen: the settings of the next run."""

from __future__ import annotations

from tui.screens.base import RunScreen


class ConfigScreen(RunScreen):
    """Under construction."""

    TAB = "Config"
