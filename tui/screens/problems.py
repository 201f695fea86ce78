"""The Problems screen: which problems pass, and why the others do not."""

from __future__ import annotations

from time import monotonic
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.follower import Scene
from tui.problem_detail import STATUS_STYLES, detail_content, row_content
from tui.problem_files import EvaluationRef
from tui.problem_list import GLYPHS, Row, Show, Status, chosen, counts, rows_of
from tui.screens.base import RunScreen
from tui.widgets.panel import Panel

_FAILURES = Binding.Group("failures", compact=True)
_STEPS = Binding.Group("problems", compact=True)

SHORTEST_INTERVAL = 0.1
"""Seconds between two problems in full while `]` is held down; the list itself moves with every key."""


class ProblemsScreen(RunScreen):
    """Steps through problems; the list on the left, one problem in full on the right."""

    TAB = "Problems"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "next_filter", "filter", id="problems.filter",
                tooltip="show all problems, the failed, the passed, the held-out ones"),
        Binding("slash", "search", "search", id="problems.search", key_display="/",
                tooltip="show problems with some words in them"),
        Binding("n", "failure(1)", "next failure", id="problems.next_failure", group=_FAILURES,
                tooltip="go to the next failed problem"),
        Binding("N", "failure(-1)", "previous failure", id="problems.previous_failure", key_display="N",
                group=_FAILURES,
                tooltip="go to the failed problem before"),
        Binding("left_square_bracket", "step(-1)", "previous", id="problems.previous", key_display="[", group=_STEPS,
                tooltip="go one problem back"),
        Binding("right_square_bracket", "step(1)", "next", id="problems.next", key_display="]", group=_STEPS,
                tooltip="go one problem on"),
        Binding("escape", "back", "list", id="problems.list", key_display="esc", show=False,
                tooltip="end the search, back to the list"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.filter = Show.ALL
        self.words = ""
        self._rows: tuple[Row, ...] = ()
        self._shown: dict[str, Row] = {}
        self._detail: Row | None = None
        """What the pane shows; `_kept` is the problem to come back to when a search that fits nothing ends."""
        self._detail_at = 0
        self._kept = ""
        self._shown_at = 0.0
        self._later: Timer | None = None
        self._marked = ""

    def open_evaluations(self, a: EvaluationRef, b: EvaluationRef | None, task_id: str) -> None:
        """Show one evaluation, or two side by side, instead of the run that the app follows."""

    def compose_body(self) -> ComposeResult:
        """Counts, search, list beside detail."""
        yield Panel("counts")
        with Horizontal(id="body"):
            with Vertical(id="list-side"):
                yield Input(placeholder="words to look for", id="search")
                yield OptionList(id="problems")
            with VerticalScroll(id="detail-side"):
                yield Static(id="detail", markup=False)

    def on_mount(self) -> None:
        """Begin on the list."""
        super().on_mount()
        self.query_one("#counts", Panel).show(self._counts)
        self.query_one(OptionList).focus()

    def on_resize(self) -> None:
        """Lines are longer where there is room."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        self._refill()
        self._show_detail()

    def show_scene(self, scene: Scene) -> None:
        """New verdicts change their lines; lines come and go only when the problems do."""
        rows = rows_of(scene.view, scene.files)
        if rows != self._rows:
            self._rows = rows
            self._show_rows()

    def _show_rows(self) -> None:
        fitting = {_option_id(row): row for row in chosen(self._rows, self.filter, self.words)}
        if list(fitting) != list(self._shown):
            self._shown = fitting
            self._refill()
        else:
            problems, before = self.query_one(OptionList), self._shown
            self._shown = fitting
            for key, row in fitting.items():
                if row != before[key]:
                    problems.replace_option_prompt(key, row_content(row, self._wide, key == self._marked))
        self.query_one("#counts", Panel).refresh()
        self._show_detail()

    @property
    def _wide(self) -> bool:
        return self.has_class("-wide")

    def _refill(self) -> None:
        problems = self.query_one(OptionList)
        at = self._kept
        problems.clear_options()
        self._marked = ""
        problems.add_options(Option(row_content(row, self._wide, False), id=key) for key, row in self._shown.items())
        if self._shown:
            keys = list(self._shown)
            problems.highlighted = keys.index(at) if at in self._shown else 0

    def _row(self) -> Row | None:
        at = self.query_one(OptionList).highlighted
        rows = list(self._shown.values())
        return rows[at] if at is not None and at < len(rows) else None

    def _show_detail(self) -> None:
        row, width = self._row(), self._detail_width
        if row is not None and (row, width) == (self._detail, self._detail_at):
            return
        same = row is not None and self._detail is not None and row.key == self._detail.key
        self.query_one("#detail", Static).update(detail_content(row, width) if row else self._nothing())
        self._detail, self._detail_at, self._shown_at = row, width, monotonic()
        if row is not None:
            self._kept = _option_id(row)
        if not same:
            self.query_one("#detail-side", VerticalScroll).scroll_home(animate=False)

    @property
    def _detail_width(self) -> int:
        return self.query_one("#detail-side").scrollable_content_region.width or 80

    def _nothing(self) -> Content:
        if self.scene.files.fault:
            return Content.styled(f"✗ {self.scene.files.fault}", "$text-error")
        if self._rows:
            return Content.assemble("No problem fits. ", ("f", "bold $accent"), " changes the filter, ",
                                    ("/", "bold $accent"), " the words.")
        return Content.assemble("No problems yet: they appear when a run has loaded them.\n",
                                ("1", "bold $accent"), " goes to Train, where ", ("s", "bold $accent"), " starts one.")

    def _counts(self, width: int, height: int) -> Content:
        number = counts(self._rows)
        parts = [Content.styled(f"{GLYPHS[status]} {number[status]} {status}", STATUS_STYLES[status])
                 for status in Status if number[status] or status in (Status.PASSED, Status.FAILED)]
        checkpoint = self.scene.view.score.checkpoint if self.scene.view.score else self.scene.files.checkpoint
        if checkpoint:
            parts.append(Content.styled(checkpoint, "$text-muted"))
        showing = [] if self.filter is Show.ALL else [self.filter.value]
        showing += [f"“{self.words}”"] if self.words else []
        if showing:
            parts.append(Content.styled(f"showing {len(self._shown)}: {', '.join(showing)}", "bold $text-accent"))
        return Content.assemble(" ", Content("   ").join([Content(f"{len(self._rows)} problems"), *parts]))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show the problem that the cursor is on."""
        self._mark(event.option_id or "")
        wait = self._shown_at + SHORTEST_INTERVAL - monotonic()
        if wait <= 0:
            self._show_detail()
        elif self._later is None:
            self._later = self.set_timer(wait, self._show_highlighted)

    def _show_highlighted(self) -> None:
        self._later = None
        self._show_detail()

    def _mark(self, key: str) -> None:
        """Move the cursor's sign to another line."""
        before, self._marked = self._marked, key
        for changed in {before, key} & set(self._shown):
            prompt = row_content(self._shown[changed], self._wide, changed == key)
            self.query_one(OptionList).replace_option_prompt(changed, prompt)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Go into the detail, to scroll it."""
        self.query_one("#detail-side").focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search while typing."""
        self.words = event.value
        self._show_rows()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the search and go on in the list."""
        self.query_one(OptionList).focus()

    def action_next_filter(self) -> None:
        """Go to the next filter of the cycle."""
        self.filter = self.filter.following
        self._show_rows()

    def action_search(self) -> None:
        """Open the search field."""
        self.add_class("-searching")
        self.query_one(Input).focus()

    def action_back(self) -> None:
        """End the search; back to the list."""
        if self.query_one(Input).has_focus or (self.words and self.query_one(OptionList).has_focus):
            self.remove_class("-searching")
            self.query_one(Input).value = ""
        self.query_one(OptionList).focus()

    def action_step(self, lines: int) -> None:
        """Move the cursor by whole problems, from wherever the focus is."""
        problems = self.query_one(OptionList)
        if self._shown:
            at = (problems.highlighted if problems.highlighted is not None else -1) + lines
            problems.highlighted = min(len(self._shown) - 1, max(0, at))

    def action_failure(self, direction: int) -> None:
        """Go to the nearest failed problem in a direction."""
        problems = self.query_one(OptionList)
        rows = list(self._shown.values())
        at = problems.highlighted if problems.highlighted is not None else -1
        order = range(at + 1, len(rows)) if direction > 0 else range(at - 1, -1, -1)
        found = next((index for index in order if rows[index].status is Status.FAILED), None)
        if found is None:
            self.notify("no failed problem further " + ("down" if direction > 0 else "up"), timeout=2)
        else:
            problems.highlighted = found


def _option_id(row: Row) -> str:
    return f"{row.key[0]}#{row.key[1]}"
