"""events.jsonl: the engine's end, which appends, and a reader's, which follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from core.contract.events import Event, UnknownEvent, event_line, parse_event
from core.contract.files import LineFile, read_regular, without_waiting


class EventLog:
    """The engine's end of events.jsonl: appends whole lines. A torn line that a crash left is cut off first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = LineFile(path)

    def append(self, event: Event) -> None:
        """Write one event; it is in the kernel's hands when this returns. Raises OSError, and leaves nothing torn."""
        self._file.append(event_line(event).encode() + b"\n")

    def close(self) -> None:
        """Make everything durable."""
        self._file.close()


_events: TypeAdapter[list[Event]] = TypeAdapter(list[Annotated[Event, Field(discriminator="type")]])


class EventTail:
    """A reader's end of events.jsonl: each `read` gives what arrived since the last one.

    A line that is not whole yet waits; a line that is no event is counted in `skipped`, one of a newer version in
    `unknown`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.behind = False
        self.skipped = 0
        self.unknown = 0

    def read(self, at_most: int = -1) -> list[Event]:
        """New events, oldest first; [] when there are none or the file is not there yet.

        Args:
            at_most: bytes to read now, so that a long log comes in parts; -1 for all. `behind` says if more is there.
        """
        self.behind = False
        try:
            with open(self._path, "rb", opener=without_waiting) as file:
                file.seek(self._offset)
                data = file.read(at_most)
                if len(data) == at_most:
                    data += file.readline()
                    self.behind = True
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        lines = whole.splitlines()
        try:
            return _events.validate_json(b"[" + b",".join(lines) + b"]")
        except ValidationError:
            return self._one_by_one(lines)

    def _one_by_one(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            event = parse_event(line)
            if event is None:
                self.skipped += 1
            elif isinstance(event, UnknownEvent):
                self.unknown += 1
            else:
                events.append(event)
        return events


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file that are JSON objects; a torn or foreign line is left out."""
    rows = []
    for line in read_regular(path).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
