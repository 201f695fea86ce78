"""A framed plot: legend in its upper edge, newest values in its lower one."""

from __future__ import annotations

from time import monotonic

from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from tui.widgets.plot_canvas import MARKS, Picture, draw

ROOMY = 50
"""Columns from which a legend is spaced out."""

SHORTEST_INTERVAL = 0.25
"""Seconds between two drawings of the same plot, however fast the data comes."""


class Plot(Widget):
    """Draws a picture when it is visible and has changed, at most four times a second."""

    ALLOW_SELECT = False

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._picture = Picture()
        self._drawn: tuple[int, int] | None = None
        self._content = Content("")
        self._drawn_at = 0.0
        self._later: Timer | None = None
        self.builds = 0

    def show(self, picture: Picture, values: str = "") -> None:
        """Show a picture; `values` (in Content markup) stands in the lower edge."""
        self.border_subtitle = values
        if picture.same_as(self._picture):
            return
        self._picture = picture
        self.border_title = self._legend(picture)
        self._drawn = None
        self._redraw_soon()

    def _redraw_soon(self) -> None:
        wait = self._drawn_at + SHORTEST_INTERVAL - monotonic()
        if wait <= 0:
            self.refresh()
        elif self._later is None:
            self._later = self.set_timer(wait, self._redraw)

    def _redraw(self) -> None:
        self._later = None
        self.refresh()

    def _legend(self, picture: Picture) -> str:
        gap = "  " if self.size.width >= ROOMY else " "
        marks = gap.join(f"[{trace.style}]{MARKS[trace.glyph]}[/] {trace.name}" for trace in picture.traces)
        scale = f"{gap}[italic]log scale[/]" if picture.logarithmic else ""
        return f"[b]{picture.title}[/b]{gap}{marks}{scale}"

    def on_resize(self) -> None:
        """The legend moves closer together where there is little room."""
        self.border_title = self._legend(self._picture)

    def render(self) -> Content:
        """The plot at the widget's present size; drawn anew only when size or picture changed."""
        size = (self.content_size.width, self.content_size.height)
        recent = monotonic() - self._drawn_at < SHORTEST_INTERVAL
        if self._drawn is None and recent and self._later is not None:
            return self._content  # some other refresh came in between: the timer draws the new picture
        if size != self._drawn:
            self._content = draw(self._picture, *size)
            self._drawn, self._drawn_at = size, monotonic()
            self.builds += 1
        return self._content
