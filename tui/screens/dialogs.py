"""Small screens over the others: a question, a message, the help, the choice of a theme."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option


class Confirm(ModalScreen[bool]):
    """Asks a question where work would be interrupted or lost: y alone is yes, escape is no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", key_display="y"),
        Binding("n,escape,q", "answer(False)", "no", key_display="n"),
    ]

    def __init__(self, question: str, explanation: str) -> None:
        super().__init__()
        self._question = question
        self._explanation = explanation

    def compose(self) -> ComposeResult:
        """The question, what happens, the keys."""
        keys = Content.assemble(("y", "bold $accent"), " yes    ", ("n", "bold $accent"), " no")
        with Vertical(classes="dialog"):
            yield Static(Content.styled(self._question, "bold"))
            yield Static(self._explanation, markup=False)
            yield Static(keys, classes="keys")

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)


class Message(ModalScreen[None]):
    """Tells something that is too long for a toast."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,space,q", "dismiss", "close", key_display="esc")]

    def __init__(self, title: str, text: str, kind: str = "") -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._kind = kind

    def compose(self) -> ComposeResult:
        """Title, text, the key."""
        with Vertical(classes=f"dialog {self._kind}"):
            yield Static(Content.styled(self._title, "bold"))
            with VerticalScroll():
                yield Static(self._text, markup=False)
            yield Static(Content.assemble(("esc", "bold $accent"), " close"), classes="keys")


HelpGroup = tuple[str, list[tuple[str, str, bool]]]
"""A heading, and (keys, what they do, whether they work now) for each of its lines."""


class Help(ModalScreen[None]):
    """The keys of a screen, made from its bindings.

    Args:
        title: the screen's name.
        groups: what to list; keys that do not work now are dimmed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "close", key_display="esc")
    ]

    def __init__(self, title: str, groups: list[HelpGroup]) -> None:
        super().__init__()
        self._title = title
        self._groups = groups

    def compose(self) -> ComposeResult:
        """One table a group."""
        width = max((len(keys) for _, rows in self._groups for keys, _, _ in rows), default=0)
        lines: list[Content] = []
        for heading, rows in self._groups:
            lines += [Content.styled(heading, "bold $accent")]
            lines += [Content.assemble("  ", (f"{keys:<{width}}", "bold" if works else ""), "  ", words)
                      .stylize("" if works else "$text-disabled dim") for keys, words, works in rows]
            lines += [Content("")]
        with Vertical(classes="dialog help"):
            yield Static(Content.styled(self._title, "bold"))
            with VerticalScroll():
                yield Static(Content("\n").join(lines))
            yield Static(Content.assemble(("esc", "bold $accent"), " close"), classes="keys")


class ThemeChoice(ModalScreen[str]):
    """Lists the themes and shows each one as it is highlighted; enter keeps it, escape goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,T", "back", "back", key_display="esc"),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
    ]

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._names = names
        self._before = ""

    def compose(self) -> ComposeResult:
        """The list, with what the keys do."""
        with Vertical(classes="dialog themes"):
            yield Static(Content.styled("Theme", "bold"))
            yield OptionList(*(Option(Content(name), id=str(number)) for number, name in enumerate(self._names)))
            yield Static(Content.assemble(("enter", "bold $accent"), " keep   ", ("esc", "bold $accent"), " back"),
                         classes="keys")

    def on_mount(self) -> None:
        """Begin at the theme in use."""
        self._before = self.app.theme
        themes = self.query_one(OptionList)
        themes.highlighted = self._names.index(self._before) if self._before in self._names else 0
        themes.focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Try the theme on."""
        self.app.theme = self._names[event.option_index]

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Keep the theme."""
        self.dismiss(self._names[event.option_index])

    def action_move(self, lines: int) -> None:
        """Move as j and k do."""
        themes = self.query_one(OptionList)
        if lines > 0:
            themes.action_cursor_down()
        else:
            themes.action_cursor_up()

    def action_back(self) -> None:
        """Take the theme from before."""
        self.app.theme = self._before
        self.dismiss("")
