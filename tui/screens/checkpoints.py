"""The Checkpoints screen: which checkpoints there are, and how they compare."""

from __future__ import annotations

from tui.screens.base import RunScreen


class CheckpointsScreen(RunScreen):
    """Under construction."""

    TAB = "Checkpoints"
