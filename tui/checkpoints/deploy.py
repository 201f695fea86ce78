"""The dialogue that says how an exported folder is served: what each engine needs, its command, how to ask it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from core.contract.deployment import ENGINES, Engine, Recipe, notes, question, recipes, write_recipes
from core.contract.errors import SofttuneError
from core.contract.exports import Manifest, check_file, read_manifest
from tui.checkpoints.asking import FolderSuggester
from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.dialogs import key_line
from tui.checkpoints.exported import EXPORTS, exports_of, is_of, origin_words, size_words, verified_words
from tui.checkpoints.questions import called
from tui.formatting import counted
from tui.screens.base import RunScreen
from tui.visible import visible, visible_line
from tui.widgets.field import Field

NAMES: dict[Engine, str] = {"vllm": "vLLM", "compose": "vLLM in a container", "transformers": "transformers serve"}


class DeployDialog(ModalScreen[bool]):
    """Finds the exports of a checkpoint, checks one against its checksums, and shows how to serve it.

    Gives whether the user wants to export first.

    Args:
        folder: the one to show; "" for the newest that there is.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "close", key_display="esc"),
        Binding("q", "dismiss(False)", "close", show=False),
        Binding("right,l", "engine(1)", "next engine", show=False),
        Binding("left,h", "engine(-1)", "engine before", show=False),
        *(Binding(str(number), f"choose({number - 1})", NAMES[engine], show=False)
          for number, engine in enumerate(ENGINES, 1)),
        Binding("y", "take('command')", "copy the command", show=False),
        Binding("c", "take('question')", "copy the curl line", show=False),
        Binding("w", "write", "write the files", show=False),
        Binding("e", "dismiss(True)", "export", show=False),
        Binding("tab,f", "name", "the folder", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("pagedown", "scroll(10)", "page down", show=False),
        Binding("pageup", "scroll(-10)", "page up", show=False),
    ]
    AUTO_FOCUS = ""
    VERTICAL_BREAKPOINTS = RunScreen.VERTICAL_BREAKPOINTS

    def __init__(self, row: CheckpointRow, folder: str = "") -> None:
        super().__init__()
        self._row = row
        self._proposed = folder
        self._folder = Path()
        self._manifest: Manifest | None = None
        self._made: list[Recipe] = []
        """Of a folder that was checked; one an engine."""
        self._at = 0
        self._taken: tuple[str, str] | None = None
        self._words = Content("")

    def compose(self) -> ComposeResult:
        """Title, folder, how to serve it, what came of a key, keys."""
        with Vertical(classes="dialog checkpoints-deploy"):
            yield Static(Content.assemble(("Serve ", "bold"), (called(self._row), "bold $text-accent")))
            yield Field(placeholder="path of a merged export", id="checkpoints-folder", suggester=FolderSuggester())
            yield Static(id="checkpoints-engines")
            with VerticalScroll(can_focus=False):
                yield Static(id="checkpoints-recipe")
            yield Static(id="checkpoints-keys", classes="keys")

    def on_mount(self) -> None:
        """Look for what there is."""
        self._say(Content.styled("… looking for exports", "$text-muted"))
        self.run_worker(self._find(), group="folder", exclusive=True)

    async def _find(self) -> None:
        if self._proposed:
            await self._open(self._proposed)
            return
        found = await asyncio.to_thread(exports_of, self._row)
        if self.query_one(Input).value:  # the user was faster
            return
        merged = [exported for exported in found if exported.manifest.format == "merged"]
        if merged:
            await self._open(str(merged[0].folder), len(merged))
            return
        adapters = "".join(f"\n{visible_line(str(exported.folder))} is an adapter: no engine puts it before a prompt."
                           for exported in found[:3])
        self._say(Content.assemble(
            f"No merged export of this checkpoint is in {EXPORTS}/.", adapters, "\n",
            ("e", "bold $accent"), " exports it, ", ("tab", "bold $accent"), " names a folder elsewhere."))

    async def _open(self, name: str, fitting: int = 0) -> None:
        """Read and check a folder, then show how to serve it; what is wrong with it is told in place of that."""
        self.query_one(Input).value = name
        self._folder, self._made = Path(name).expanduser(), []
        try:
            manifest = await asyncio.to_thread(read_manifest, self._folder)
            made = recipes(self._folder, manifest)
            for number, (file, known) in enumerate(manifest.files.items(), 1):  # one by one: leaving waits for one
                self._say(Content.styled(f"… checking {visible_line(file)}, {number} of {size_words(manifest)}",
                                         "$text-muted"))
                await asyncio.to_thread(check_file, self._folder, file, known)
        except SofttuneError as error:
            self._say(refused(error))
            return
        self._manifest, self._made = manifest, made
        newest = f"the newest of {counted(fitting, 'exports')} that fit" if fitting > 1 else ""
        self._say(Content.styled(newest, "$text-muted"))

    @property
    def recipe(self) -> Recipe | None:
        """The one that is shown."""
        return self._made[self._at] if self._made else None

    def _say(self, words: Content) -> None:
        """Show the recipe, if there is one, and these words."""
        self._words, recipe, parts = words, self.recipe, list[Content]()
        self.query_one("#checkpoints-engines").display = recipe is not None
        keys: list[tuple[str, str]] = [("e", "export"), ("tab", "folder"), ("esc", "close")]
        if recipe is not None and self._manifest is not None:
            self.query_one("#checkpoints-engines", Static).update(engines_line(self._at))
            parts = [recipe_content(recipe, self._folder, self._manifest, self._row)]
            keys = [("←→", "engine"), ("y", "copy"), ("w", "write files"), *keys[1:]]
        parts += [words] if words.plain else []
        self.query_one("#checkpoints-recipe", Static).update(Content("\n\n").join(parts))
        if self.focused is not None:
            keys = [("enter", "check it"), ("→", "completes"), ("esc", "leave the field")]
        self.query_one("#checkpoints-keys", Static).update(key_line(*keys))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Check the folder that was named."""
        if event.value.strip():
            self.set_focus(None)
            self._say(Content(""))
            self.run_worker(self._open(event.value.strip()), group="folder", exclusive=True)

    def on_descendant_focus(self) -> None:
        """Other keys work in the field."""
        self._say(self._words)

    def on_descendant_blur(self) -> None:
        """And those of the dialogue again."""
        self._say(self._words)

    def action_back(self) -> None:
        """Leave the field, then the dialogue."""
        if self.focused is not None:
            self.set_focus(None)
        else:
            self.dismiss(False)

    def action_name(self) -> None:
        """Name another folder."""
        self.set_focus(None if self.focused else self.query_one(Input))

    def action_engine(self, step: int) -> None:
        """Show the next engine."""
        self.action_choose((self._at + step) % len(ENGINES))

    def action_choose(self, number: int) -> None:
        """Show this engine."""
        self._at = number
        if self._made:
            self._say(self._words)
            self.query_one(VerticalScroll).scroll_home(animate=False)

    def copy_text(self) -> tuple[str, str] | None:
        """What was asked for last."""
        return self._taken

    async def action_take(self, what: str) -> None:
        """Copy the command, or the curl line."""
        if self.recipe is None or self._manifest is None:
            return
        line = self.recipe.command if what == "command" else question(self._folder, self._manifest)
        self._taken = ("the command" if what == "command" else "the curl line"), line
        await self.app.run_action("copy")

    async def action_write(self) -> None:
        """Write the files of all engines into serve/."""
        if not self._made:
            return
        made = self._made
        try:
            files = await asyncio.to_thread(write_recipes, self._folder, made)
        except SofttuneError as error:
            self._say(refused(error))
        except OSError as error:
            self._say(Content.styled(f"✗ {visible(f'{error.filename}: {error.strerror}')}", "$text-error"))
        else:
            lines = [f"✓ {visible_line(str(file))}" for file in files]
            self._say(Content.styled("\n".join(lines), "$text-success"))
        self.query_one(VerticalScroll).scroll_end(animate=False)

    def action_scroll(self, lines: int) -> None:
        """Scroll what has no room."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


