"""What every screen of a run has: the header, the hints, and a `show` for each new scene."""

from __future__ import annotations

import time
from typing import ClassVar, Protocol, runtime_checkable

from textual.app import ComposeResult
from textual.content import Content
from textual.screen import Screen

from tui.follower import Scene
from tui.status import header
from tui.widgets.hints import HintBar
from tui.widgets.panel import Panel

TABS = (("1", "Train"), ("2", "Checkpoints"), ("3", "Problems"), ("4", "Config"), ("5", "Playground"),
        ("6", "Sweep"))
"""Screens with the keys that lead to them."""


@runtime_checkable
class Copies(Protocol):
    """A screen that has something to copy."""

    def copy_text(self) -> tuple[str, str] | None:
        """What `y` copies, as (what it is, the text); None where there is nothing."""


@runtime_checkable
class Loses(Protocol):
    """A screen that may have what quitting would lose."""

    def would_lose(self) -> str:
        """What would be lost, as a sentence; "" for nothing."""


class RunScreen(Screen[None]):
    """A screen that shows the run which the app follows."""

    TAB: ClassVar[str] = ""
    """The screen's name."""
    HOME: ClassVar[str] = ""
    """The screen that it lies on top of, where it has no key of its own."""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall"), (46, "-high")]

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()

    def compose(self) -> ComposeResult:
        """Header, body, hints."""
        yield Panel(id="header")
        yield from self.compose_body()
        yield HintBar()

    def compose_body(self) -> ComposeResult:
        """The screen's own part."""
        yield from ()

    def on_mount(self) -> None:
        """The clock in the header goes on between events. Textual calls this one after a subclass's own."""
        self.query_one("#header", Panel).show(self._header)
        self.set_interval(1.0, self.tick)
        self.show_scene(self.scene)

    def _header(self, width: int, height: int) -> Content:
        here = self.HOME or self.TAB
        return header(self.scene, time.time(), width, tuple((key, name, name == here) for key, name in TABS))

    def tick(self) -> None:
        """A second has passed."""
        if self.is_current and self.scene.active:
            self.query_one("#header", Panel).refresh()

    def take(self, scene: Scene) -> None:
        """Show a new scene, in one repaint."""
        self.scene = scene
        if self.is_mounted and self.is_attached and self.query("#header"):  # a scene may come while the app ends
            with self.app.batch_update():
                self.query_one("#header", Panel).refresh()
                self.show_scene(scene)

    def show_scene(self, scene: Scene) -> None:
        """Bring the screen's own part up to date."""

    def copy_text(self) -> tuple[str, str] | None:
        """What `y` copies, as (what it is, the text); None where there is nothing."""
        return None
