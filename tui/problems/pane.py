"""The widget that shows a page: it scrolls, and draws no more than the rows in view."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.timer import Timer
from textual.visual import Visual
from textual.widget import Widget

from tui.problems.page import Blocks, Layout

SHORTEST_INTERVAL = 0.1
"""Seconds between two pages in full while `]` is held down; the list itself moves with every key."""


class PagePane(ScrollView, can_focus=True):
    """Shows blocks, laid out for its width.

    Args:
        grows: whether its height is that of its page, so that another page lays the screen out anew.
    """

    ALLOW_SELECT = True
    DEFAULT_CSS = """
    PagePane { overflow-x: hidden; overflow-y: auto; text-wrap: nowrap; text-overflow: clip; }
    """

    def __init__(self, id: str, *, grows: bool = False) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._grows = grows
        self._blocks: Blocks = ()
        self._layout = Layout((), 1)

    @property
    def room(self) -> int:
        """Cells in a row."""
        return self.scrollable_content_region.width

    def show(self, blocks: Blocks, *, stay: bool = False) -> None:
        """Show a page, from its top or from where the last one was scrolled to."""
        self._blocks = blocks
        self._lay()
        if not stay:
            self.scroll_home(animate=False)

    def on_resize(self) -> None:
        """Rows are longer where there is room."""
        self._lay()

    def _lay(self) -> None:
        self._layout = Layout(self._blocks, max(1, self.room))
        size = Size(self.room, self._layout.height)
        if self._grows:
            self.virtual_size = size
        else:
            self.set_reactive(Widget.virtual_size, size)  # set plainly, it would lay out and repaint the whole screen
            self._scroll_update(size)
        self.refresh()

    def action_scroll_up(self) -> None:
        """One row up; nothing here glides, which costs a screen a frame."""
        self.scroll_relative(y=-1, animate=False)

    def action_scroll_down(self) -> None:
        """One row down."""
        self.scroll_relative(y=1, animate=False)

    def action_page_up(self) -> None:
        """One page up."""
        self.scroll_page_up(animate=False)

    def action_page_down(self) -> None:
        """One page down."""
        self.scroll_page_down(animate=False)

    def action_scroll_home(self) -> None:
        """To the top."""
        self.scroll_home(animate=False)

    def action_scroll_end(self) -> None:
        """To the end."""
        self.scroll_end(animate=False)

    def render_line(self, y: int) -> Strip:
        """One row of the page."""
        at, width = self.scroll_offset.y + y, self.size.width
        if at >= self._layout.height:
            return Strip.blank(width, self.rich_style)
        content = self._selected(self._layout.row(at), at)
        strips = Visual.to_strips(self, content, width, 1, self.visual_style, apply_selection=False, pad=True)
        return strips[0].apply_offsets(0, at)

    def _selected(self, content: Content, at: int) -> Content:
        selection = self.text_selection
        span = selection.get_span(at) if selection is not None else None
        if span is None:
            return content
        style = Style.from_styles(self.screen.get_component_styles("screen--selection"))
        return content.stylize(style, span[0], len(content) if span[1] == -1 else span[1])

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The text that the mouse marked."""
        rows = "\n".join(self._layout.row(y).plain for y in range(self._layout.height))
        return selection.extract(rows), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Paint what is marked now."""
        self.refresh()


class LatestPage(PagePane):
    """A pane for pages that change with the cursor of a list: the newest is shown, not every one on the way."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._state: object = None
        self._about: object = None
        self._shown_at = 0.0
        self._later: Timer | None = None

    def follow(self, state: object, about: object, make: Callable[[], Blocks]) -> None:
        """Show what `make` gives, unless the same `state` is shown; one `about` the same keeps its place."""
        if (state, self.room) == self._state:
            return
        self.show(make(), stay=about is not None and about == self._about)
        self._state, self._about, self._shown_at = (state, self.room), about, monotonic()

    def soon(self, show: Callable[[], None]) -> None:
        """Call `show` now, or in a moment where it was only just called."""
        wait = self._shown_at + SHORTEST_INTERVAL - monotonic()
        if wait <= 0:
            show()
        elif self._later is None:
            self._later = self.set_timer(wait, lambda: self._now(show))

    def _now(self, show: Callable[[], None]) -> None:
        self._later = None
        show()
