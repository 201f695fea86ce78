"""What the dialogues that ask the workbench for one thing share: how far it is, and the path or the refusal."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.worker import Worker

from core.contract.events import Notice, Progress
from core.contract.workbench import AnyReply, Ended, Refused, Told, Working
from tui.checkpoints.dialogs import key_line
from tui.screens.base import RunScreen
from tui.train.figures import bar_content
from tui.visible import visible, visible_line
from tui.workbench import RequestMaker, Workbench

BAR = 24
"""Cells."""


class FolderSuggester(Suggester):
    """Completes what is typed to the first folder whose path begins so."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The path as it would be typed; folders are listed in a thread."""
        return await asyncio.to_thread(folder_suggestion, value)


def folder_suggestion(value: str) -> str | None:
    """What is typed, completed; hidden folders only where their dot is typed."""
    head, slash, start = value.rpartition("/")
    if not value.strip() or value == "~":
        return None
    try:
        place = Path(head + slash).expanduser()
        names = sorted(entry.name for entry in place.iterdir() if entry.name.startswith(start) and entry.is_dir())
    except (OSError, RuntimeError, ValueError):
        return None
    found = next((name for name in names if name.isprintable() and (start or not name.startswith("."))), None)
    return f"{head}{slash}{found}" if found and found != start else None


class AskingDialog(ModalScreen[str]):
    """Asks for the workbench's work; what is refused can be mended and tried again. Closing it gives the work up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "close", key_display="esc"),
        Binding("enter", "close_finished", "close", show=False),
    ]
    VERTICAL_BREAKPOINTS = RunScreen.VERTICAL_BREAKPOINTS
    KEYS: ClassVar[tuple[tuple[str, str], ...]]
    """What the keys do before the work begins."""

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self._work: Worker[None] | None = None
        self._notices: list[Notice] = []
        self._focus: Widget | None = None
        self.path = ""
        """What was written, once it is done."""

    def compose_outcome(self) -> ComposeResult:
        """What comes of it, keys."""
        with VerticalScroll(can_focus=False, id="checkpoints-outcome"):
            yield Static()
        yield Static(id="checkpoints-keys", classes="keys")

    def on_mount(self) -> None:
        """Nothing has come of it yet."""
        self.tell(Content(""))

    def tell(self, outcome: Content) -> None:
        """Show what came of it so far, under what should be known of it."""
        lines = [notice_line(notice) for notice in self._notices]
        place = self.query_one("#checkpoints-outcome", VerticalScroll)
        place.display = bool(lines or outcome.plain)
        place.query_one(Static).update(Content("\n").join([*lines, outcome] if outcome.plain else lines))
        place.scroll_end(animate=False)
        keys = self.keys_at_end() if self.path else (("esc", "give up"),) if self._work is not None else self.KEYS
        self.query_one("#checkpoints-keys", Static).update(key_line(*keys))

    def keys_at_end(self) -> tuple[tuple[str, str], ...]:
        """What the keys do once it is done."""
        return (("enter", "close"),)

    def ask(self, make: RequestMaker) -> None:
        """Begin; the fields rest until it is refused."""
        self._focus, self._notices = self.focused, []
        self._rest(True)
        self._work = self.run_worker(self._follow(make))
        self.tell(Content.styled("… starting the workbench", "$text-muted"))

    def _rest(self, resting: bool) -> None:
        for widget in (*self.query(Input), *self.query(OptionList)):
            widget.disabled = resting

    async def _follow(self, make: RequestMaker) -> None:
        async with aclosing(self._workbench.ask(make)) as replies:
            async for reply in replies:
                await self._hear(reply)

    async def _hear(self, reply: AnyReply) -> None:
        if isinstance(reply, Ended):
            words = await self.outcome(reply.path)
            self._work, self.path = None, reply.path
            self.tell(words)
        elif isinstance(reply, Refused):
            self._work = None
            self._rest(False)
            if isinstance(self._focus, Input):
                self._focus.select_on_focus = False  # it is to be mended, not typed anew
                self._focus.focus().action_end()
            self.tell(Content.assemble((f"✗ {visible(reply.what)}", "$text-error"),
                                       f"\n  {visible(reply.remedy)}" if reply.remedy else ""))
        elif isinstance(reply, Working):
            self.tell(Content.styled(f"… {visible_line(reply.what)}", "$text-muted"))
        elif isinstance(reply, Told) and isinstance(reply.event, Notice):
            self._notices.append(reply.event)
            self.tell(Content(""))
        elif isinstance(reply, Told) and isinstance(reply.event, Progress):
            self.tell(progress_line(reply.event))

    async def outcome(self, path: str) -> Content:
        """What to say of the path that was written."""
        return Content.styled(f"✓ written to {visible_line(path)}", "bold $text-success")

    def action_close(self) -> None:
        """Close, with nothing to go on with."""
        self.dismiss("")

    def action_close_finished(self) -> None:
        """Enter closes what is done."""
        if self.path:
            self.action_close()


def notice_line(notice: Notice) -> Content:
    """A thing to know, with its remedy."""
    sign, style = ("·", "$text-muted") if notice.level == "info" else ("!", "$text-warning")
    remedy = f"\n  → {visible(notice.remedy)}" if notice.remedy else ""
    return Content.assemble((f"{sign} {visible(notice.what)}", style), remedy)


def progress_line(event: Progress) -> Content:
    """A stage, and where it has several parts a bar and how many are done."""
    if event.total <= 1:
        return Content.styled(f"… {visible_line(f'{event.stage} {event.detail}').rstrip()}", "$text-muted")
    done = f"{event.done:,} of {event.total:,} {visible_line(event.unit)}"
    return Content.assemble((f"… {visible_line(event.stage):<10} ", "$text-muted"),
                            bar_content(min(1.0, event.done / event.total), BAR), f"  {done}")
