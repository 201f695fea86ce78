"""The Playground's small screens: a list to choose from by typing, and the form of the options."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.playground.checkpoints import CheckpointFile
from tui.playground.options import FIELDS, Options
from tui.problems.files import Problem, ProblemFiles
from tui.visible import visible_line
from tui.widgets.field import Field


@dataclass(frozen=True)
class Entry:
    """One line to choose; `words` is what typing finds it by."""

    line: Content
    words: str


def checkpoint_entries(files: Sequence[CheckpointFile]) -> list[Entry]:
    """Checkpoints with their name, their run, and when they were written."""
    rows = [(file.name, file.run_id) if file.run_id else ("published", str(file.path)) for file in files]
    dates = [time.strftime("%b %d %H:%M", time.localtime(file.written)) for file in files]
    return _in_columns([(name, place, date) for (name, place), date in zip(rows, dates, strict=True)],
                       ("bold", "", "$text-muted"))


def problem_entries(files: ProblemFiles) -> list[Entry]:
    """Problems with their function and the side of the split that they are on."""
    return _in_columns([(problem.task_id, problem.entry_point, side_of(problem, files)) for problem in files.problems],
                       ("", "bold", "$text-muted"))


def _in_columns(rows: Sequence[tuple[str, ...]], styles: tuple[str, ...]) -> list[Entry]:
    shown = [tuple(map(visible_line, row)) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    return [
        Entry(Content("  ").join(
            Content.styled(cell + " " * (width - cell_len(cell)), style)
            for cell, width, style in zip(row, widths, styles, strict=True)
        ), " ".join(row))
        for row in shown
    ]


def side_of(problem: Problem, files: ProblemFiles) -> str:
    """"train", "held-out" or ""."""
    kind = files.split.kind(problem.task_id) if files.split else ""
    return {"heldout": "held-out"}.get(kind, kind)


class Choose(ModalScreen[int]):
    """Lists entries; typing narrows the list down, enter gives the entry's position, escape gives None.

    Args:
        title: what is chosen.
        entries: what there is.
        at: the position of the entry to begin on.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", key_display="esc"),
        Binding("up", "move('cursor_up')", "up", show=False),
        Binding("down", "move('cursor_down')", "down", show=False),
        Binding("pageup", "move('page_up')", "a page up", show=False),
        Binding("pagedown", "move('page_down')", "a page down", show=False),
    ]

    def __init__(self, title: str, entries: Sequence[Entry], at: int = 0) -> None:
        super().__init__()
        self._title = title
        self._entries = entries
        self._start = at
        self._fitting: list[int] = []
        self._marked: int | None = None

    def compose(self) -> ComposeResult:
        """What to type, the list, what the keys do."""
        keys = Content.assemble("type to search   ", ("↑ ↓", "bold $accent"), " move   ", ("enter", "bold $accent"),
                                " choose   ", ("esc", "bold $accent"), " back")
        with Vertical(classes="dialog playground-choice"):
            yield Static(Content.styled(self._title, "bold"))
            yield Field(placeholder="words to look for", compact=True)
            yield OptionList()
            yield Static(keys, classes="keys")

    def on_mount(self) -> None:
        """Begin at the entry in use."""
        self._list.can_focus = False  # keys go to the search, which hands on those that move
        self._narrow("")
        if self._start in self._fitting:
            self._list.highlighted = self._fitting.index(self._start)
        self.query_one(Input).focus()

    @property
    def _list(self) -> OptionList:
        return self.query_one(OptionList)

    def _narrow(self, words: str) -> None:
        wanted = words.casefold().split()
        self._fitting = [at for at, entry in enumerate(self._entries)
                         if all(word in entry.words.casefold() for word in wanted)]
        self._marked = None
        self._list.clear_options()
        self._list.add_options(Option(self._line(at, False), id=str(at)) for at in self._fitting)
        if self._fitting:
            self._list.highlighted = 0
        else:
            self._list.add_option(Option(Content.styled("  nothing fits", "$text-muted italic"), disabled=True))

    def _line(self, at: int, here: bool) -> Content:
        return Content.assemble(("▸ " if here else "  ", "bold $text-accent"), self._entries[at].line)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the list down."""
        self._narrow(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Choose what the cursor is on."""
        at = self._list.highlighted
        if at is not None and at < len(self._fitting):
            self.dismiss(self._fitting[at])

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Move the cursor's sign."""
        for at, here in ((self._marked, False), (int(event.option_id or 0), True)):
            if at is not None and at in self._fitting:
                self._list.replace_option_prompt(str(at), self._line(at, here))
        self._marked = int(event.option_id or 0)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click chooses too."""
        self.dismiss(int(event.option_id or 0))

    def action_move(self, action: str) -> None:
        """Move in the list while typing."""
        getattr(self._list, f"action_{action}")()

    def action_back(self) -> None:
        """Choose nothing."""
        self.dismiss(None)


class OptionsForm(ModalScreen[Options]):
    """How to complete: each option with what it may be, checked as it is typed; escape gives None.

    Args:
        options: those to begin with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", key_display="esc"),
        Binding("up", "app.focus_previous", "up", show=False),
        Binding("down", "app.focus_next", "down", show=False),
    ]

    def __init__(self, options: Options) -> None:
        super().__init__()
        self._options = options
        self._values: dict[str, Any] = {}

    def compose(self) -> ComposeResult:
        """A line for each option, what is wrong with it below; then what the one with the cursor does."""
        keys = Content.assemble(("↑ ↓", "bold $accent"), " move   ", ("enter", "bold $accent"), " keep   ",
                                ("esc", "bold $accent"), " back")
        with Vertical(classes="dialog playground-options"):
            yield Static(Content.styled("How to complete", "bold"))
            with VerticalScroll(can_focus=False):
                for field in FIELDS:
                    with Horizontal():
                        yield Static(field.name.replace("_", " "), classes="playground-label", markup=False)
                        yield Field(field.shown(self._options), id=field.name, compact=True)
                    yield Static(id=f"{field.name}-fault", classes="playground-fault")
            yield Static(id="playground-help")
            yield Static(keys, classes="keys")

    def on_mount(self) -> None:
        """Begin on the first option."""
        for field in FIELDS:
            self._check(field.name)
        self.query_one(Input).focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Tell what the option does."""
        for line in self.query(Horizontal):
            line.set_class(event.widget in line.children, "-here")
        helps = {field.name: field.help for field in FIELDS}
        self.query_one("#playground-help", Static).update(
            Content.styled(helps.get(event.widget.id or "", ""), "$text-muted italic"))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check as it is typed."""
        self._check(str(event.input.id))

    def _check(self, name: str) -> None:
        field = next(field for field in FIELDS if field.name == name)
        fault = self.query_one(f"#{name}-fault", Static)
        self._values.pop(name, None)
        try:
            self._values[name] = field.parsed(self.query_one(f"#{name}", Input).value)
        except ValueError as error:
            fault.update(Content.styled(f"✗ {visible_line(str(error))}", "$text-error"))
        fault.display = name not in self._values

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the options, or go to the first that is wrong."""
        wrong = [field.name for field in FIELDS if field.name not in self._values]
        if wrong:
            self.query_one(f"#{wrong[0]}", Input).focus()
        else:
            self.dismiss(replace(self._options, **self._values))

    def action_back(self) -> None:
        """Keep what was."""
        self.dismiss(None)
