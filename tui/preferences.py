"""What the app remembers of its user: a small YAML file in the user's config folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from core.contract.files import write_whole


class Preferences:
    """Settings of the UI, kept in `ui.yml`.

    Args:
        folder: the user's config folder; made when something is first remembered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "ui.yml"

    @property
    def theme(self) -> str:
        """The name of the theme that was chosen last; "" where none was."""
        return self._text("theme")

    @property
    def screen(self) -> str:
        """The screen that was shown last; "" where none was."""
        return self._text("screen")

    def remember(self, **choices: str) -> None:
        """Keep choices (`theme`, `screen`); other keys of the file stay. Raises OSError where it cannot be written."""
        before = self._read()
        if {**before, **choices} != before:
            write_whole(self._file, yaml.safe_dump({**before, **choices}))

    def _text(self, name: str) -> str:
        value = self._read().get(name)
        return value if isinstance(value, str) else ""

    def _read(self) -> dict[str, Any]:
        try:
            value = yaml.safe_load(self._file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return {}  # no preferences yet, or a file that its user broke: the defaults hold
        return value if isinstance(value, dict) else {}
