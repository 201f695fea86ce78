"""Changing settings in the text of their file: what did not change stays byte for byte as its user wrote it.

The places of values come from the marks of YAML's nodes. Every result is read again before it is given out, so that an
unusual way of writing (aliases, several documents) ends in a refusal and never in a damaged file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from core.contract.config_file import section_comment, setting_lines, yaml_value
from core.contract.errors import UsageError

_ALIAS = re.compile(r"\s*:\s*(\*[^\s,\[\]{}]+)")
_COLON = re.compile(r"\s*:")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
_BY_HAND = "change it in the file by hand"

Pair = tuple[yaml.ScalarNode, yaml.Node]


class Edit(NamedTuple):
    """Text from `start` up to `end` becomes `new`."""

    start: int
    end: int
    new: str


def edit_settings(text: str, changes: Mapping[str, Any]) -> str:
    """The text with other values for some settings.

    A key that the text does not have is added at the end of its section with its help as a comment, a section at the
    end of the file. Line ends, quotes, comments and order stay.

    Args:
        text: the file, line ends as they are on disk.
        changes: new values by "section.key".

    Raises:
        UsageError: the text is not YAML of sections, or a value is written in a way that cannot be changed in place.
    """
    if not changes:
        return text
    wanted: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        section, _, key = name.partition(".")
        wanted.setdefault(section, {})[key] = value
    root = _root(text)
    edits: list[Edit] = []
    places = {section: _find(root, section) for section in wanted}
    for section, pair in sorted(places.items(), key=lambda place: place[1] is None):  # new ones stand after the last
        values = wanted[section]
        edits += _section_edits(text, pair, section, values) if pair else _new_section(text, root, section, values)
    edited = _applied(text, edits)
    _check(text, edited, wanted)
    return edited


def _root(text: str) -> yaml.MappingNode | None:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        raise UsageError("the file is not YAML", "mend it by hand first") from None
    if root is None or _is_null(root):
        return None
    if not isinstance(root, yaml.MappingNode):
        raise UsageError("the file has no sections", "mend it by hand first")
    return root


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _find(mapping: yaml.MappingNode | None, key: str) -> Pair | None:
    """The last entry of a key, which is the one that counts."""
    found: list[Pair] = [pair for pair in mapping.value if pair[0].value == key] if mapping else []
    return found[-1] if found else None


def _section_edits(text: str, pair: Pair, section: str, values: Mapping[str, Any]) -> list[Edit]:
    name, node = pair
    if _is_alias(pair) or not (isinstance(node, yaml.MappingNode) or _is_null(node)):
        raise UsageError(f"line {name.start_mark.line + 1}: {section} is not written as a section", _BY_HAND)
    if not isinstance(node, yaml.MappingNode):
        return _into_empty(text, pair, section, values)
    edits, missing = [], {}
    for key, value in values.items():
        entry = _find(node, key)
        if entry:
            edits.append(_value_edit(text, entry, value))
        else:
            missing[key] = value
    if missing and node.flow_style:
        edits.append(_into_braces(text, node, {key: yaml_value(value) for key, value in missing.items()}))
    elif missing:
        column = node.value[0][0].start_mark.column
        edits.append(_lines_after(text, _end_of_pair(text, node.value[-1]), column, section, missing))
    return edits


def _is_alias(pair: Pair) -> bool:
    """An alias is composed to the node of its anchor, which stands earlier."""
    return bool(pair[1].start_mark.index < pair[0].end_mark.index)


def _value_edit(text: str, pair: Pair, value: Any) -> Edit:
    """Replace one value, whatever its style."""
    name, node = pair
    if _is_alias(pair):
        return Edit(*_alias(text, pair), yaml_value(value))
    start, end = node.start_mark.index, _end(text, node)
    if start == end:  # nothing is written there, which YAML takes for null
        return Edit(start, end, (" " if text[start - 1] == ":" else ": ") + yaml_value(value))
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        if isinstance(node, yaml.SequenceNode) and isinstance(value, list) and value:
            gap = _line_end(text) + " " * node.start_mark.column
            return Edit(start, end, gap.join(f"- {yaml_value(item)}" for item in value))
        colon = _COLON.match(text, name.end_mark.index)
        return Edit(colon.end() if colon else start, end, f" {yaml_value(value)}")
    properties = _PROPERTIES.match(text, start, end)
    kept = [word for word in (properties.group() if properties else "").split() if word.startswith("&")]
    return Edit(start, end, " ".join([*kept, _like(node, value)]))


def _like(node: yaml.Node, value: Any) -> str:
    """A value in the quotes that the one before it had."""
    style = node.style if isinstance(node, yaml.ScalarNode) and isinstance(value, str) else None
    if style == '"':
        return json.dumps(value).replace("\x7f", "\\x7f")
    if style == "'" and str(value).isprintable():
        return "'" + str(value).replace("'", "''") + "'"
    return yaml_value(value)


def _end(text: str, node: yaml.Node) -> int:
    """Where a value ends: a block scalar before the blank lines, a block collection before the comments behind it."""
    start, end = node.start_mark.index, int(node.end_mark.index)
    if isinstance(node, yaml.ScalarNode):
        return start + len(text[start:end].rstrip()) if node.style in ("|", ">") else end
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return end
    if isinstance(node, yaml.MappingNode):
        return _end_of_pair(text, node.value[-1])
    last = node.value[-1]
    if last.start_mark.index < start:
        raise UsageError(f"line {node.start_mark.line + 1}: the list ends in an alias", _BY_HAND)
    return _end(text, last)


def _end_of_pair(text: str, pair: Pair) -> int:
    return _alias(text, pair)[1] if _is_alias(pair) else _end(text, pair[1])


def _alias(text: str, pair: Pair) -> tuple[int, int]:
    found = _ALIAS.match(text, pair[0].end_mark.index)
    if not found:
        raise UsageError(f"line {pair[0].start_mark.line + 1}: {pair[0].value} is an alias", _BY_HAND)
    return found.span(1)


def _into_empty(text: str, pair: Pair, section: str, values: Mapping[str, Any]) -> list[Edit]:
    """A section that says nothing: its keys go behind the comments below it."""
    name, node = pair
    start, end = node.start_mark.index, node.end_mark.index
    edits = [Edit(len(text[:start].rstrip(" ")), end, "")] if end > start else []
    comment = re.compile(r"[^\n]*\n( +)#").match(text, end)
    column = len(comment.group(1)) if comment else 0
    if column <= name.start_mark.column:
        column = name.start_mark.column + 2
    return [*edits, _lines_after(text, end, column, section, values)]


def _lines_after(text: str, at: int, column: int, section: str, values: Mapping[str, Any]) -> Edit:
    """New keys below the line of `at`, and below the comments of the same section that follow it."""
    newline = text.find("\n", at)
    place = len(text) if newline < 0 else newline + 1
    comments = re.compile(rf"(?: {{{column},}}#[^\n]*(?:\n|\Z))*").match(text, place)
    place = comments.end() if comments else place
    lines = [" " * column + line for key, value in values.items() for line in setting_lines(section, key, value)]
    return _insertion(text, place, lines)


def _new_section(text: str, root: yaml.MappingNode | None, section: str, values: Mapping[str, Any]) -> list[Edit]:
    if root is not None and root.flow_style:
        inner = ", ".join(f"{key}: {yaml_value(value)}" for key, value in values.items())
        return [_into_braces(text, root, {section: f"{{{inner}}}"})]
    margin = " " * (root.start_mark.column if root is not None else 0)
    lines = [section_comment(section), f"{section}:"]
    lines += [f"  {line}" for key, value in values.items() for line in setting_lines(section, key, value)]
    blank = [""] if text.strip() and not re.search(r"\n\r?\n\Z", text) else []
    return [_insertion(text, len(text), [*blank, *(margin + line for line in lines)])]


def _insertion(text: str, place: int, lines: list[str]) -> Edit:
    """Whole lines at a place; a last line without a line end gets one first, and the new last line has none."""
    end = _line_end(text)
    joined = end.join(lines)
    unfinished = place == len(text) and bool(text) and not text.endswith("\n")
    return Edit(place, place, end + joined if unfinished else joined + end)


def _into_braces(text: str, node: yaml.MappingNode, values: Mapping[str, str]) -> Edit:
    entries = ", ".join(f"{key}: {value}" for key, value in values.items())
    if node.value:
        at = _end_of_pair(text, node.value[-1])
        return Edit(at, at, f", {entries}")
    at = text.index("{", node.start_mark.index) + 1
    return Edit(at, at, entries)


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _applied(text: str, edits: list[Edit]) -> str:
    """All edits at once; those at the same place stay in their order."""
    parts, at = [], 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        parts += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*parts, text[at:]])


def _check(before: str, after: str, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """The edited text must say what the old one said, with the new values, and nothing else."""
    try:
        expected: dict[Any, Any] = dict(yaml.safe_load(before) or {})
        for section, values in wanted.items():
            expected[section] = {**(expected.get(section) or {}), **values}
        same = repr(yaml.safe_load(after)) == repr(expected)  # by repr: nan equals nan there, and 1 is not true
    except (yaml.YAMLError, ValueError):
        same = False
    if not same:
        names = ", ".join(f"{section}.{key}" for section, values in wanted.items() for key in values)
        raise UsageError(f"{names} cannot be changed in this file, as it is written", _BY_HAND)
