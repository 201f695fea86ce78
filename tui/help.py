"""The help of a screen, made from its bindings, so that it cannot say what is not so."""

from __future__ import annotations

from textual.app import App

from tui.screens.base import RunScreen

Group = tuple[str, list[tuple[str, str]]]


def help_groups(screen: RunScreen) -> list[Group]:
    """(heading, [(keys, what they do)]): first the screen's own keys, then those of every screen."""
    own: dict[str, tuple[str, str]] = {}
    everywhere: dict[str, tuple[str, str]] = {}
    for active in screen.active_bindings.values():
        if not active.binding.tooltip or active.binding.system:
            continue  # a widget's own keys (arrows in a list) explain themselves; Textual's ctrl keys are not ours
        into = everywhere if isinstance(active.node, App) else own
        key = screen.app.get_key_display(active.binding)
        known = into.get(active.binding.action)
        keys = key if known is None or key in known[0].split() else f"{known[0]} {key}"
        into[active.binding.action] = (keys, active.binding.tooltip)
    return [(screen.TAB, list(own.values())), ("everywhere", list(everywhere.values()))]

