"""The choice of runs to lay over the plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.status import status_of_state
from tui.train.overlays import AT_MOST, Choice
from tui.visible import visible_line


class OverlayChoice(ModalScreen[tuple[str, ...] | None]):
    """Lists the other runs; gives the chosen ids in the order in which they were chosen, None for no change.

    Args:
        choices: the runs, newest first.
        chosen: ids of those that are laid over the plots now.
    """

    TAB = "Overlay"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "choose", "choose", id="overlay.choose", key_display="space",
                tooltip="choose a run, or leave it out again"),
        Binding("enter", "apply", "show", id="overlay.show", key_display="enter", priority=True,
                tooltip="lay the chosen runs over the plots"),
        Binding("c", "clear", "none", id="overlay.none", tooltip="choose none"),
        Binding("escape,q,o", "cancel", "back", id="overlay.back", key_display="esc", tooltip="leave all as it was"),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
    ]

    def __init__(self, choices: Sequence[Choice], chosen: Sequence[str]) -> None:
        super().__init__()
        self._choices = list(choices)
        known = {choice.run_id for choice in choices}
        self._chosen = [run_id for run_id in chosen if run_id in known]

    def compose(self) -> ComposeResult:
        """The list, what is the matter, the keys."""
        keys = [("space", " choose   "), ("enter", " show   "), ("c", " none   "), ("esc", " back")]
        with Vertical(classes="dialog"):
            yield Static(Content.assemble(("Lay other runs over the losses", "bold"),
                                          (f"   up to {AT_MOST}", "$text-muted")))
            yield Static(Content.styled(f"    {'run':<27}  {'state':<11} {'held-out':>8}  started", "$text-muted"),
                         id="overlay-head")
            yield OptionList(*(Option(self._line(choice), id=str(number), disabled=bool(choice.barred))
                               for number, choice in enumerate(self._choices)), markup=False)
            yield Static("", id="overlay-words", markup=False)
            yield Static(Content.assemble(*(part for key, words in keys for part in ((key, "bold $accent"), words))),
                         classes="keys")

    def on_mount(self) -> None:
        """Begin at the first one that can be chosen."""
        self._say("" if self._choices else "There is no other run in this folder.")
        self.query_one(OptionList).focus()
        self.query_one(OptionList).action_first()

    def _line(self, choice: Choice) -> Content:
        status = status_of_state(choice.state)
        box = "[x]" if choice.run_id in self._chosen else "   " if choice.barred else "[ ]"
        words = f"✗ {visible_line(choice.barred)}" if choice.barred else choice.words
        return Content.assemble(
            (box, "bold $accent"), " ", f"{visible_line(choice.name):<27.40}", "  ",
            (f"{status.glyph} {status.word:<9}", status.style), " ", (words, "$text-muted"),
        )

    def _say(self, words: str) -> None:
        self.query_one("#overlay-words", Static).update(words)

    def _at(self) -> Choice | None:
        number = self.query_one(OptionList).highlighted
        return self._choices[number] if number is not None else None

    def action_choose(self) -> None:
        """Choose the run under the cursor, or leave it out."""
        choice = self._at()
        if choice is None or choice.barred:
            return
        if choice.run_id in self._chosen:
            self._chosen.remove(choice.run_id)
        elif len(self._chosen) < AT_MOST:
            self._chosen.append(choice.run_id)
        else:
            self._say(f"{AT_MOST} are chosen already: leave one out first.")
            return
        self._say("")
        self._redraw()

    def _redraw(self) -> None:
        options = self.query_one(OptionList)
        for number, choice in enumerate(self._choices):
            options.replace_option_prompt_at_index(number, self._line(choice))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click chooses."""
        event.stop()
        self.action_choose()

    def action_clear(self) -> None:
        """Choose none."""
        self._chosen.clear()
        self._redraw()

    def action_apply(self) -> None:
        """Close with the choice."""
        self.dismiss(tuple(self._chosen))

    def action_cancel(self) -> None:
        """Close, and change nothing."""
        self.dismiss(None)

    def action_move(self, lines: int) -> None:
        """Move as the arrows do."""
        options = self.query_one(OptionList)
        if lines > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()
