"""Scratch copies of completions: text to try things on. They live beside the results and never touch them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from core.contract.files import write_whole
from core.contract.runs import RunFolder
from tui.problems.files import EvaluationRef, Problem
from tui.problems.listing import Attempt, Row
from tui.problems.run import Rerun
from tui.visible import visible, visible_line

_SIGNS = (range(0x2460, 0x2500), range(0x2500, 0x2600), range(0x2800, 0x2900), range(0x4E00, 0xA000))
"""Circled numbers, then whatever there are enough of: signs that may stand for characters that cannot be shown."""

_CONTROL_PICTURES = 0x2400


class StandIns:
    """Signs for the characters of a text that a terminal would act on, one for one, and back again.

    An editor shows what it is given: it is given signs, and the program gets what they stand for.
    """

    def __init__(self, text: str) -> None:
        self._taken = set(text)
        self._signs: dict[str, str] = {}
        self._free: Iterator[int] = chain(*_SIGNS)

    def shown(self, text: str) -> str:
        """The text with signs."""
        for char in sorted(set(text)):
            if char not in "\n\t" and char not in self._signs and visible(char) != char:
                self._signs[char] = self._sign(char)
        return text.translate({ord(char): sign for char, sign in self._signs.items()})

    def original(self, text: str) -> str:
        """The text that signs stand for."""
        return text.translate({ord(sign): char for char, sign in self._signs.items()})

    @property
    def legend(self) -> str:
        """What the signs are, where a user could not know."""
        odd = [f"{sign} is U+{ord(char):04X}" for char, sign in self._signs.items()]
        return ", ".join(odd[:4]) + (", …" if len(odd) > 4 else "")

    def _sign(self, char: str) -> str:
        picture = chr(_CONTROL_PICTURES + ord(char)) if ord(char) < 0x20 else ""
        if not picture or picture in self._taken:
            picture = next(sign for sign in map(chr, self._free) if sign not in self._taken)
        self._taken.add(picture)
        return picture


@dataclass
class Scratch:
    """The scratch copy of one completion, kept while the app is open, and in a file."""

    run: RunFolder
    problem: Problem
    label: str
    """Whose completion it was."""
    stored: Attempt
    original: str
    text: str
    file: Path
    stand_ins: StandIns = field(repr=False)
    rerun: Rerun | None = None
    ran_text: str = ""
    """What `rerun` is of."""
    loaded: bool = False
    """Whether the file of an earlier session was looked for."""

    @classmethod
    def of(cls, ref: EvaluationRef, row: Row, attempt: Attempt) -> Scratch:
        """A copy of a completion as it is stored."""
        text = attempt.state.completion or ""
        name = _file_name(row.key[0]) + (f"-{row.key[1]}" if row.key[1] else "") + ".py"
        file = Path(ref.run.root) / "scratch" / _file_name(ref.checkpoint or "run") / name
        label = " · ".join(visible_line(part) for part in (ref.run.run_id, ref.checkpoint) if part)
        return cls(ref.run, row.problem, label, attempt, text, text, file, StandIns(text))

    @property
    def edited(self) -> bool:
        """Whether it is no longer what was stored."""
        return self.text != self.original

    def read(self) -> str | None:
        """The completion in the file, as an earlier session left it; None where there is none of this problem."""
        try:
            text = self.file.read_bytes().decode("utf-8", "surrogatepass")
        except (OSError, UnicodeDecodeError):
            return None
        return text[len(self.problem.prompt):] if text.startswith(self.problem.prompt) else None

    def write(self) -> str:
        """Keep prompt and text in the file, once there is something to keep; why that failed, or ""."""
        if not self.edited and not self.file.exists():
            return ""
        try:
            write_whole(self.file, (self.problem.prompt + self.text).encode("utf-8", "surrogatepass"))
        except OSError as error:
            return f"{error.strerror}: {error.filename}"
        return ""


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:100].lstrip(".") or "_"
