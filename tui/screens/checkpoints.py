"""The Checkpoints screen: every checkpoint of every run, and what can be done with one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.worker import Worker

from core.contract.checkpoint_files import check_deletable, delete_checkpoint, publish, restore_checkpoint
from core.contract.errors import SofttuneError
from core.contract.runs import BEST_PUBLISHED
from core.contract.workbench import ScoreCheckpoint
from tui.checkpoints.browser import CheckpointBrowser
from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.deploy import DeployDialog
from tui.checkpoints.detail import read_detail
from tui.checkpoints.dialogs import CheckpointDetail
from tui.checkpoints.export import ExportDialog
from tui.checkpoints.importing import ImportDialog
from tui.checkpoints.jobs import ScoreJob, job_line, outcome_words
from tui.checkpoints.questions import called, delete_words, publish_words, score_words
from tui.checkpoints.table import CheckpointTable
from tui.problems.files import EvaluationRef
from tui.screens.dialogs import Confirm, Message
from tui.visible import visible, visible_line
from tui.widgets.panel import Panel

_NEEDS_ROWS = frozenset({"open", "sort", "reverse", "filter", "compare"})
_NEEDS_A_CHECKPOINT = frozenset({"mark", "tokens", "publish", "export", "deploy", "score", "delete", "run", "problems"})

Value = TypeVar("Value")


class CheckpointsScreen(CheckpointBrowser):
    """Opens, compares, publishes, exports, serves, imports, scores, deletes and restores checkpoints."""

    TAB = "Checkpoints"
    CSS_PATH = "checkpoints.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark", id="checkpoints.mark", key_display="space",
                tooltip="mark A, then B; a third moves B, again takes the mark away"),
        Binding("c", "compare", "compare", id="checkpoints.compare", tooltip="compare the two that are marked"),
        Binding("enter", "open", "open", id="checkpoints.open", key_display="enter",
                tooltip="show all that is known of a checkpoint"),
        Binding("slash", "filter", "filter", id="checkpoints.filter", key_display="/",
                tooltip="show rows with words of run, name, model; scored, damaged"),
        Binding("o", "sort", "sort", id="checkpoints.sort", tooltip="choose the column to sort by"),
        Binding("O", "reverse", "reverse", id="checkpoints.reverse", key_display="O", show=False,
                tooltip="sort the other way round"),
        Binding("m", "members", "members", id="checkpoints.members", show=False,
                tooltip="the checkpoints of trials and folds too, or those of whole runs alone"),
        Binding("x", "give_up", "give up scoring", id="checkpoints.give_up", tooltip="give up the scoring; asks first"),
        Binding("t", "tokens", "tokens", id="checkpoints.tokens",
                tooltip="show the vocabulary tokens nearest to each virtual token"),
        Binding("p", "problems", "problems", id="checkpoints.problems",
                tooltip="show its problems, one by one; it has to be scored"),
        Binding("E", "score", "score", id="checkpoints.score", key_display="E",
                tooltip="complete and execute its problems, for minutes; asks first"),
        Binding("P", "publish", "publish", id="checkpoints.publish", key_display="P",
                tooltip="make it the soft prompt that inference uses; asks first"),
        Binding("e", "export", "export", id="checkpoints.export",
                tooltip="write it in another format, for other programs"),
        Binding("d", "deploy", "deploy", id="checkpoints.deploy",
                tooltip="how vLLM, a container or transformers serve an export of it"),
        Binding("I", "import", "import", id="checkpoints.import", key_display="I",
                tooltip="make a run of an adapter of peft or a softtune export"),
        Binding("D", "delete", "delete", id="checkpoints.delete", key_display="D",
                tooltip="delete it with its scores; asks first; no running run's"),
        Binding("u", "restore", "undelete", id="checkpoints.restore", tooltip="bring back what was deleted last"),
        Binding("i", "run", "its run", id="checkpoints.run", tooltip="show its run on the Train screen"),
        Binding("escape", "back", "table", id="checkpoints.table", key_display="esc", show=False,
                tooltip="end the filter, back to the table"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.job: ScoreJob | None = None
        self._scoring: Worker[None] | None = None

    def on_mount(self) -> None:
        """The line of a scoring paints from the job."""
        self.query_one("#checkpoint-job", Panel).show(
            lambda width, height: job_line(self.job, width) if self.job else Content(""))

    def would_lose(self) -> str:
        """A scoring under way ends with the app."""
        return f"The scoring of {visible_line(self.job.name)} is not done yet." if self.job is not None else ""

    def possible(self) -> object:
        """A scoring can be given up while it goes on."""
        return super().possible(), self.job is not None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is impossible for the row under the cursor is not offered."""
        if action in _NEEDS_ROWS:
            return bool(self.catalogue.rows)
        if action in _NEEDS_A_CHECKPOINT:
            return self.is_mounted and self.row is not None and not self.row.damage
        return {"give_up": self.job is not None, "restore": bool(self.catalogue.trash)}.get(action, True)

    async def _in_thread(self, work: Callable[[], Value]) -> Value | None:
        """What slow work gives; None where it fails, and then that is told."""
        try:
            return await asyncio.to_thread(work)
        except SofttuneError as error:
            self.app.push_screen(Message(error.what, error.remedy, "error"))
            return None

    def on_line_table_opened(self) -> None:
        """As enter does."""
        self.action_open()

    def action_open(self) -> None:
        """Show all that is known of a checkpoint."""
        if self.row is not None:
            self.run_worker(self._open(self.row), group="open", exclusive=True)

    async def _open(self, row: CheckpointRow) -> None:
        detail = await self._in_thread(lambda: read_detail(row))
        action = await self.app.push_screen_wait(CheckpointDetail(row, detail)) if detail else ""
        if action:
            self.call_later(self.run_action, action)

    def action_compare(self) -> None:
        """Compare A with B."""
        marked = {self.marks[row.key]: row for row in self.catalogue.rows if row.key in self.marks}
        if len(marked) < 2:
            missing = "two checkpoints" if not marked else "another checkpoint"
            self.notify(f"mark {missing} first: space marks, then c compares", timeout=4)
            return
        from tui.screens.compare import CompareScreen

        self.app.push_screen(CompareScreen(marked["A"], marked["B"]))

    def action_tokens(self) -> None:
        """Show what the virtual tokens are near to."""
        if self.row is not None:
            from tui.screens.tokens import TokensScreen

            self.app.push_screen(TokensScreen(self.row))

    async def action_run(self) -> None:
        """Show the run on the Train screen."""
        if self.row is not None:
            await self.softtune.open_run(self.row.run.run_id)

    async def action_problems(self) -> None:
        """Show the problems of a scored checkpoint."""
        row = self.row
        if row is None:
            return
        if row.scored:
            await self.softtune.open_problems(EvaluationRef(row.run, row.name))
        else:
            self.notify(f"{visible_line(row.name)} is not scored yet: E scores it", timeout=4, markup=False)

    def action_export(self) -> None:
        """Ask how and where to, and export."""
        if self.row is not None:
            self.run_worker(self._export(self.row), group="export", exclusive=True)

    async def _export(self, row: CheckpointRow, choice: str = "peft") -> None:
        folder = await self.app.push_screen_wait(ExportDialog(row, self.softtune.workbench, choice))
        if folder:
            await self._deploy(row, folder)

    def action_deploy(self) -> None:
        """Show how its export is served."""
        if self.row is not None:
            self.run_worker(self._deploy(self.row), group="export", exclusive=True)

    async def _deploy(self, row: CheckpointRow, folder: str = "") -> None:
        if await self.app.push_screen_wait(DeployDialog(row, folder)):
            await self._export(row, "merged")

    def action_import(self) -> None:
        """Ask for a folder, and make a run of it."""
        self.run_worker(self._import(), group="import", exclusive=True)

    async def _import(self) -> None:
        made = await self.app.push_screen_wait(ImportDialog(self.softtune.workbench))
        if made:
            path = Path(made)
            self.action_back()  # a filter may leave the new row out
            self.query_one(CheckpointTable).wish(f"{path.parent.parent.name}/{path.stem}")
            await self.read()

    def action_publish(self) -> None:
        """Publish, once the user has confirmed it."""
        if self.row is not None:
            self.run_worker(self._publish(self.row), group="publish", exclusive=True)

    async def _publish(self, row: CheckpointRow) -> None:
        words = await self._in_thread(lambda: publish_words(row, self.catalogue.rows))
        if not words:
            self.notify(f"{called(row)} is published already: {BEST_PUBLISHED}", timeout=4, markup=False)
        elif await self.app.push_screen_wait(Confirm(f"Publish {called(row)} as {BEST_PUBLISHED}?", words)):
            done = await self._in_thread(lambda: publish(row.path))
            if done is not None:
                kept = f"\nwhat it replaced: {visible_line(str(done.kept))}" if done.kept else ""
                self.notify(f"published as {done.target}{kept}", markup=False)

    def action_delete(self) -> None:
        """Delete, once the user has confirmed it."""
        if self.row is not None:
            self.run_worker(self._delete(self.row), group="delete", exclusive=True)

    async def _delete(self, row: CheckpointRow) -> None:
        if self.job is not None and self.job.key == row.key:
            self.notify(f"{called(row)} is being scored: x gives that up", severity="warning", markup=False)
            return

        def look() -> str:
            check_deletable(row.run, row.name)
            return delete_words(row, self.catalogue.rows)

        words = await self._in_thread(look)
        if not words or not await self.app.push_screen_wait(Confirm(f"Delete {called(row)}?", words)):
            return
        deleted = await self._in_thread(lambda: delete_checkpoint(row.run, row.name))
        if deleted is not None:
            self.notify(f"deleted {called(row)}: u brings it back", markup=False)
            await self.read()

    def action_restore(self) -> None:
        """Bring back what was deleted last."""
        self.run_worker(self._restore(), group="delete", exclusive=True)

    async def _restore(self) -> None:
        if self.catalogue.trash:
            deleted = self.catalogue.trash[-1]
            if await self._in_thread(lambda: restore_checkpoint(deleted)):
                self.notify(f"{visible_line(deleted.name)} of {visible_line(deleted.folder.run_id)} is there again",
                            markup=False)
                self.query_one(CheckpointTable).wish(f"{deleted.folder.run_id}/{deleted.name}")
                await self.read()

    def action_score(self) -> None:
        """Score, once the user has confirmed it; one at a time."""
        row = self.row
        if row is None:
            return
        if self.job is not None:
            self.notify(f"{visible_line(self.job.name)} of {visible_line(self.job.run_id)} is being scored: x gives it "
                        "up", severity="warning", markup=False)
            return

        def answered(yes: bool | None) -> None:
            if yes and self.job is None:
                self._scoring = self.run_worker(self._score(row), group="score")

        self.app.push_screen(Confirm(f"Score {called(row)}?", score_words(row)), answered)

    async def _score(self, row: CheckpointRow) -> None:
        """Follows the workbench, whatever screen is shown; cancelling this gives the scoring up."""
        def request(number: int, *, allow_weak: bool) -> ScoreCheckpoint:
            return ScoreCheckpoint(id=number, run=str(row.run.root), checkpoint=row.name, allow_weak_sandbox=allow_weak)

        job = ScoreJob(row.run.run_id, row.name)
        try:
            async with aclosing(self.softtune.consent.ask(request)) as replies:
                self._show_job(job)
                async for reply in replies:
                    job = job.after(reply)
                    self._show_job(job)
        finally:
            self._show_job(None)
        await self.read()
        if job.refusal is not None and job.refusal.setting:  # the user was asked, and said no
            self.notify(f"{visible(job.refusal.what)}\n→ {visible(job.refusal.remedy)}",
                        title=f"{called(row)} is not scored", severity="warning", markup=False, timeout=8)
        elif job.refusal is not None:
            self.app.push_screen(Message(f"{called(row)} could not be scored: {visible_line(job.refusal.what)}",
                                         visible(job.refusal.remedy), "error"))
        else:
            self.notify(outcome_words(job), title="scored", markup=False, timeout=8)

    def _show_job(self, job: ScoreJob | None) -> None:
        self.job = job
        for panel in self.query("#checkpoint-job"):  # none when the app is closing
            self.set_class(job is not None, "-scoring")
            panel.refresh()
            self.check_keys()

    def action_give_up(self) -> None:
        """Give the scoring up, once the user has confirmed it."""
        def answered(yes: bool | None) -> None:
            if yes and self.job is not None and self._scoring is not None:
                name = visible_line(self.job.name)
                self._scoring.cancel()
                self.notify(f"gave up scoring {name}", markup=False)

        if self.job is not None:
            self.app.push_screen(Confirm(f"Give up scoring {visible_line(self.job.name)}?",
                                         "What was completed so far is lost."), answered)
