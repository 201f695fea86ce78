"""The settings as the Config screen sees them: all from the schema, and what a user types turned into values."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from core.contract.config import Config
from core.contract.config_file import allowed_values, section_class, setting_faults, yaml_value
from core.contract.errors import Fault

_ESCAPE = re.compile(r"\\(?:([\\ntr])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))")
_SHORT = {"\\": "\\", "n": "\n", "t": "\t", "r": "\r"}


class Kind(Enum):
    """How a setting is changed: a switch and a choice by one key, the others by typing."""

    SWITCH = auto()
    CHOICE = auto()
    NUMBER = auto()
    TEXT = auto()
    LIST = auto()


@dataclass(frozen=True)
class Setting:
    """One field of the schema, with the words for it."""

    section: str
    key: str
    kind: Kind
    nullable: bool
    choices: tuple[Any, ...]
    default: Any
    help: str
    unit: str
    allowed: str

    @property
    def name(self) -> str:
        """"section.key"."""
        return f"{self.section}.{self.key}"

    def following(self, value: Any, steps: int = 1) -> Any:
        """The next (or another) of the choices; the first where the value is none of them."""
        at = next((i for i, choice in enumerate(self.choices) if same(choice, value)), None)
        return self.choices[0] if at is None else self.choices[(at + steps) % len(self.choices)]

    def fits(self, words: str) -> bool:
        """Whether all words occur in the name or the help."""
        text = f"{self.name} {self.name.replace('_', ' ')} {self.help} {self.unit}".casefold()
        return all(word in text for word in words.casefold().split())


def _setting(section: str, key: str, field: FieldInfo) -> Setting:
    annotation = field.annotation
    parts = [annotation] if typing.get_origin(annotation) is typing.Literal else typing.get_args(annotation)
    inner = next((part for part in parts if part is not type(None)), annotation)
    nullable = type(None) in parts
    choices: tuple[Any, ...] = ()
    if typing.get_origin(annotation) is list:
        kind = Kind.LIST
    elif annotation is bool:
        kind, choices = Kind.SWITCH, (True, False)
    elif typing.get_origin(inner) is typing.Literal:
        kind, choices = Kind.CHOICE, (*typing.get_args(inner), *([None] if nullable else []))
    else:
        kind = Kind.NUMBER if inner in (int, float) else Kind.TEXT
    extra = field.json_schema_extra
    unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
    return Setting(section, key, kind, nullable, choices, field.default, str(field.description), unit,
                   allowed_values(field))


SETTINGS: dict[str, Setting] = {
    f"{section}.{key}": _setting(section, key, field)
    for section in Config.model_fields for key, field in section_class(section).model_fields.items()
}
"""Every setting by its name, in the order of the file."""

SECTIONS: dict[str, str] = {name: (section_class(name).__doc__ or "").rstrip(".") for name in Config.model_fields}
"""The heading of every section."""


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in a file: 1 is not true there, and a number that is none equals itself."""
    return one is other or (type(one) is type(other) and bool(one == other))


def shown(value: Any) -> str:
    """A value on one line, as it is typed: text without quotes, a line end as \\n."""
    if isinstance(value, str):
        return "".join(char if char.isprintable() and char != "\\" else _escaped(char) for char in value)
    return yaml_value(value)


def _escaped(char: str) -> str:
    short = next((f"\\{letter}" for letter, meant in _SHORT.items() if meant == char), "")
    if ord(char) > 0xFFFF:
        return char
    return short or (f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}")


def typed(setting: Setting, text: str) -> Any:
    """What a user means by some text; validation has the last word on it."""
    if setting.kind is Kind.LIST:
        return _list(text)
    if setting.nullable and text.strip() in ("", "null"):
        return None
    return _number(text.strip()) if setting.kind is Kind.NUMBER else _ESCAPE.sub(_unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    short, *codes = found.groups()
    return _SHORT[short] if short else chr(int(next(code for code in codes if code), 16))


def _number(text: str) -> Any:
    """A number where it is one, else the text, so that a message shows what was typed."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _list(text: str) -> Any:
    try:
        return yaml.safe_load(text) if text.strip() else []
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def checked(setting: Setting, value: Any) -> tuple[Any, Fault | None]:
    """The value as the schema has it (4.0 becomes 4), or what is wrong with it."""
    faults = setting_faults({setting.section: {setting.key: value}})
    if faults:
        return value, faults[0]
    config = Config.model_validate({setting.section: {setting.key: value}})
    return getattr(getattr(config, setting.section), setting.key), None
