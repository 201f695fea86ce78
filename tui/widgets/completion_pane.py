"""A pane that completes a prompt: text that is followed at its end until the user scrolls up, and a footer."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer
from textual.visual import Visual

from tui.playground.completion import Completion, Phase, asked, footer, heard, notes, stopped
from tui.playground.rows import FEW_PROMPT_LINES, PROMPT_LINES, GrowingRows
from tui.widgets.panel import Panel
from tui.workbench import RequestMaker, Workbench

if TYPE_CHECKING:
    from textual.worker import WorkType

SHORTEST_INTERVAL = 0.1
"""Seconds between two paintings of a pane, however fast the tokens come."""

PAUSE_TO_PAINTING = 8
"""How much longer the pause is than the painting before it, so that painting long text leaves time for keys."""

ROOMY, HIGH = 66, 14
"""Cells from which the footer needs one line only, and rows from which there is room for some of the prompt."""


class CompletionText(ScrollView, can_focus=True):
    """Rows of text; only those in view are drawn."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "both panes", id="playground.leave_pane", key_display="esc", show=False,
                tooltip="go from one pane to the keys of the screen"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Content] = []
        self._follows = True

    @property
    def room(self) -> int:
        """Cells that a row may have."""
        return self.scrollable_content_region.width

    def show(self, rows: list[Content], anew: bool) -> None:
        """Show these rows; `anew` begins at the top and follows the end again."""
        self._rows = rows
        self.virtual_size = Size(self.room, len(rows))
        if anew:
            self._follows = True
            self.scroll_home(animate=False, immediate=True)
        self.refresh()
        self._keep_following()

    def on_resize(self) -> None:
        """The end is elsewhere."""
        self._keep_following()

    def _keep_following(self) -> None:
        if self._follows:
            self.call_after_refresh(self.scroll_end, animate=False)

    def watch_scroll_target_y(self, target: float) -> None:
        """Only scrolling moves the target, growing and resizing do not."""
        self._follows = target >= self.max_scroll_y

    def render_line(self, y: int) -> Strip:
        """One row in view."""
        at, width = self.scroll_offset.y + y, self.size.width
        if at >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        strips = Visual.to_strips(self, self._rows[at], width, 1, self.visual_style, pad=True)
        return strips[0].crop_extend(0, width, self.rich_style) if strips else Strip.blank(width, self.rich_style)

    def action_leave(self) -> None:
        """Give the keys back to the screen."""
        self.screen.set_focus(None)


class CompletionPane(Vertical):
    """Asks for one completion at a time and shows it, repainted at most ten times a second.

    Args:
        id: the widget's.
    """

    class Changed(Message):
        """A completion began, or is over."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self.completion = Completion()
        self._idle = Content("")
        self._rows = GrowingRows()
        self._painted: Completion | None = None
        self._painted_at = 0.0
        self._pause = 0.0
        self._later: Timer | None = None

    def compose(self) -> ComposeResult:
        """Text above footer."""
        yield CompletionText()
        yield Panel(f"{self.id}-footer")

    def on_mount(self) -> None:
        """The footer paints from the newest state."""
        self._footer.show(lambda width, height: footer(self.completion, monotonic()))

    @property
    def _footer(self) -> Panel:
        return self.query_one(Panel)

    @property
    def text(self) -> CompletionText:
        """The part that scrolls."""
        return self.query_one(CompletionText)

    def ask(self, prompt: str, make: RequestMaker, workbench: Workbench) -> None:
        """Complete a prompt, instead of what is being completed."""
        self._take(asked(prompt, monotonic()))
        work: WorkType[None] = partial(self._hear, make, workbench)
        self.run_worker(work, group="completion", exclusive=True)

    async def _hear(self, make: RequestMaker, workbench: Workbench) -> None:
        async for reply in workbench.ask(make):
            self._take(heard(self.completion, reply, monotonic()))

    def stop(self) -> None:
        """Stop; leaving the replies cancels the request, and what is there stays."""
        self.workers.cancel_group(self, "completion")
        self._take(stopped(self.completion, monotonic()))

    def clear(self) -> None:
        """Stop, and show what an idle pane shows."""
        self.stop()
        self._take(Completion())

    def show_idle(self, idle: Content) -> None:
        """Show this while there is no completion."""
        self._idle = idle
        self._paint_soon()

    def _take(self, completion: Completion) -> None:
        before, self.completion = self.completion, completion
        self._paint_soon()
        if before.underway != completion.underway:
            self.post_message(self.Changed())

    def _paint_soon(self) -> None:
        wait = self._painted_at + self._pause - monotonic()
        if wait <= 0:
            self._paint()
        elif self._later is None:
            self._later = self.set_timer(wait, self._paint_later)

    def tick(self) -> None:
        """The footer says how long it has been going on."""
        if self.completion.underway:
            self._footer.refresh()

    def on_resize(self) -> None:
        """Rows are folded anew."""
        self.set_class(self.size.width < ROOMY, "-tight")
        self.call_after_refresh(self._paint)

    def _paint_later(self) -> None:
        self._later = None
        self._paint()

    def _paint(self) -> None:
        width = self.text.room
        if not self.is_mounted or width <= 0:
            return  # a hidden pane is painted when it gets a size
        began = monotonic()
        completion, before = self.completion, self._painted
        anew = before is None or before.began != completion.began
        self.text.show(self._content(completion, width), anew)
        self._footer.refresh()
        self._painted, self._painted_at = completion, monotonic()
        self._pause = max(SHORTEST_INTERVAL, PAUSE_TO_PAINTING * (self._painted_at - began))

    def _content(self, completion: Completion, width: int) -> list[Content]:
        told = [self._idle] if completion.phase is Phase.IDLE else notes(completion)
        below = [row for line in told for row in line.wrap(width)]
        if completion.phase is Phase.IDLE:
            return below
        lines = PROMPT_LINES if self.size.height >= HIGH else FEW_PROMPT_LINES
        self._rows.show(completion.prompt, completion.text, width, lines)
        return [*self._rows.rows, *below]
