"""Reading and writing prompt_tuning.yml: every fault with its line, every setting with its comment."""

from __future__ import annotations

import difflib
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import annotated_types
import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from core.contract.config import DEFAULT_CONFIG_FILE, DEMO, Config, Section, conflicts
from core.contract.errors import ConfigError, Fault, UsageError

Place = tuple[str, int | None]
"""Where a value was written: a file (or `--set`) and its line."""


def load_config(path: Path | None = None, overrides: list[str] | None = None, *, demo: bool = False) -> Config:
    """Resolve the settings: defaults, then the demo's, then a file, then each `--set section.key=value`.

    Args:
        path: the file; None reads ./prompt_tuning.yml where there is one (with `demo`, no file at all).
        overrides: `section.key=value` strings, values in YAML.
        demo: start from the settings of `--demo`.

    Raises:
        ConfigError: the settings have faults; it lists all of them.
        UsageError: the file cannot be read.
    """
    if path is None and not demo and Path(DEFAULT_CONFIG_FILE).exists():
        path = Path(DEFAULT_CONFIG_FILE)
    merged: dict[str, Any] = {section: dict(values) for section, values in DEMO.items()} if demo else {}
    places: dict[str, Place] = {}
    faults: list[Fault] = []
    if path is not None:
        _merge(merged, _read_yaml(path, places, faults))
    for override in overrides or []:
        _merge(merged, _read_override(override, places, faults))
    return _validate(merged, places, faults, str(path or "defaults"))


def parse_config(text: str, source: str = "config.yml") -> Config:
    """Settings from YAML text; raises ConfigError with every fault."""
    places: dict[str, Place] = {}
    faults: list[Fault] = []
    return _validate(_parse_yaml(text, source, places, faults), places, faults, source)


@dataclass(frozen=True)
class Reading:
    """What a text of settings says, before it is validated.

    `values` are by section and key, as YAML has them; `faults` are what is wrong with the text itself.
    """

    values: dict[str, Any]
    places: dict[str, Place]
    faults: tuple[Fault, ...]
    source: str


def read_settings(text: str, source: str = DEFAULT_CONFIG_FILE) -> Reading:
    """Read YAML text as far as it can be read; what is wrong with it is in the result."""
    places: dict[str, Place] = {}
    faults: list[Fault] = []
    values = _parse_yaml(text, source, places, faults)
    return Reading(values, places, tuple(faults), source)


def setting_faults(values: dict[str, Any], places: dict[str, Place] | None = None, source: str = "") -> list[Fault]:
    """What is wrong with some settings (by section and key), each by itself; none where they make a Config."""
    try:
        Config.model_validate(values)
    except ValidationError as error:
        return _faults(error, places or {}, source)
    return []


def conflict_faults(config: Config, places: dict[str, Place] | None = None, source: str = "") -> list[Fault]:
    """Settings that contradict each other, as faults."""
    return [Fault(*_place(key, places or {}, source), key, found, remedy) for key, found, remedy in conflicts(config)]


def render_config(config: Config) -> str:
    """The settings as YAML, every key with its help, range and unit as a comment."""
    lines = ["# softtune's settings; `softtune train --set section.key=value` changes one for a single run.", ""]
    for name in Config.model_fields:
        section: Section = getattr(config, name)
        lines += [section_comment(name), f"{name}:"]
        for key in type(section).model_fields:
            lines += [f"  {line}" for line in setting_lines(name, key, getattr(section, key))]
        lines.append("")
    return "\n".join(lines)


def section_comment(name: str) -> str:
    """The comment above a section of the file."""
    return f"# {(section_class(name).__doc__ or '').rstrip('.')}"


def setting_lines(section: str, key: str, value: Any) -> list[str]:
    """One setting as lines of the file, not indented: its help, its range and unit, then the value."""
    field = section_class(section).model_fields[key]
    note = range_note(field)
    return [f"# {field.description}", *([f"# {note}"] if note else []), f"{key}: {yaml_value(value)}"]


def yaml_value(value: Any) -> str:
    """One value on one line of YAML."""
    if isinstance(value, list) or (isinstance(value, str) and not value.isprintable()):
        # JSON is YAML too and keeps "\n" readable; it leaves DEL bare, which YAML does not allow.
        return json.dumps(value).replace("\x7f", "\\x7f")
    return str(yaml.safe_dump([value], default_flow_style=True, width=100_000, allow_unicode=True)).strip()[1:-1]


def allowed_values(field: FieldInfo) -> str:
    """What may stand in a field, in words: "a whole number, at least 1, at most 1024"."""
    words: list[str] = []
    options: tuple[Any, ...] = ()
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    parts = typing.get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
    for part in parts:
        if typing.get_origin(part) is typing.Literal:
            options = typing.get_args(part)
            words.append("one of " + ", ".join(map(str, options)))
        elif typing.get_origin(part) is list:
            words.append("a list of non-empty texts")
        elif part is not type(None):
            words.append(kinds.get(part, str(part)))
    symbols = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for limit in field.metadata:
        words += [f"{word} {getattr(limit, name)}" for name, word in symbols.items() if hasattr(limit, name)]
        if isinstance(limit, annotated_types.MinLen):
            words.append("not empty")
    return ", ".join(words) + (", or null" if type(None) in parts else "")


