"""The help of a screen, made from its bindings, so that it cannot say what is not so."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import App
from textual.binding import Binding

from tui.screens.base import RunScreen
from tui.screens.dialogs import HelpGroup


def help_groups(screen: RunScreen) -> list[HelpGroup]:
    """(heading, [(keys, what they do, whether they work now)]): first the screen's own, then those of every screen."""
    active = screen.active_bindings.values()
    working = {one.binding.action for one in active}
    others = [one.binding for one in active if isinstance(one.node, App)]  # the palette's, which Textual binds
    return [
        (screen.TAB, _rows(screen, Binding.make_bindings(screen.BINDINGS), working)),
        ("everywhere", _rows(screen, [*Binding.make_bindings(screen.app.BINDINGS), *others], working)),
    ]


def _rows(screen: RunScreen, bindings: Iterable[Binding], working: set[str]) -> list[tuple[str, str, bool]]:
    rows: dict[str, tuple[str, str, bool]] = {}
    for binding in bindings:
        action = binding.action
        if not binding.tooltip or binding.system:
            continue  # a widget's own keys (arrows in a list) explain themselves; Textual's ctrl keys are not ours
        key = screen.app.get_key_display(binding)
        known = rows[action][0] if action in rows else ""
        keys = known if key in known.split() else f"{known} {key}".strip()
        rows[action] = (keys, binding.tooltip, action in working)
    return list(rows.values())
