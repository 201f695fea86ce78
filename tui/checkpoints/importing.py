"""The dialogue that makes a run of a folder of another format, with one checkpoint, that all screens open."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from core.contract.workbench import ImportAdapter
from tui.checkpoints.asking import AskingDialog, FolderSuggester
from tui.widgets.field import Field


class ImportDialog(AskingDialog):
    """Asks for the folder and a name, then imports. Gives the path of the new run's checkpoint, "" for none."""

    KEYS = (("enter", "import"), ("→", "completes"), ("tab", "other field"), ("esc", "back"))

    def compose(self) -> ComposeResult:
        """Folder, name, what comes of it, keys."""
        with Vertical(classes="dialog checkpoints-import"):
            yield Static(Content.styled("Import a soft prompt", "bold"))
            yield Static(Content.styled("folder: an adapter of peft's prompt tuning, or what softtune exported",
                                        "$text-muted"), classes="keys")
            yield Field(placeholder="path of the folder", id="checkpoints-folder", suggester=FolderSuggester())
            yield Static(Content.styled("name of the new run", "$text-muted"))
            yield Field(placeholder="the folder's name", id="checkpoints-name")
            yield from self.compose_outcome()

    def on_mount(self) -> None:
        """Begin at the folder."""
        self.query_one("#checkpoints-folder", Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Import, from either field."""
        folder, name = (self.query_one(f"#checkpoints-{field}", Input).value.strip() for field in ("folder", "name"))

        def request(number: int) -> ImportAdapter:
            return ImportAdapter(id=number, folder=folder, name=name)

        if folder:
            self.ask(request)
        else:
            self.tell(Content.styled("✗ name a folder", "$text-error"))
            self.query_one("#checkpoints-folder", Input).focus()

    def keys_at_end(self) -> tuple[tuple[str, str], ...]:
        """It is in the table."""
        return (("enter", "show it in the table"),)

    def action_close(self) -> None:
        """Close with what was made."""
        self.dismiss(self.path)
