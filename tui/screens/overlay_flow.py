"""From the key to the curves: list the other runs, ask, read those that were chosen. Reading happens in threads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from textual.app import App

from core.contract.errors import SofttuneError
from core.contract.runs import RunFolder
from tui.follower import Scene
from tui.screens.overlay_choice import OverlayChoice
from tui.train.overlays import Letters, OtherRun, choices, read_other


class Overlays(Protocol):
    """A screen that lays other runs over the one it shows."""

    scene: Scene
    others: tuple[OtherRun, ...]
    letters: Letters

    @property
    def app(self) -> App[object]:
        """The app, which has the folder of runs."""

    def lay_over(self, others: tuple[OtherRun, ...]) -> None:
        """Show these."""


async def ask_for_overlays(screen: Overlays) -> None:
    """Let the user choose runs, and lay them over the screen's plots; one that cannot be read is told and left out."""
    app = screen.app
    runs: Path = getattr(app, "runs")  # noqa: B009 - the app's type would be a circle
    found = await asyncio.to_thread(choices, runs, screen.scene.run_id)
    chosen = await app.push_screen_wait(OverlayChoice(found, [other.run_id for other in screen.others]))
    if chosen is None:
        return
    letters = screen.letters.given(chosen)
    others: list[OtherRun] = []
    for run_id, letter in letters.items():
        try:
            others.append(await asyncio.to_thread(read_other, RunFolder(runs / run_id), letter))
        except SofttuneError as error:
            app.notify(f"{error.what}: {error.remedy}", title="not laid over", severity="warning", markup=False)
    screen.lay_over(tuple(others))
