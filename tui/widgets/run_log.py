"""The log of a run: readable lines, followed at the end until the user scrolls up."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui.formatting import clock_time
from tui.log_lines import GLYPHS, LogLine

_STYLES = {"plain": "$text-muted", "good": "$text-success", "warning": "$text-warning", "bad": "$text-error"}


FOLLOWS = "follows"
SCROLLED = "scrolled up: [bold]f[/] follows again"


class RunLog(VerticalScroll):
    """Shows log lines; each with its time, a sign for its kind, and what to do about it."""

    BORDER_TITLE = "[b]log[/b]"

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._lines: tuple[LogLine, ...] | None = None
        self._ending = ""
        self._text = Static("", markup=False)
        self._follows = True
        self.border_subtitle = FOLLOWS

    def compose(self) -> ComposeResult:
        """One text that wraps to the width."""
        yield self._text

    def show(self, lines: tuple[LogLine, ...], ending: Content | None = None) -> None:
        """Show these lines, then `ending`; stays at the end if it was there."""
        if lines is self._lines and self._ending == (ending.plain if ending else ""):
            return
        self._lines, self._ending = lines, ending.plain if ending else ""
        parts = [log_content(line) for line in lines]
        self._text.update(Content("\n").join([*parts, ending] if ending else parts))
        self._keep_following()

    def on_resize(self) -> None:
        """Lines wrap anew, so that the end is elsewhere."""
        self._keep_following()

    def _keep_following(self) -> None:
        if self._follows:
            self.call_after_refresh(self.scroll_end, animate=False)

    def scroll_pages(self, pages: int) -> None:
        """Scroll by whole pages; at the end the log follows again."""
        self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._follows = True
        self.scroll_end(animate=False)
        self._say_where()

    def watch_scroll_target_y(self, target: float) -> None:
        """Only scrolling moves the target, growing and resizing do not: at the end the log follows, above it stays."""
        follows = target >= self.max_scroll_y
        if follows != self._follows:
            self._follows = follows
            self._say_where()

    def _say_where(self) -> None:
        self.border_subtitle = FOLLOWS if self._follows else SCROLLED


def log_content(line: LogLine) -> Content:
    """One line: "22:10:04 ✓ text → remedy"."""
    style = _STYLES[line.kind]
    text_style = style if line.kind in ("warning", "bad") else ""
    clock = clock_time(line.time, seconds_too=True)
    remedy = Content.styled(f"  → {line.remedy}", "italic") if line.remedy else Content("")
    return Content.assemble((clock, "$text-muted"), " ", (GLYPHS[line.kind], f"bold {style}"), " ",
                            (line.text, text_style), remedy)
