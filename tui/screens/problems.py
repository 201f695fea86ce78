"""The Problems screen: which problems pass, and why the others do not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, OptionList

from tui.follower import Scene
from tui.problems.by_hand import ByHand
from tui.problems.code import warm_up
from tui.problems.detail import Look, View, detail_blocks, problem_text
from tui.problems.files import EvaluationRef
from tui.problems.heading import heading_content
from tui.problems.listing import Row, Show, chosen, offered
from tui.problems.options import ProblemOptions
from tui.problems.page import Blocks
from tui.problems.pair import pair_blocks
from tui.problems.pane import LatestPage
from tui.problems.source import Opened, empty_blocks, hint_of, read_opened, refs_of, rows_of_scene
from tui.screens.base import RunScreen
from tui.screens.scratch import ScratchScreen
from tui.widgets.field import Field
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.app import SofttuneApp

_FAILURES = Binding.Group("failures", compact=True)
_STEPS = Binding.Group("problems", compact=True)

ROOMY = 150
"""Columns from which the list of two evaluations spells everything out, and leaves two readable columns beside it."""


class ProblemsScreen(RunScreen):
    """Steps through problems; the list on the left, one problem in full on the right."""

    TAB = "Problems"
    CSS_PATH = "problems.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("0", "follow", "back", id="problems.follow",
                tooltip="back from an opened evaluation to the run that is followed"),
        Binding("f", "next_filter", "filter", id="problems.filter",
                tooltip="show all, failed, passed, timed out, cheated, held-out, flipped"),
        Binding("n", "failure(1)", "next failure", id="problems.next_failure", group=_FAILURES,
                tooltip="go to the next failed problem"),
        Binding("N", "failure(-1)", "previous failure", id="problems.previous_failure", key_display="N",
                group=_FAILURES,
                tooltip="go to the failed problem before"),
        Binding("d", "next_view", "diff", id="problems.diff",
                tooltip="the program, or its diff against the canonical solution"),
        Binding("r", "rerun", "rerun", id="problems.run_again",
                tooltip="run this completion again; what is stored does not change"),
        Binding("e", "edit", "edit", id="problems.edit",
                tooltip="edit this completion in a scratch copy, and run that"),
        Binding("slash", "search", "search", id="problems.search", key_display="/",
                tooltip="show problems with some words in them"),
        Binding("left_square_bracket", "step(-1)", "previous", id="problems.previous", key_display="[", group=_STEPS,
                tooltip="go one problem back"),
        Binding("right_square_bracket", "step(1)", "next", id="problems.next", key_display="]", group=_STEPS,
                tooltip="go one problem on"),
        Binding("j", "move(1)", "down", id="problems.down", show=False, tooltip="down in the list, or in the problem"),
        Binding("k", "move(-1)", "up", id="problems.up", show=False, tooltip="up in the list, or in the problem"),
        Binding("escape", "back", "list", id="problems.list", key_display="esc", show=False,
                tooltip="end the search, back to the list, back to the followed run"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.filter = Show.ALL
        self.words = ""
        self.view = View.PROGRAM
        self.opened: Opened | None = None
        """The evaluations that are shown instead of the followed run's."""
        self._reading = False
        self._rows: tuple[Row, ...] = ()
        self._by_hand = ByHand(self, self._show_detail)

    def compose_body(self) -> ComposeResult:
        """Counts, search, list beside detail."""
        yield Panel("counts")
        with Horizontal(id="problems-body"):
            with Vertical(id="list-side"):
                yield Field(placeholder="words to look for", id="search")
                yield ProblemOptions("problems")
            yield LatestPage("detail-side")

    def on_mount(self) -> None:
        """Begin on the list."""
        self.query_one("#counts", Panel).show(self._heading)
        self._list.focus()
        self.run_worker(asyncio.to_thread(warm_up))

    @property
    def _list(self) -> ProblemOptions:
        return self.query_one(ProblemOptions)

    @property
    def _pane(self) -> LatestPage:
        return self.query_one(LatestPage)

    def on_resize(self) -> None:
        """Lines are longer where there is room."""
        self.call_after_refresh(self._show_rows)

    def open_evaluations(self, a: EvaluationRef, b: EvaluationRef | None, task_id: str) -> None:
        """Show one evaluation, or two side by side, instead of the run that the app follows."""
        self._reading = True
        self._take_opened(Opened(a, b))
        self.run_worker(self._read(a, b, task_id), group="read", exclusive=True)

    async def _read(self, a: EvaluationRef, b: EvaluationRef | None, task_id: str) -> None:
        opened = await asyncio.to_thread(read_opened, a, b)
        self._reading = False
        self._take_opened(opened, task_id)

    def _take_opened(self, opened: Opened | None, task_id: str = "") -> None:
        """Show other rows; with a task that the filter hides, all of them."""
        self.opened = opened
        if self.filter is Show.FLIPPED and (opened is None or opened.b is None):
            self.filter = Show.ALL
        if self.view is View.BETWEEN and (opened is None or opened.b is None):
            self.view = View.PROGRAM
        self._rows = opened.rows() if opened else rows_of_scene(self.scene)
        self.query_one("#counts").styles.height = 1 + (len(opened.refs) if opened else 0)
        self.set_class(opened is not None and opened.b is not None, "-pair")
        if task_id and not any(row.key[0] == task_id for row in chosen(self._rows, self.filter, self.words)):
            self.filter = Show.ALL
            self._end_search()
        self._show_rows()
        if task_id:
            self._list.go_to_task(task_id)
            self._show_detail()
        self.call_after_refresh(self._show_detail)  # another list is wider or narrower
        self.refresh_bindings()

    def show_scene(self, scene: Scene) -> None:
        """New verdicts change their lines; lines come and go only when the problems do."""
        if self.opened is not None:
            return
        rows = rows_of_scene(scene)
        if rows != self._rows or not rows:
            self._rows = rows
            self._show_rows()

    def _show_rows(self) -> None:
        roomy = self.size.width >= ROOMY
        self.set_class(roomy, "-roomy")
        wide = roomy or self.has_class("-wide") and not self.has_class("-pair")
        self._list.show(chosen(self._rows, self.filter, self.words), wide)
        self._title_list()
        self.query_one("#counts", Panel).refresh()
        self._show_detail()

    def _title_list(self) -> None:
        at, count = self._list.highlighted, len(self._list.rows)
        checkpoint = self.scene.view.score.checkpoint if self.scene.view.score else self.scene.files.checkpoint
        name = "AB problem" if self.opened and self.opened.b else checkpoint if not self.opened else ""
        self._list.border_title = Content(name or "problems")
        self._list.border_subtitle = f"{(at or 0) + 1} of {count}" if count else "none"

    def _heading(self, width: int, height: int) -> Content:
        labels = self.opened.labels if self.opened else ()
        return heading_content(labels, self._rows, self.filter, self.words, width)

    def _show_detail(self) -> None:
        row, look = self._list.row, self._look()
        state = (row, look) if row else (self.opened, self.scene, self._reading)
        self._pane.border_title = "" if look.view is View.PROGRAM or row is None else str(look.view)
        self._pane.follow(state, row.key if row else None, lambda: self._blocks(row, look))

    def _blocks(self, row: Row | None, look: Look) -> Blocks:
        if row is None:
            return empty_blocks(self.scene, self.opened, self._reading, bool(self._rows))
        return detail_blocks(row, look) if row.b is None else pair_blocks(row, look, self._pane.room)

    def _look(self) -> Look:
        row = self._list.row
        reruns = self._by_hand.reruns(self._refs(), row) if row else ()
        return Look(self.view, reruns, hint_of(self.scene, self.opened))

    def _refs(self) -> list[EvaluationRef]:
        return refs_of(self.scene, self.opened, cast("SofttuneApp", self.app).runs)

    def copy_text(self) -> tuple[str, str] | None:
        """The problem: task, verdict, program, traceback."""
        row = self._list.row
        return (row.key[0], problem_text(row)) if row else None

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show the problem that the cursor is on."""
        self._title_list()
        self._pane.soon(self._show_detail)
        self.refresh_bindings()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Go into the detail, to scroll it."""
        self.set_focus(self._pane)

    def action_step(self, lines: int) -> None:
        """Move the cursor by whole problems, from wherever the focus is."""
        self._list.step(lines)

    def action_move(self, lines: int) -> None:
        """Move in what has the focus."""
        if self._pane.has_focus:
            self._pane.scroll_relative(y=lines, animate=False)
        else:
            self._list.step(lines)

    def action_failure(self, direction: int) -> None:
        """Go to the nearest failed problem in a direction, round the end where need be."""
        said = self._list.go_to_failure(direction)
        if said:
            self.notify(said, timeout=2)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search while typing."""
        self.words = event.value
        self._show_rows()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the search and go on in the list."""
        self.set_focus(self._list)

    def action_next_filter(self) -> None:
        """Go to the next filter of the cycle."""
        self.filter = self.filter.following(offered(self._rows, self.opened is not None and self.opened.b is not None))
        self._show_rows()

    def action_next_view(self) -> None:
        """Go to the next view of the cycle."""
        self.view = self.view.following(self.opened is not None and self.opened.b is not None)
        self._show_detail()

    def action_search(self) -> None:
        """Open the search field."""
        self.add_class("-searching")
        self.set_focus(self.query_one(Input))

    def _end_search(self) -> None:
        self.remove_class("-searching")
        self.query_one(Input).value = self.words = ""

    def action_back(self) -> None:
        """End the search; back to the list; back to the followed run."""
        if self.query_one(Input).has_focus or (self.words and self._list.has_focus):
            self._end_search()
        elif self._list.has_focus and self.opened is not None:
            self.action_follow()
        self.set_focus(self._list)

    def action_follow(self) -> None:
        """Show the followed run again."""
        self.workers.cancel_group(self, "read")
        self._reading = False
        self._take_opened(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a completion can be run, and only an opened evaluation be left."""
        if action == "follow":
            return self.opened is not None
        if action in ("rerun", "edit") and self.is_mounted:
            row = self._list.row
            return row is not None and any(one.state.completion is not None for one in row.attempts)
        return True

    def action_rerun(self) -> None:
        """Run the completions on the page again."""
        row = self._list.row
        if row is not None:
            self._pane.scroll_home(animate=False)  # where its verdict comes
            self._by_hand.rerun(self._refs(), row)

    def action_edit(self) -> None:
        """Edit a completion in a scratch copy."""
        row = self._list.row
        if row is None:
            return
        scratch = self._by_hand.scratch(self._refs(), row)
        if isinstance(scratch, str):
            self.notify(scratch, title="it cannot be run", severity="warning", markup=False)
            return
        screen = ScratchScreen(scratch)
        screen.scene = self.scene
        self.app.push_screen(screen)
