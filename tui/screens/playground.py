"""The Playground screen: complete a prompt with and without a soft prompt."""

from __future__ import annotations

from tui.screens.base import RunScreen


class PlaygroundScreen(RunScreen):
    """Under construction."""

    TAB = "Playground"
