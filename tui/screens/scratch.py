"""The scratch screen: edit a copy of a completion and run it, without touching what is stored."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import TextArea

from tui.clipboard import home_relative
from tui.follower import Scene
from tui.problems.detail import outcome_blocks, output_blocks, verdict_blocks
from tui.problems.editor import CompletionEditor
from tui.problems.page import BLANK, Blocks, note
from tui.problems.pane import PagePane
from tui.problems.program import Marks, Program, check_blocks, head_blocks, marks_of
from tui.problems.run import Rerun, run_program
from tui.problems.scratch import Scratch
from tui.screens.base import RunScreen
from tui.visible import visible_line
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.app import SofttuneApp


class ScratchScreen(RunScreen):
    """A text to try things on, the prompt above it, what came of it below or beside it.

    Args:
        scratch: the copy; it outlives the screen.
    """

    TAB = "Scratch copy"
    HOME = "Problems"
    CSS_PATH = "scratch.tcss"
    AUTO_FOCUS = "#scratch-code"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "run", "run", id="scratch.run_while_typing", key_display="F5",
                tooltip="run the text against the tests, in the sandbox"),
        Binding("r", "run", "run", id="scratch.run", tooltip="run the text against the tests, in the sandbox"),
        Binding("e", "type", "type", id="scratch.type", tooltip="go on typing"),
        Binding("u", "original", "original", id="scratch.original",
                tooltip="the completion as it is stored, and again the edited text"),
        Binding("j", "move(1)", "down", id="scratch.down", show=False, tooltip="down in what came of it"),
        Binding("k", "move(-1)", "up", id="scratch.up", show=False, tooltip="up in what came of it"),
        Binding("escape", "back", "back", id="scratch.back", key_display="esc",
                tooltip="end typing, so that letters act; then back to the problems"),
    ]

    def __init__(self, scratch: Scratch) -> None:
        super().__init__()
        self.scratch = scratch
        self._edited = ""
        """What the last edit was, while the original is shown."""
        self._unkept = ""

    def compose_body(self) -> ComposeResult:
        """What it is of and where it is kept; prompt and editor; what came of it."""
        yield Panel("scratch-about")
        with Container(id="scratch-body"):
            with Vertical(id="scratch-left"):
                yield PagePane("scratch-prompt", grows=True)
                yield CompletionEditor("scratch-code")
            yield PagePane("scratch-result")

    def on_mount(self) -> None:
        """Begin with the text as it was left."""
        scratch = self.scratch
        self.query_one("#scratch-about", Panel).show(self._about)
        self.query_one("#scratch-prompt", PagePane).border_title = "prompt"
        self._editor.border_title = "completion, a scratch copy"
        self._result.border_title = "what came of it"
        prompt = head_blocks(Program(scratch.problem, ""), Marks(), "prompt")[1:]
        self.query_one("#scratch-prompt", PagePane).show(prompt)
        self._begin()
        if not scratch.loaded:
            self.run_worker(self._load())

    async def _load(self) -> None:
        """Take up what an earlier session left in the file, unless something was typed by then."""
        text = await asyncio.to_thread(self.scratch.read)
        self.scratch.loaded = True
        if text is not None and text != self.scratch.original and not self.scratch.edited:
            self.scratch.text = text
            self._begin()

    def _begin(self) -> None:
        scratch = self.scratch
        self._editor.begin(scratch.text, scratch.stand_ins, Program(scratch.problem, "").first_written)
        self._show()

    @property
    def _editor(self) -> CompletionEditor:
        return self.query_one(CompletionEditor)

    @property
    def _result(self) -> PagePane:
        return self.query_one("#scratch-result", PagePane)

    def show_scene(self, scene: Scene) -> None:
        """The header alone is about the followed run."""

    def _about(self, width: int, height: int) -> Content:
        scratch = self.scratch
        state = ("edited", "bold $text-warning") if scratch.edited else ("as stored", "$text-muted")
        legend = scratch.stand_ins.legend
        kept = (f"the edits are not kept in a file: {self._unkept}" if self._unkept
                else f"edits are kept in {_path_words(scratch.file)}")
        first = Content.assemble(
            " ", (visible_line(scratch.problem.task_id), "bold"), f"  {visible_line(scratch.problem.entry_point)}",
            (f"   {scratch.label}   ", "$text-muted"), state)
        second = Content.assemble(" ", (visible_line(kept), "$text-error" if self._unkept else "$text-muted"),
                                  (f"   {legend}" if legend else "", "$text-muted"))
        return Content("\n").join([first.truncate(width, ellipsis=True), second.truncate(width, ellipsis=True)])

    def _show(self) -> None:
        """Bring all but the text up to date."""
        found = self._found()
        self._editor.mark(found.failing)
        self._result.show(self._blocks(found), stay=True)
        self.query_one("#scratch-about", Panel).refresh()

    def _found(self) -> Marks:
        """The lines that the verdict names, while it is of this text."""
        scratch = self.scratch
        if scratch.rerun is None or scratch.rerun.ran is None or scratch.ran_text != scratch.text:
            return Marks()
        return marks_of(scratch.rerun.ran.detail, scratch.rerun.ran.traceback)

    def _blocks(self, found: Marks) -> Blocks:
        scratch, rerun, name = self.scratch, self.scratch.rerun, "scratch copy: "
        stored = verdict_blocks(scratch.stored, name="stored")
        if rerun is None:
            made: Blocks = (note("F5 runs the text against the tests, in the sandbox; nothing stored changes"),)
        elif rerun.working:
            made = (note(f"… {visible_line(rerun.working)}", "bold $text-warning"),)
        else:
            old = scratch.ran_text != scratch.text
            made = (*outcome_blocks(rerun, name),
                    *((note("the text has changed since: F5 runs it again", "$text-warning italic"),) if old else ()),
                    *output_blocks(rerun.attempt(scratch.text), name))
        tests = check_blocks(Program(scratch.problem, scratch.text), found)
        return (*made, BLANK, *stored, BLANK, *tests)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """The copy is what was typed."""
        text = self._editor.completion
        if text != self.scratch.text:
            self.scratch.text = text
            self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """One who types need not begin to."""
        if action == "type" and self.is_mounted:
            return not self._editor.has_focus
        return self.scratch.edited or bool(self._edited) if action == "original" else True

    def on_descendant_focus(self) -> None:
        """Other keys work while typing."""
        self.refresh_bindings()

    def action_run(self) -> None:
        """Run the text as it is."""
        self.run_worker(self._run(self.scratch.text), group="run", exclusive=True)

    async def _run(self, text: str) -> None:
        await self._keep()
        consent = cast("SofttuneApp", self.app).consent
        async for rerun in run_program(consent, self.scratch.run, self.scratch.problem, text):
            self._take(rerun, text)

    def _take(self, rerun: Rerun, text: str) -> None:
        self.scratch.rerun, self.scratch.ran_text = rerun, text
        self._show()
        self._result.scroll_home(animate=False)

    async def _keep(self) -> None:
        """Write the file, and tell where that is impossible."""
        self._unkept = await asyncio.to_thread(self.scratch.write)
        self.query_one("#scratch-about", Panel).refresh()

    def action_type(self) -> None:
        """Go on typing."""
        self.set_focus(self._editor)

    def action_original(self) -> None:
        """Put the stored completion in the editor, or the edited text again."""
        if self.scratch.edited:
            self._edited = self.scratch.text
            self._editor.put(self.scratch.original)
        elif self._edited:
            self._editor.put(self._edited)

    def action_move(self, lines: int) -> None:
        """Scroll what came of it."""
        self._result.scroll_relative(y=lines, animate=False)

    def action_back(self) -> None:
        """End typing; then leave."""
        if self._editor.has_focus:
            self.set_focus(self._result)
        else:
            self.dismiss()

    def on_unmount(self) -> None:
        """The file has the last word, also when the app ends."""
        self.scratch.write()

    def copy_text(self) -> tuple[str, str] | None:
        """Prompt and text."""
        scratch = self.scratch
        return f"scratch copy of {scratch.problem.task_id}", scratch.problem.prompt + scratch.text


def _path_words(path: Path) -> str:
    """A path as short as it can be told: from the working folder, else from the home folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else home_relative(path)
