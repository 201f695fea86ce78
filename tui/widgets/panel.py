"""A widget of fixed size that shows text; a change repaints it and never lays the screen out again."""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content
from textual.widget import Widget

Painter = Callable[[int, int], Content]
"""Gives the content for a width and a height in cells."""


class Panel(Widget):
    """Shows what its painter gives for the size that it has."""

    auto_links = False  # what can be clicked looks as its painter wants it

    def __init__(self, id: str, title: str = "") -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._painter: Painter = lambda width, height: Content("")
        if title:
            self.border_title = f"[b]{title}[/b]"

    def show(self, painter: Painter) -> None:
        """Paint with this from now on."""
        self._painter = painter
        self.refresh()

    def render(self) -> Content:
        """The painter's content."""
        return self._painter(self.content_size.width, self.content_size.height)