def refused(error: SofttuneError) -> Content:
    """Why not, and what to do about it."""
    return Content.assemble((f"✗ {visible(error.what)}", "$text-error"), f"\n  → {visible(error.remedy)}")


def engines_line(at: int) -> Content:
    """The engines with their numbers, the one that is shown standing out by a sign and by weight."""
    return Content("   ").join([
        Content.assemble((f"{'●' if number == at else '○'} {number + 1} ", "bold $accent"),
                         (NAMES[engine], "bold" if number == at else "$text-muted"))
        for number, engine in enumerate(ENGINES)])


def recipe_content(recipe: Recipe, folder: Path, manifest: Manifest, row: CheckpointRow) -> Content:
    """What an engine needs, its command, how to ask it, and what to know of it and of the folder."""
    tested = ("✓ softtune's tests run it, and compare what it completes", "$text-success") if recipe.tested else (
        "· as its documentation has it; softtune's tests do not run it", "$text-muted")
    other = Content.styled(f"! it was not exported from {called(row)}", "$text-warning")
    return Content("\n").join([
        Content.assemble(("needs  ", "bold $text-accent"), recipe.needs), Content.styled(*tested), Content(""),
        _heading("run", "y"), Content(visible_line(recipe.command)), Content(""),
        _heading("ask it", "c"), Content(visible_line(question(folder, manifest))), Content(""),
        _heading("to know"), *([] if is_of(manifest, row) else [other]),
        Content(f"· {visible_line(origin_words(manifest))}"),
        Content(f"· {size_words(manifest)}, just as exported"
                f"{f'; {verified_words(manifest)}' if manifest.verified_problems else ''}"),  # else a note says so
        *(Content(f"· {visible_line(note)}") for note in notes(manifest)),
    ])


def _heading(words: str, key: str = "") -> Content:
    """A heading, with the key that copies what is under it."""
    return Content.assemble((words, "bold $text-accent"), *(("  ", (key, "bold $accent"), " copies") if key else ()))
