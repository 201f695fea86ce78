"""The line at the bottom: keys that work now. On a narrow terminal the least important go, help and quit never."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

ALWAYS = frozenset({"help", "quit"})
"""Actions whose hint is never left out."""


@dataclass(frozen=True)
class Hint:
    """One entry: the keys as they are written, what they do, and the key that a click presses."""

    keys: str
    words: str
    press: str
    action: str

    @property
    def width(self) -> int:
        """Cells that it takes."""
        return len(self.keys) + len(self.words) + 1


class HintBar(Widget):
    """Key hints of the screen it is on, made from its active bindings."""

    ALLOW_SELECT = False
    GAP = 3

    def on_mount(self) -> None:
        """Follow the bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        self.refresh()

    def _hints(self) -> list[Hint]:
        hints: dict[str, Hint] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if not binding.show or not active.enabled:
                continue
            group = binding.group.description if binding.group else ""
            key = self.app.get_key_display(binding)
            known = hints.get(group or binding.action)
            if known and key not in known.keys.split():
                key = f"{known.keys} {key}"
            hints[group or binding.action] = Hint(
                key, group or binding.description, known.press if known else binding.key,
                binding.action.partition("(")[0].rpartition(".")[2],
            )
        return list(hints.values())

    def _fitting(self) -> list[Hint]:
        hints = self._hints()
        last = [hint for hint in hints if hint.action in ALWAYS]
        room = self.size.width - 2 - sum(hint.width + self.GAP for hint in last)
        shown = []
        for hint in hints:
            if hint.action in ALWAYS:
                continue
            if hint.width > room:
                break
            shown.append(hint)
            room -= hint.width + self.GAP
        return shown + last

    def render(self) -> Content:
        """Keys stand out from words by weight, not by colour alone."""
        parts = [Content.assemble((hint.keys, "bold $footer-key-foreground"), " ", (hint.words, "$footer-foreground"))
                 for hint in self._fitting()]
        return Content.assemble(" ", Content(" " * self.GAP).join(parts))

    def on_click(self, event: events.Click) -> None:
        """Press the key that was clicked."""
        at = 1
        for hint in self._fitting():
            if at <= event.x < at + hint.width:
                self.app.simulate_key(hint.press)
            at += hint.width + self.GAP
