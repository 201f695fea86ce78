"""The dialogue that exports a checkpoint: format, folder, progress, and the path or the refusal."""

from __future__ import annotations

from contextlib import aclosing
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import Worker

from core.contract.events import Progress
from core.contract.workbench import AnyReply, Cancelled, Ended, ExportCheckpoint, Refused, Told, Working
from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.dialogs import key_line
from tui.checkpoints.questions import called
from tui.visible import visible, visible_line
from tui.widgets.field import Field
from tui.workbench import Workbench

Format = Literal["peft", "merged"]
FORMATS: dict[Format, str] = {
    "peft": "an adapter: the soft prompt alone, as peft reads it",
    "merged": "a whole model with the soft prompt in its vocabulary",
}


def default_folder(row: CheckpointRow, form: Format) -> str:
    """"exports/2026-11-23-221004-demo-best-peft"."""
    return f"exports/{row.run.run_id}-{row.name}-{form}"


class ExportDialog(ModalScreen[None]):
    """Asks for format and folder, then exports; a refusal can be mended and tried again. Closing gives up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "close", key_display="esc"),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
    ]

    def __init__(self, row: CheckpointRow, workbench: Workbench) -> None:
        super().__init__()
        self._row = row
        self._workbench = workbench
        self._form: Format = "peft"
        self._work: Worker[None] | None = None
        self.finished = False

    def compose(self) -> ComposeResult:
        """Format, folder, what comes of it, keys."""
        with Vertical(classes="dialog checkpoints-export"):
            yield Static(Content.assemble(("Export ", "bold"), (called(self._row), "bold $text-accent")))
            yield OptionList(*(Option(self._format(form), id=form) for form in FORMATS))
            yield Static(Content.styled("into a new or empty folder", "$text-muted"), classes="keys")
            yield Field(default_folder(self._row, "peft"), id="checkpoints-folder")
            yield Static(id="checkpoints-outcome")
            yield Static(id="checkpoints-keys", classes="keys")

    def _format(self, form: Format) -> Content:
        """The chosen one has a sign, for it has to be seen from the folder too."""
        sign = "●" if form == self._form else "○"
        return Content.assemble((f" {sign} ", "bold $accent"), (f"{form:<8}", "bold"), FORMATS[form])

    def on_mount(self) -> None:
        """Begin at the format."""
        self.query_one(OptionList).highlighted = 0
        self.query_one(OptionList).focus()
        self._tell(Content(""))

    def _tell(self, outcome: Content) -> None:
        self.query_one("#checkpoints-outcome", Static).update(outcome)
        if self.finished:
            keys = [("enter", "close")]
        elif self._work is not None:
            keys = [("esc", "give up")]
        else:
            keys = [("enter", "next, then export"), ("tab", "other field"), ("esc", "back")]
        self.query_one("#checkpoints-keys", Static).update(key_line(*keys))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """The proposed folder follows the format, unless the user has changed it."""
        folder, before = self.query_one(Input), self._form
        self._form = "merged" if event.option_id == "merged" else "peft"
        for form in FORMATS:
            self.query_one(OptionList).replace_option_prompt(form, self._format(form))
        if folder.value == default_folder(self._row, before):
            folder.value = default_folder(self._row, self._form)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """On to the folder."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Export; once that is done, close."""
        if self.finished:
            self.dismiss()
        elif not event.value.strip():
            self._tell(Content.styled("✗ name a folder", "$text-error"))
        elif self._work is None:
            self._work = self.run_worker(self._export(event.value.strip()))
            self._tell(Content.styled("… starting the workbench", "$text-muted"))

    async def _export(self, folder: str) -> None:
        def request(number: int) -> ExportCheckpoint:
            return ExportCheckpoint(id=number, checkpoint=str(self._row.path), format=self._form, folder=folder)

        async with aclosing(self._workbench.ask(request)) as replies:
            async for reply in replies:
                self._hear(reply, folder)

    def _hear(self, reply: AnyReply, folder: str) -> None:
        if isinstance(reply, Ended):
            self._work, self.finished = None, True
            self._tell(Content.styled(f"✓ written to {visible_line(reply.path or folder)}", "bold $text-success"))
        elif isinstance(reply, (Refused, Cancelled)):
            self._work = None
            what, remedy = (reply.what, reply.remedy) if isinstance(reply, Refused) else ("it was given up", "")
            self._tell(Content.assemble((f"✗ {visible(what)}", "$text-error"),
                                        f"\n  {visible(remedy)}" if remedy else ""))
        elif isinstance(reply, Working):
            self._tell(Content.styled(f"… {visible_line(reply.what)}", "$text-muted"))
        elif isinstance(reply, Told) and isinstance(reply.event, Progress):
            done = f"{reply.event.stage} {reply.event.done:,} of {reply.event.total:,} {visible_line(reply.event.unit)}"
            self._tell(Content.styled(f"… {done}", "$text-muted"))

    def action_move(self, lines: int) -> None:
        """Move as j and k do."""
        formats = self.query_one(OptionList)
        if lines > 0:
            formats.action_cursor_down()
        else:
            formats.action_cursor_up()