def range_note(field: FieldInfo) -> str:
    """Range and unit of a field, as its comment in the file has them; "" where there is nothing to say."""
    extra = field.json_schema_extra
    unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
    plain = {"text", "true or false", "text, or null", "text, not empty", "a list of non-empty texts"}
    values = "" if allowed_values(field) in plain else allowed_values(field)
    return "; ".join(part for part in (values, f"in {unit}" if unit else "") if part)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (types.UnionType, typing.Union)


def _merge(base: dict[str, Any], layer: dict[str, Any]) -> None:
    for section, values in layer.items():
        if isinstance(values, dict) and isinstance(base.get(section), dict):
            base[section].update(values)
        elif not (values is None and section in base):
            base[section] = values


def _read_yaml(path: Path, places: dict[str, Place], faults: list[Fault]) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no configuration file {path}", "name another, or none for the defaults") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read: {why}", "it must be a readable YAML file in UTF-8") from None
    return _parse_yaml(text, str(path), places, faults)


def _parse_yaml(text: str, source: str, places: dict[str, Place], faults: list[Fault]) -> dict[str, Any]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        found = getattr(error, "problem", None) or str(error)
        faults.append(Fault(source, mark.line + 1 if mark else None, "", f"text that is not YAML ({found})",
                            "allowed: `section:` lines with indented `key: value` lines"))
        return {}
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode) or not isinstance(value, dict):
        found = f"{type(value).__name__} at the top"
        faults.append(Fault(source, 1, "", found, "allowed: sections such as `training:`"))
        return {}
    _note_places(root, "", source, places, faults)
    return {str(name): _named_by_text(item) for name, item in value.items()}


def _named_by_text(section: Any) -> Any:
    """A section whose keys are text: YAML reads a bare `on` as true and `1` as a number."""
    return {str(key): item for key, item in section.items()} if isinstance(section, dict) else section


def _note_places(
    node: yaml.MappingNode, prefix: str, source: str, places: dict[str, Place], faults: list[Fault]
) -> None:
    """Record the line of every key; a key written twice is a fault (YAML would keep the last one silently)."""
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        line = key_node.start_mark.line + 1
        if key in seen:
            faults.append(Fault(source, line, key, f"a second value (the first is in line {seen[key]})", "keep one"))
        seen[key] = line
        places[key] = (source, line)
        if isinstance(value_node, yaml.MappingNode) and not prefix:  # settings are two levels deep
            _note_places(value_node, f"{key}.", source, places, faults)


def _read_override(override: str, places: dict[str, Place], faults: list[Fault]) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot:
        faults.append(Fault("--set", None, override, "no section.key=value", "write it as training.num_epochs=5"))
        return {}
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        value = text
    places[f"{section}.{name}"] = ("--set", None)
    places.setdefault(section, ("--set", None))
    return {section: {name: value}}


def _validate(merged: dict[str, Any], places: dict[str, Place], faults: list[Fault], source: str) -> Config:
    config: Config | None = None
    try:
        config = Config.model_validate(merged)
        faults += conflict_faults(config, places, source)
    except ValidationError as error:
        faults += _faults(error, places, source)
    if faults:
        raise ConfigError(sorted(faults, key=lambda fault: (fault.source, fault.line or 0)))
    assert config is not None
    return config


def _place(key: str, places: dict[str, Place], source: str) -> Place:
    """Where a setting was written, else its section, else the whole."""
    return places.get(key) or places.get(key.partition(".")[0]) or (source, None)


def _faults(error: ValidationError, places: dict[str, Place], source: str) -> list[Fault]:
    return [_fault(dict(item), places, source) for item in error.errors()]


def _fault(error: dict[str, Any], places: dict[str, Place], source: str) -> Fault:
    path = [str(part) for part in error["loc"]][:2]  # deeper parts are list positions and types
    key = ".".join(path)
    place, line = _place(key, places, source)
    if error["type"] == "extra_forbidden":
        return Fault(place, line, key, "an unknown key", _suggestion(path))
    section = Config.model_fields.get(path[0]) if path else None
    if section is not None and len(path) == 2 and path[1] not in section_class(path[0]).model_fields:
        return Fault(place, line, key, "an unknown key", _suggestion(path))
    if len(path) < 2:
        wanted = "allowed: a section with indented `key: value` lines"
        return Fault(place, line, key, _shown(error.get("input")), wanted)
    field = section_class(path[0]).model_fields[path[1]]
    return Fault(place, line, key, _shown(error.get("input")), f"allowed: {allowed_values(field)}")


def _shown(value: Any) -> str:
    """A value as its user wrote it: YAML's null and true, Python's quotes around text."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)[:80]


def section_class(name: str) -> type[Section]:
    """The model of a section."""
    section = Config.model_fields[name].annotation
    assert isinstance(section, type) and issubclass(section, Section)
    return section


def _suggestion(path: list[str]) -> str:
    """The nearest key in the same section, else the same key in another section, else what the section has."""
    names = list(Config.model_fields) if len(path) == 1 else list(section_class(path[0]).model_fields)
    elsewhere = [f"{s}.{path[-1]}" for s in Config.model_fields if path[-1] in section_class(s).model_fields]
    near = difflib.get_close_matches(path[-1], names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {'.'.join([*path[:-1], near[0]])}?"
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    everywhere = {k: f"{s}.{k}" for s in Config.model_fields for k in section_class(s).model_fields}
    far = difflib.get_close_matches(path[-1], list(everywhere), n=1, cutoff=0.75)
    return f"did you mean {everywhere[far[0]]}?" if far else f"allowed: {', '.join(names)}"
