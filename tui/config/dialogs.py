"""The Config screen's own dialogs: a question with several answers, and the choice of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from core.contract.presets import PRESETS, Preset
from tui.config.facts import Machine
from tui.config.fields import SETTINGS, same, shown
from tui.config.form import Values
from tui.formatting import data_size
from tui.screens.base import RunScreen
from tui.visible import visible_line

CHANGES_SHOWN, CHANGES_SHOWN_SHORT = 8, 5
"""Settings that a preset's preview lists, where there is room and where there is little."""


class Question(ModalScreen[str]):
    """Asks something that has more answers than yes and no; escape gives "".

    Args:
        question: one line.
        explanation: what each answer does.
        answers: what each key says; the key is the answer.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "answer('')", "cancel", key_display="esc")]

    def __init__(self, question: str, explanation: str, answers: Mapping[str, str]) -> None:
        super().__init__()
        self._question = question
        self._explanation = explanation
        self._answers = answers

    def compose(self) -> ComposeResult:
        """The question, what happens, the keys."""
        keys = [Content.assemble((key, "bold $accent"), f" {words}") for key, words in self._answers.items()]
        keys.append(Content.assemble(("esc", "bold $accent"), " cancel"))
        with Vertical(classes="dialog"):
            yield Static(Content.styled(self._question, "bold"))
            yield Static(self._explanation, markup=False)
            yield Static(Content("   ").join(keys), classes="keys")

    def on_key(self, event: events.Key) -> None:
        """An answer's key."""
        if event.key in self._answers:
            event.stop()
            self.dismiss(event.key)

    def action_answer(self, answer: str) -> None:
        """Close with an answer."""
        self.dismiss(answer)


class PresetChoice(ModalScreen[Preset | None]):
    """Lists the presets with what each would change; enter takes one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,p", "back", "back", key_display="esc"),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
    ]

    VERTICAL_BREAKPOINTS = RunScreen.VERTICAL_BREAKPOINTS

    def __init__(self, values: Values, machine: Machine) -> None:
        super().__init__()
        self._values = values
        self._machine = machine

    def compose(self) -> ComposeResult:
        """The list, what would change, the keys."""
        width = max(len(preset.name) for preset in PRESETS)
        with Vertical(classes="dialog presets"):
            yield Static(Content.styled("Presets", "bold"))
            yield Static(self._machine_words(), markup=False, classes="config-preset-machine")
            yield OptionList(*(Option(self._line(preset, width), id=str(number))
                               for number, preset in enumerate(PRESETS)))
            yield Static(id="config-preset-changes", markup=False)
            yield Static(Content.assemble(("enter", "bold $accent"), " take it, u undoes   ",
                                          ("esc", "bold $accent"), " back"), classes="keys")

    def _machine_words(self) -> Content:
        gpu, memory = self._machine.gpu, self._machine.gpu_memory
        if not memory:
            return Content.styled("no GPU was found on this machine", "$text-muted")
        return Content.styled(f"{visible_line(gpu)}, {data_size(memory)}: ✓ suits it", "$text-muted")

    def _line(self, preset: Preset, width: int) -> Content:
        suits = self._machine.gpu_memory > 0 and preset.suits(self._machine.gpu_memory)
        return Content.assemble(("✓ " if suits else "  ", "bold $text-success"), f"{preset.name:<{width}}  ",
                                (preset.purpose, "$text-muted"))

    def on_mount(self) -> None:
        """Begin at the one for this GPU."""
        presets = self.query_one(OptionList)
        suits = (at for at, preset in enumerate(PRESETS) if preset.suits(self._machine.gpu_memory))
        presets.highlighted = next(suits, 0) if self._machine.gpu_memory else 0
        presets.focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show what would change."""
        lines = preset_changes(PRESETS[event.option_index], self._values)
        room = CHANGES_SHOWN_SHORT if self.has_class("-short") else CHANGES_SHOWN
        if len(lines) > room:
            lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more"]
        text = "\n".join(lines) or "changes nothing: these are the settings as they stand"
        self.query_one("#config-preset-changes", Static).update(Content(text))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take it."""
        self.dismiss(PRESETS[event.option_index])

    def action_move(self, lines: int) -> None:
        """Move as j and k do."""
        presets = self.query_one(OptionList)
        if lines > 0:
            presets.action_cursor_down()
        else:
            presets.action_cursor_up()

    def action_back(self) -> None:
        """Change nothing."""
        self.dismiss(None)


def preset_changes(preset: Preset, values: Values) -> list[str]:
    """A line for each setting that a preset would change."""
    return [f"{name}  {visible_line(shown(values[name]))} → {visible_line(shown(value))}"
            for name, value in preset.changes.items() if name in SETTINGS and not same(values[name], value)]
