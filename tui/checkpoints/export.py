"""The dialogue that exports a checkpoint: format, folder, progress, and what was written and verified."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from core.contract.errors import CheckpointError
from core.contract.exports import MANIFEST, ExportFormat, Manifest, read_manifest
from core.contract.workbench import ExportCheckpoint
from tui.checkpoints.asking import AskingDialog, FolderSuggester
from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.exported import EXPORTS, size_words, verified_words
from tui.checkpoints.questions import called
from tui.visible import visible, visible_line
from tui.widgets.field import Field, KeysInOrder
from tui.workbench import Workbench


@dataclass(frozen=True)
class Choice:
    """A way to export."""

    form: ExportFormat
    words: str
    auto_prepend: bool = True


CHOICES = {
    "peft": Choice("peft", "an adapter: the soft prompt alone, as peft reads it"),
    "merged": Choice("merged", "a whole model with the soft prompt in its vocabulary"),
    "merged-bare": Choice("merged", "for GGUF conversion: prompts must begin with the soft\n"
                          "               tokens themselves", auto_prepend=False),
}


def default_folder(row: CheckpointRow, choice: str) -> str:
    """"exports/2026-11-23-221004-demo-best-peft", or the first with a number behind it that is not there yet."""
    stem = f"{EXPORTS}/{row.run.run_id.replace('/', '-')}-{row.name}-{choice}"
    names = (stem, *(f"{stem}-{number}" for number in range(2, 100)))
    return next((name for name in names if not os.path.lexists(name)), stem)


class Formats(KeysInOrder, OptionList):
    """The formats. Enter goes on to the folder at once, so that a key typed right behind it is the folder's."""

    def action_select(self) -> None:
        """On to the folder."""
        self.screen.focus_next()


class ExportDialog(AskingDialog):
    """Asks for format and folder, then exports. Gives the folder to serve where the user wants to go on with that.

    Args:
        choice: the one of CHOICES to begin at.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
        Binding("d", "serve", "how to serve it", show=False),
    ]
    KEYS = (("enter", "next, then export"), ("tab", "other field"), ("esc", "back"))

    def __init__(self, row: CheckpointRow, workbench: Workbench, choice: str = "peft") -> None:
        super().__init__(workbench)
        self._row = row
        self._choice = choice

    def compose(self) -> ComposeResult:
        """Format, folder, what comes of it, keys."""
        with Vertical(classes="dialog checkpoints-export"):
            yield Static(Content.assemble(("Export ", "bold"), (called(self._row), "bold $text-accent")))
            yield Formats(*(Option(self._line(name), id=name) for name in CHOICES))
            yield Static(Content.styled("into a new or empty folder", "$text-muted"), classes="keys")
            yield Field(default_folder(self._row, self._choice), id="checkpoints-folder", suggester=FolderSuggester())
            yield from self.compose_outcome()

    def _line(self, name: str) -> Content:
        """The chosen one has a sign, for it has to be seen from the folder too."""
        sign = "●" if name == self._choice else "○"
        return Content.assemble((f" {sign} ", "bold $accent"), (f"{name:<12}", "bold"), CHOICES[name].words)

    def on_mount(self) -> None:
        """Begin at the format."""
        self.query_one(OptionList).highlighted = list(CHOICES).index(self._choice)
        self.query_one(OptionList).focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """The proposed folder follows the format, unless the user has changed it."""
        folder, before = self.query_one(Input), self._choice
        self._choice = event.option_id or before
        for name in CHOICES:
            self.query_one(OptionList).replace_option_prompt(name, self._line(name))
        if folder.value == default_folder(self._row, before):
            folder.value = default_folder(self._row, self._choice)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Export."""
        # Not the event's value: a format chosen just before has changed the folder since.
        folder, choice = event.input.value.strip(), CHOICES[self._choice]

        def request(number: int) -> ExportCheckpoint:
            return ExportCheckpoint(id=number, checkpoint=str(self._row.path), format=choice.form, folder=folder,
                                    auto_prepend=choice.auto_prepend)

        if folder:
            self.ask(request)
        else:
            self.tell(Content.styled("✗ name a folder", "$text-error"))

    async def outcome(self, path: str) -> Content:
        """The path, and what the folder says of itself."""
        try:
            words = manifest_words(await asyncio.to_thread(read_manifest, Path(path)))
        except CheckpointError as error:
            words = Content.styled(f"! {visible(error.what)}", "$text-warning")
        return Content.assemble(await super().outcome(path), "\n", words)

    def keys_at_end(self) -> tuple[tuple[str, str], ...]:
        """A merged model can be served."""
        serve = (("d", "how to serve it"),) if self._served else ()
        return (*serve, ("enter", "close"))

    @property
    def _served(self) -> bool:
        return CHOICES[self._choice].form == "merged"

    def action_serve(self) -> None:
        """Close, and go on with how to serve it."""
        if self.path and self._served:
            self.dismiss(self.path)

    def action_move(self, lines: int) -> None:
        """Move as j and k do."""
        formats = self.query_one(OptionList)
        if formats.disabled:
            return
        if lines > 0:
            formats.action_cursor_down()
        else:
            formats.action_cursor_up()


def manifest_words(manifest: Manifest) -> Content:
    """What was written and verified, and what has to be known to use it."""
    lines = [Content.styled(f"  {size_words(manifest)}; {MANIFEST} has their checksums", "$text-muted")]
    if manifest.format == "merged":
        style = "$text-success" if manifest.verified_problems else "$text-warning"
        lines.insert(0, Content.styled(f"  {verified_words(manifest)}", style))
    if manifest.soft_tokens and not manifest.auto_prepend:
        first, last = visible_line(manifest.soft_tokens[0]), visible_line(manifest.soft_tokens[-1])
        lines.append(Content.styled(f"! every prompt must begin with {first} … {last}",
                                    "$text-warning"))
    return Content("\n").join(lines)
