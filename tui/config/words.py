"""Rows, help and the state line of the Config screen in words. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textual.content import Content

from core.contract.errors import Fault
from tui.config.fields import Kind, Setting, same, shown
from tui.config.form import Form
from tui.formatting import counted
from tui.visible import visible_line

NAME_WIDTH = 28
"""Cells of a setting's name; the longest has 27."""
LEAD = 4
"""Cells for the cursor and the sign before a name."""
VALUE_AT = LEAD + NAME_WIDTH + 1

CHANGED, FAULTY, HERE = "●", "✗", "▸"


@dataclass(frozen=True)
class RowState:
    """What a row shows of its setting."""

    value: Any
    changed: bool = False
    """From what the file says."""
    fault: str = ""

    @property
    def glyph(self) -> str:
        """The sign before the name."""
        return FAULTY if self.fault else CHANGED if self.changed else " "


def row_state(form: Form, name: str) -> RowState:
    """The row of one setting."""
    fault = form.faults.get(name)
    return RowState(form.values[name], name in form.changes, fault.found if fault else "")


def fault_words(fault: Fault) -> str:
    """What was found and what may be there, without the place."""
    return f"found {fault.found}; {fault.allowed}"


def row_content(setting: Setting, state: RowState, width: int, here: bool) -> Content:
    """One line: cursor, sign, name, value, unit; a value that is not the default is bold."""
    style = "$text-error" if state.fault else "$text-accent" if state.changed else "$text-muted"
    plain = same(state.value, setting.default)
    room = max(4, width - VALUE_AT)
    unit = f" {setting.unit}" if setting.unit and state.value is not None else ""
    words = _value_words(state.value)
    if len(words) + len(unit) > room:
        unit = ""
    value = Content.styled(words, "$text-muted italic" if words in ("null", "empty") else "" if plain else "bold")
    return Content.assemble(
        (f"{HERE if here else ' '} ", "bold $accent"), (f"{state.glyph} ", f"bold {style}"),
        (f"{setting.key:<{NAME_WIDTH}} ", "bold" if here else ""),
        value.truncate(room - len(unit), ellipsis=True), (unit, "$text-muted"),
    ).truncate(width, ellipsis=True)


def _value_words(value: Any) -> str:
    return "empty" if value == "" else visible_line(shown(value))


def range_line(setting: Setting) -> str:
    """What may be typed, for the line below an open field."""
    escapes = ", \\n for a new line" if setting.kind is Kind.TEXT and not setting.nullable else ""
    return setting.allowed + escapes + (f"; in {setting.unit}" if setting.unit else "")


def help_content(setting: Setting, form: Form, fault: Fault | None) -> Content:
    """Everything about one setting: what it is, what may be there, what is there, and what is wrong with that."""
    name = setting.name
    place = form.line(name)
    stored = "not there" if place is None else f"{_value_words(form.stored[name])}  (line {place})"
    allowed = setting.allowed + (f"; in {setting.unit}" if setting.unit else "")
    rows = [("allowed", allowed), ("default", _value_words(setting.default)), ("in the file", stored)]
    if name in form.changes:
        rows.append(("here", _value_words(form.values[name])))
    lines = [Content(setting.help)]
    if fault is not None:
        lines.append(Content.styled(f"{FAULTY} found {visible_line(fault.found)}", "bold $text-error"))
        if setting.allowed not in fault.allowed:  # it contradicts another setting: what may be there does not tell it
            lines.append(Content.styled(f"→ {fault.allowed}", "italic"))
    lines += [Content.assemble((f"{label:<12}", "$text-muted"), value) for label, value in rows]
    return Content("\n").join(lines)


def state_content(form: Form, path: str, changed_on_disk: bool, search: str, found: int) -> Content:
    """The line above the form: which file, what is not saved, what is wrong, what happened meanwhile."""
    parts = [Content.styled(visible_line(path), "bold")]
    if form.unreadable:
        parts.append(Content.styled(f"{FAULTY} cannot be read", "$text-error"))
    elif form.text is None:
        origin = "the demo's settings, in no file yet" if form.changes and not form.unsaved else "no such file yet"
        parts.append(Content.styled(f"{origin}: w writes it", "$text-muted"))
    if form.changes and form.text is not None:
        unsaved = "not saved" if form.unsaved else "differ: w writes the demo's settings into it"
        number = len(form.changes)
        what = counted(number, "changes") if form.unsaved else counted(number, "settings")
        parts.append(Content.styled(f"{CHANGED} {what} {unsaved}", "bold $text-accent"))
    elif form.unsaved:
        parts.append(Content.styled(f"{CHANGED} not saved", "bold $text-accent"))
    elif form.text is not None:
        parts.append(Content.styled("as saved", "$text-muted"))
    number = len(form.faults) + len(form.file_faults)
    if number:
        parts.append(Content.styled(f"{FAULTY} {counted(number, 'faults')}", "bold $text-error"))
    if changed_on_disk:
        parts.append(Content.styled("! changed on disk: R reads it, your changes stay", "bold $text-warning"))
    if search:
        parts.append(Content.styled(f"“{visible_line(search)}”: {found}", "bold $text-accent"))
    return Content.assemble(" ", Content("   ").join(parts))


def faults_content(form: Form, limit: int) -> Content:
    """What only an editor can mend, each with its line."""
    if form.unreadable:
        return Content.styled(f"{FAULTY} {visible_line(form.unreadable)}", "$text-error")
    faults = form.file_faults
    lines = [Content.styled(f"{FAULTY} {visible_line(str(fault))}", "$text-error") for fault in faults[:limit]]
    if len(faults) > limit:
        lines.append(Content.styled(f"  … {len(faults) - limit} more", "$text-error"))
    lines.append(Content("The file must be mended in an editor before this form can write it; it is read again then."))
    return Content("\n").join(lines)
