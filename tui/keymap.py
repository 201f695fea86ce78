"""Keys that a user chose: `keymap.yml` in the config folder, one `binding: keys` line for each that is changed."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from textual.binding import Binding
from textual.keys import KEY_DISPLAY_ALIASES, Keys
from textual.widget import Widget

import tui
from core.contract.files import write_whole

FILE = "keymap.yml"
MODIFIERS = frozenset({"ctrl", "alt", "shift"})
_NAMED = frozenset({key.value for key in Keys} | set(KEY_DISPLAY_ALIASES))

Group = tuple[str, list[Binding]]
"""Where bindings work together ("everywhere", or a screen's class), and those that have an id."""


def load_keymap(folder: Path, app_bindings: Iterable[Any]) -> tuple[dict[str, str], list[str]]:
    """(binding id → comma-separated keys, a sentence for each line that cannot be used); both empty without a file.

    Args:
        folder: the user's config folder.
        app_bindings: the BINDINGS of the app.
    """
    path = folder / FILE
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return {}, [f"{FILE} cannot be read: {' '.join(str(error).split())}"]
    if value is None:
        return {}, []
    if not isinstance(value, dict):
        return {}, [f"{FILE}: lines such as `train.start: s` are expected"]
    groups = bindings_by_place(app_bindings)
    known = {str(binding.id): binding for _, bindings in groups for binding in bindings}
    key_names = _NAMED | {binding.key for _, bindings in groups for binding in bindings}
    keymap: dict[str, str] = {}
    faults: list[str] = []
    for name, keys in value.items():
        fault = _fault(str(name), keys, known, key_names)
        if fault:
            faults.append(f"{FILE}: {fault}")
        else:
            keymap[str(name)] = ",".join(map(_key_name, _listed(keys)))
    for name, fault in list(_clashes(keymap, groups)):
        keymap.pop(name, None)
        faults.append(f"{FILE}: {fault}")
    return keymap, faults


def bindings_by_place(app_bindings: Iterable[Any]) -> list[Group]:
    """Every binding that has an id: the app's, then those of each screen, dialog and widget."""
    groups: list[Group] = [("everywhere", _with_id(app_bindings))]
    for module in pkgutil.walk_packages(tui.__path__, "tui."):
        if module.name == "tui.__main__":
            continue
        for name, item in vars(importlib.import_module(module.name)).items():
            if isinstance(item, type) and issubclass(item, Widget) and item.__module__ == module.name:
                own = _with_id(item.__dict__.get("BINDINGS", []))
                if own:
                    groups.append((name, own))
    return groups


def write_template(folder: Path, app_bindings: Iterable[Any]) -> Path:
    """Write a keymap file in which every binding stands as a comment; one that is there already stays as it is.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / FILE
    if path.exists():
        return path
    lines = ["# Keys of softtune. Take the # away from a line and change its keys; several are separated by commas.",
             "# softtune reads this file when it starts, and names what it cannot use.", ""]
    for place, bindings in bindings_by_place(app_bindings):
        keys: dict[str, list[Binding]] = {}
        for binding in bindings:
            keys.setdefault(str(binding.id), []).append(binding)
        lines += [f"# {place}", *(
            f"# {name}: \"{','.join(binding.key for binding in same)}\"  # {same[0].tooltip or same[0].description}"
            for name, same in keys.items()), ""]
    write_whole(path, "\n".join(lines))
    return path


def _with_id(bindings: Iterable[Any]) -> list[Binding]:
    return [binding for binding in Binding.make_bindings(bindings) if binding.id]


def _listed(keys: Any) -> list[str]:
    """The keys of a line: a list, or text with commas ("," alone is the comma)."""
    if isinstance(keys, list):
        return [str(key) for key in keys]
    text = str(keys)
    return [text] if text == "," else [key.strip() for key in text.split(",") if key.strip()]


def _key_name(key: str) -> str:
    """Textual's name of a key: "question_mark" for "?"."""
    return next(iter(Binding.make_bindings([Binding(key, "")]))).key if len(key) == 1 and key != "," else key


def _fault(name: str, keys: Any, known: dict[str, Binding], key_names: frozenset[str]) -> str:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "`:` writes a file with all of them"
        return f"there is no binding {name}; {hint}"
    if isinstance(keys, bool) or not isinstance(keys, (str, int, list)) or not _listed(keys):
        return f"{name}: a key is expected, as in `{name}: {known[name].key}` (quote y, n, on and off)"
    for key in _listed(keys):
        *modifiers, last = key.split("+") if len(key) > 1 else [key]
        if set(modifiers) - MODIFIERS or not (len(last) == 1 or last in key_names):
            return f"{name}: there is no key {key!r}; keys are single characters, or names such as space, f5, pageup"
    return ""


def _clashes(keymap: dict[str, str], groups: list[Group]) -> Iterable[tuple[str, str]]:
    """(binding, sentence) for each changed key that something else has in the same place, or everywhere.

    Two bindings that share a key by default may share another one: only one of them works at a time.
    """
    everywhere = groups[0][1]
    defaults: dict[str, set[str]] = {}
    for _, bindings in groups:
        for binding in bindings:
            defaults.setdefault(str(binding.id), set()).add(binding.key)
    told: set[str] = set()
    for place, bindings in groups:
        here = bindings if place == "everywhere" else [*bindings, *everywhere]
        holders: dict[str, set[str]] = {}
        for binding in here:
            for key in keymap.get(str(binding.id), binding.key).split(","):
                holders.setdefault(key, set()).add(str(binding.id))
        own = {str(binding.id) for binding in bindings}
        for key, names in holders.items():
            changed = sorted(names & own & set(keymap) - told)
            twins = set.intersection(*(defaults[name] for name in names))  # such as pause and resume, both on space
            if changed and len(names) > 1 and not twins:
                told.update(changed)
                others = ", ".join(sorted(names - {changed[0]}))
                yield changed[0], f"{changed[0]}: the key {key} belongs to {others} already"
