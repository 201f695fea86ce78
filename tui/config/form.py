"""The state of the Config screen: a file's text, the values that its user gave, and the way back.

A form never changes: every change gives another one. What is shown of it is made elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from core.contract.config import DEMO, Config
from core.contract.config_edit import edit_settings
from core.contract.config_file import Reading, conflict_faults, read_settings, render_config, setting_faults
from core.contract.errors import Fault, SofttuneError
from tui.config.fields import SETTINGS, checked, same

Values = Mapping[str, Any]
"""A value for every setting, by "section.key"; one that the schema does not allow is as it stands in the file."""

UNDO_STEPS = 200


@dataclass(frozen=True)
class Form:
    """Settings between a file and the next run."""

    reading: Reading
    text: str | None
    """The file as it was read; None where there is none yet."""
    unreadable: str
    """Why there is a file that cannot be read; "" where it could."""
    demo: bool
    """Settings that the file does not name are the demo's."""
    values: Values
    settled: Values
    """The values that nothing would be lost of: those that were opened, or saved last."""
    past: tuple[Values, ...] = ()
    future: tuple[Values, ...] = ()

    @cached_property
    def stored(self) -> Values:
        """What the file says, with the defaults of what it leaves out."""
        return _values(_layered(self.reading.values, self.demo))

    @cached_property
    def changes(self) -> dict[str, Any]:
        """What saving would write, by "section.key"."""
        return {name: value for name, value in self.values.items() if not same(value, self.stored[name])}

    @property
    def unsaved(self) -> bool:
        """Whether the user made changes that are in no file."""
        return any(not same(value, self.settled[name]) for name, value in self.values.items())

    @cached_property
    def faults(self) -> dict[str, Fault]:
        """What is wrong with values, else with two beside each other, by "section.key"; the form can mend it."""
        alone = [checked(setting, self.values[name])[1] for name, setting in SETTINGS.items()]
        found = [fault for fault in alone if fault is not None]
        if not found:
            found = conflict_faults(Config.model_validate(_nested(self.values)))
        return {
            fault.key: replace(fault, source=self.reading.source,
                               line=self.line(fault.key) if fault.key not in self.changes else None)
            for fault in found
        }

    @cached_property
    def file_faults(self) -> tuple[Fault, ...]:
        """What is wrong with the file itself, which only an editor can mend."""
        rest = setting_faults(self.reading.values, self.reading.places, self.reading.source)
        found = [*self.reading.faults, *(fault for fault in rest if fault.key not in SETTINGS)]
        return tuple(sorted(found, key=lambda fault: fault.line or 0))

    @cached_property
    def config(self) -> Config | None:
        """The settings as they stand; None while one of them has a fault."""
        return None if self.faults else Config.model_validate(_nested(self.values))

    def line(self, name: str) -> int | None:
        """The line of a setting in the file."""
        place = self.reading.places.get(name)
        return place[1] if place else None

    @cached_property
    def written(self) -> str | SofttuneError:
        """The file as saving would leave it, or why it cannot be written."""
        if self.text is None:
            return render_config(self.config) if self.config else SofttuneError("the settings have faults", "")
        try:
            return edit_settings(self.text, self.changes)
        except SofttuneError as error:
            return error

    def changed(self, changes: Values) -> Form:
        """With other values for some settings; the same form where they are no other."""
        new = {name: value for name, value in changes.items() if not same(value, self.values[name])}
        if not new:
            return self
        return replace(self, values={**self.values, **new}, past=(*self.past, self.values)[-UNDO_STEPS:], future=())

    def undone(self) -> Form:
        """As it was before the last change."""
        if not self.past:
            return self
        return replace(self, values=self.past[-1], past=self.past[:-1], future=(*self.future, self.values))

    def redone(self) -> Form:
        """With the change that was undone last."""
        if not self.future:
            return self
        return replace(self, values=self.future[-1], future=self.future[:-1], past=(*self.past, self.values))

    def reread(self, text: str | None, unreadable: str = "") -> Form:
        """On another text of the file, with the user's changes laid over it."""
        new = _form(text, self.reading.source, unreadable, self.demo)

        def moved(values: Values) -> Values:
            changed = {name: value for name, value in values.items() if not same(value, self.stored[name])}
            return {**new.stored, **changed}

        return replace(new, values=moved(self.values), settled=moved(self.settled),
                       past=tuple(map(moved, self.past)), future=tuple(map(moved, self.future)))

    def saved(self, text: str) -> Form:
        """After the file was written."""
        new = _form(text, self.reading.source, "", self.demo)
        return replace(self, reading=new.reading, text=text, unreadable="", settled=new.values)


def open_form(text: str | None, source: str, *, unreadable: str = "", demo: bool = False, of_file: bool = True) -> Form:
    """A form on the text of a file.

    Args:
        text: None where there is no file, or none that can be read.
        source: the file's name, for messages.
        unreadable: why it cannot be read.
        demo: the settings of `--demo` come before the file's.
        of_file: the file is what a run is started from; otherwise (`--demo` alone) the form begins with the demo's
            settings, and saving would write them.
    """
    form = _form(text, source, unreadable, demo and of_file)
    if not demo or of_file:
        return form
    values = _values(_layered({}, demo=True))
    return replace(form, values=values, settled=values)


def _form(text: str | None, source: str, unreadable: str, demo: bool) -> Form:
    reading = read_settings(text or "", source)
    values = _values(_layered(reading.values, demo))
    return Form(reading, text, unreadable, demo, values, values)


def _layered(written: Mapping[str, Any], demo: bool) -> dict[str, dict[str, Any]]:
    """The demo's settings below those of a file; what is no section is left out, and is a fault of the file."""
    base: dict[str, dict[str, Any]] = {name: dict(values) for name, values in DEMO.items()} if demo else {}
    for section, values in written.items():
        if isinstance(values, dict):
            base[section] = {**base.get(section, {}), **values}
    return base


def _values(layered: Mapping[str, Mapping[str, Any]]) -> Values:
    return {
        name: checked(setting, layered.get(setting.section, {}).get(setting.key, setting.default))[0]
        for name, setting in SETTINGS.items()
    }


def _nested(values: Values) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        nested.setdefault(SETTINGS[name].section, {})[SETTINGS[name].key] = value
    return nested
