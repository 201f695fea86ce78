"""The Tokens screen: which vocabulary tokens are nearest to each virtual token of a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from core.contract.workbench import InspectTokens, TokensInspected
from tui.checkpoints.catalogue import CheckpointRow
from tui.compare.inquiry import Inquiry, inquire
from tui.compare.tokens import detail, heading, summary, token_line, tokens_text
from tui.screens.base import RunScreen
from tui.visible import visible_line
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.app import SofttuneApp

_MOVE = Binding.Group("move", compact=True)

NEIGHBOURS = 8
"""Asked for; the table shows as many as have room, the lines below it all of one virtual token."""


class TokensScreen(RunScreen):
    """Lists the virtual tokens of one checkpoint."""

    TAB = "Tokens"
    HOME = "Checkpoints"
    CSS_PATH = "tokens.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "move(1)", "down", id="tokens.down", group=_MOVE, tooltip="go to the next virtual token"),
        Binding("down", "move(1)", "down", id="tokens.down", show=False, tooltip="go to the next virtual token"),
        Binding("k", "move(-1)", "up", id="tokens.up", group=_MOVE, tooltip="go to the virtual token before"),
        Binding("up", "move(-1)", "up", id="tokens.up", show=False, tooltip="go to the virtual token before"),
        Binding("pagedown", "move(10)", "ten down", id="tokens.ten_down", key_display="PgDn", show=False,
                tooltip="go ten virtual tokens down"),
        Binding("pageup", "move(-10)", "ten up", id="tokens.ten_up", key_display="PgUp", show=False,
                tooltip="go ten virtual tokens up"),
        Binding("r", "ask_again", "try again", id="tokens.again", tooltip="ask the workbench once more"),
        Binding("escape", "back", "back", id="tokens.back", key_display="esc", tooltip="back to where this came from"),
    ]

    def __init__(self, row: CheckpointRow) -> None:
        super().__init__()
        self.row = row
        self.inquiry = Inquiry()
        self._at = 0

    @property
    def softtune(self) -> SofttuneApp:
        """The app, which has the workbench."""
        from tui.app import SofttuneApp

        assert isinstance(self.app, SofttuneApp)
        return self.app

    @property
    def found(self) -> TokensInspected | None:
        """The answer, once it is there."""
        return self.inquiry.answer if isinstance(self.inquiry.answer, TokensInspected) else None

    def compose_body(self) -> ComposeResult:
        """Whose tokens, the table under its head, one token in full."""
        yield Panel("tokens-whose")
        yield Panel("tokens-head")
        yield Static(id="tokens-asking", markup=False)
        yield OptionList(id="tokens-list")
        yield Panel("tokens-detail")

    def on_mount(self) -> None:
        """Ask."""
        self.scene = self.softtune.scene
        self.query_one("#tokens-list").can_focus = False  # the keys are the screen's, so that the hints have them
        self.query_one("#tokens-whose", Panel).show(self._whose)
        self.query_one("#tokens-head", Panel).show(lambda width, height: heading(width) if self.found else Content(""))
        self.query_one("#tokens-detail", Panel).show(self._detail)
        self._ask()

    def _whose(self, width: int, height: int) -> Content:
        name = Content.assemble(" ", visible_line(self.row.run.run_id), "  ", (visible_line(self.row.name), "bold"))
        lines = [name] + ([summary(self.found)] if self.found else [])
        return Content("\n").join(line.truncate(width, ellipsis=True) for line in lines)

    def _detail(self, width: int, height: int) -> Content:
        found = self.found
        return detail(self._at, found.tokens[self._at], height, width) if found and found.tokens else Content("")

    def _ask(self) -> None:
        path = str(self.row.path)
        self.run_worker(inquire(
            self.softtune.workbench,
            lambda number: InspectTokens(id=number, checkpoint=path, neighbours=NEIGHBOURS), self._heard,
        ), group="tokens", exclusive=True)

    def _heard(self, inquiry: Inquiry) -> None:
        self.inquiry = inquiry
        asking = self.query_one("#tokens-asking", Static)
        asking.display = self.found is None
        asking.update(inquiry.words())
        self._show_tokens()
        self.refresh_bindings()

    def on_resize(self) -> None:
        """There is room for more neighbours, or for fewer."""
        self.call_after_refresh(self._show_tokens)

    def _show_tokens(self) -> None:
        tokens, found = self.query_one("#tokens-list", OptionList), self.found
        tokens.display = self.query_one("#tokens-detail").display = found is not None
        for name in ("#tokens-whose", "#tokens-head", "#tokens-detail"):
            self.query_one(name, Panel).refresh()
        if found is None:
            return
        at = self._at
        if tokens.option_count != len(found.tokens):
            tokens.clear_options()
            tokens.add_options(Option(self._line(number), id=str(number)) for number in range(len(found.tokens)))
            tokens.highlighted = at if at < len(found.tokens) else 0 if found.tokens else None
        else:
            for number in range(len(found.tokens)):
                tokens.replace_option_prompt(str(number), self._line(number))

    def _line(self, number: int) -> Content:
        found = self.found
        assert found is not None
        width = self.query_one("#tokens-list").scrollable_content_region.width or self.size.width - 3
        return token_line(number, found.tokens[number], found.vocabulary_norm, width, number == self._at)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show the token under the cursor in full."""
        before, self._at = self._at, event.option_index
        for changed in {before, self._at}:
            event.option_list.replace_option_prompt(str(changed), self._line(changed))
        self.query_one("#tokens-detail", Panel).refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is something to ask again when it was refused, and to move in when there are tokens."""
        if action == "ask_again":
            return self.inquiry.refused
        return self.found is not None if action == "move" else True

    def copy_text(self) -> tuple[str, str] | None:
        """The table."""
        found = self.found
        if found is None:
            return None
        return f"the virtual tokens of {self.row.name}", tokens_text(found.tokens, found.vocabulary_norm)

    def action_move(self, lines: int) -> None:
        """Move the cursor by virtual tokens."""
        tokens = self.query_one("#tokens-list", OptionList)
        if tokens.option_count:
            tokens.highlighted = max(0, min(tokens.option_count - 1, (tokens.highlighted or 0) + lines))

    def action_ask_again(self) -> None:
        """Ask once more."""
        self._ask()

    def action_back(self) -> None:
        """Back to where this came from."""
        self.dismiss()
