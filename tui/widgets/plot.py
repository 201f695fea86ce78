"""A framed plot: legend in its upper edge, newest values in its lower one."""

from __future__ import annotations

from time import monotonic

from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from tui.widgets.plot_canvas import CURSOR, Drawing, Picture, drawing

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
        self._values = ""
        self._drawn: tuple[int, int] | None = None
        self._drawing = Drawing(Content(""))
        self._drawn_at = 0.0
        self._later: Timer | None = None
        self.builds = 0

    def show(self, picture: Picture, values: str = "", at_once: bool = False) -> None:
        """Show a picture.

        Args:
            picture: what to draw; one that differs in its cursor or spot alone needs no new drawing.
            values: stands in the lower edge, in Content markup.
            at_once: a key asked for it, so that it does not wait for its turn.
        """
        if values != self._values:
            self._values = self.border_subtitle = values
        before, self._picture = self._picture, picture
        if not picture.same_as(before):
            self.border_title = self._legend(picture)
            self._drawn = None
            self._redraw_soon(at_once)
        elif (picture.cursor, picture.spot) != (before.cursor, before.spot):
            self.border_title = self._legend(picture)
            self.refresh()

    def _redraw_soon(self, at_once: bool) -> None:
        wait = 0.0 if at_once else self._drawn_at + SHORTEST_INTERVAL - monotonic()
        if wait <= 0:
            if self._later is not None:
                self._later.stop()
                self._later = None
            self.refresh()
        elif self._later is None:
            self._later = self.set_timer(wait, self._redraw)

    def _redraw(self) -> None:
        self._later = None
        self.refresh()

    def _legend(self, picture: Picture) -> Content:
        full = self._signs(picture, letters_alone=False)
        return full if full.cell_length <= self.size.width - 4 else self._signs(picture, letters_alone=True)

    def _signs(self, picture: Picture, letters_alone: bool) -> Content:
        """Title, signs and names; with `letters_alone` without the names of traces that have a letter."""
        parts = [Content.styled(picture.title, "bold")]
        for trace in picture.traces:
            if trace.name:
                name = "" if letters_alone and trace.mark else f" {trace.name}"
                parts.append(Content.assemble((trace.sign, trace.style), name))
        if picture.cursor is not None:
            parts.append(Content(f"{CURSOR} step {picture.cursor:,.0f}"))
        if picture.logarithmic:
            parts.append(Content.styled("log scale", "italic"))
        return Content("  " if self.size.width >= ROOMY else " ").join(parts)

    def on_resize(self) -> None:
        """The legend moves closer together where there is little room."""
        self.border_title = self._legend(self._picture)

    def render(self) -> Content:
        """The plot at the widget's present size; drawn anew only when size or picture changed."""
        size = (self.content_size.width, self.content_size.height)
        # Some other refresh may come while a drawing waits for its turn: the timer makes that one.
        waiting = self._drawn is None and self._later is not None
        if size != self._drawn and not waiting:
            self._drawing = drawing(self._picture, *size)
            self._drawn, self._drawn_at = size, monotonic()
            self.builds += 1
        if self._picture.spot is not None:
            return self._drawing.with_spot(self._picture.spot, self._picture.logarithmic)
        return self._drawing.with_cursor(self._picture.cursor)
