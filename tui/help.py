"""The help of a screen, made from its bindings with the user's keys in them, so that it cannot say what is not so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from textual.app import App
from textual.binding import Binding, BindingsMap, Keymap
from textual.screen import Screen

from tui.screens.dialogs import HelpGroup


def help_groups(screen: Screen[Any], name: str, keymap: Keymap) -> list[HelpGroup]:
    """(heading, [(keys, what they do, whether they work now)]): first the screen's own, then those of every screen.

    Args:
        screen: what is shown.
        name: its name, the first heading.
        keymap: keys that the user chose, by the id of a binding.
    """
    active = screen.active_bindings.values()
    working = {one.binding.action for one in active}
    others = [one.binding for one in active if isinstance(one.node, App)]  # the palette's, which Textual binds
    return [
        (name, _rows(screen, _mapped(screen.BINDINGS, keymap), working)),
        ("everywhere", _rows(screen, [*_mapped(screen.app.BINDINGS, keymap), *others], working)),
    ]


def _mapped(bindings: Iterable[Any], keymap: Keymap) -> list[Binding]:
    """Bindings in their order, with the user's keys."""
    result = BindingsMap(bindings)
    result.apply_keymap(keymap)
    order = {binding.action: at for at, binding in reversed(list(enumerate(Binding.make_bindings(bindings))))}
    return sorted((binding for _, binding in result), key=lambda binding: order[binding.action])


def _rows(screen: Screen[Any], bindings: Iterable[Binding], working: set[str]) -> list[tuple[str, str, bool]]:
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
