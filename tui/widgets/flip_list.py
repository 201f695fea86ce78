"""The problems that flipped between two checkpoints, grouped by side of the split, with a cursor."""

from __future__ import annotations

from itertools import groupby

from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.compare.verdicts import Flip
from tui.compare.words import flip_heading, flip_line


class FlipList(OptionList, can_focus=False):
    """Shows flips under headings; keys come from the screen. The cursor stays on its problem when the list changes."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._flips: dict[str, Flip] = {}
        self._marked = ""
        self._drawn: tuple[tuple[Flip, ...], int] = ((), 0)

    @property
    def flip(self) -> Flip | None:
        """The flip under the cursor."""
        option = self.highlighted_option
        return self._flips.get(option.id or "") if option is not None else None

    def show(self, flips: tuple[Flip, ...]) -> None:
        """Show these; what is drawn already, at this width, stays."""
        self.display = bool(flips)
        if (flips, self._room) == self._drawn:
            return
        self._drawn = flips, self._room
        at = self._marked
        self._flips, self._marked = {f"flip-{flip.task_id}": flip for flip in flips}, ""
        options: list[Option] = []
        for kind, group in groupby(flips, key=lambda flip: flip.kind):
            members = list(group)
            options.append(Option(flip_heading(kind, members), disabled=True))
            options += [Option(flip_line(flip, self._room, False), id=f"flip-{flip.task_id}") for flip in members]
        self.clear_options()
        self.add_options(options)
        if flips:
            self.highlighted = self.get_option_index(at) if at in self._flips else 1

    @property
    def _room(self) -> int:
        return self.scrollable_content_region.width or 72

    def move(self, lines: int) -> None:
        """Move the cursor by problems; headings do not count."""
        names = list(self._flips)
        if names:
            at = names.index(self._marked) if self._marked in names else 0
            self.highlighted = self.get_option_index(names[max(0, min(len(names) - 1, at + lines))])

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Move the cursor's sign to another line."""
        before, self._marked = self._marked, event.option_id or ""
        for changed in {before, self._marked} & set(self._flips):
            self.replace_option_prompt(changed, flip_line(self._flips[changed], self._room, changed == self._marked))
