"""The Compare screen: two checkpoints side by side, and the problems that flipped between them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import OptionList, Static

from tui.checkpoints.catalogue import CheckpointRow
from tui.compare.comparison import Comparison, Side, compared, read_side
from tui.compare.cosines import cosines_text
from tui.compare.curves import CurveSide, CurvesReader, RunCurves, curves_picture
from tui.compare.metrics import metrics, metrics_content
from tui.compare.sections import PARTS, Section, parts_of, section_bar
from tui.compare.settings import settings_content
from tui.compare.words import comparison_text, nothing_flipped, sentences, settings_words, side_line
from tui.problems.files import EvaluationRef
from tui.screens.base import RunScreen
from tui.widgets.cosine_pane import CosinePane
from tui.widgets.flip_list import FlipList
from tui.widgets.panel import Panel
from tui.widgets.plot import Plot

if TYPE_CHECKING:
    from tui.app import SofttuneApp

ROOMY = 118
"""Columns from which there is room for parts beside each other."""

_MOVE = Binding.Group("move", compact=True)
_TOKENS = Binding.Group("tokens of A, B", compact=True)


def _moves() -> Iterator[Binding]:
    """The letter of each direction is in the hints, its arrow in the help alone."""
    for letter, arrow, action, words, tooltip in (
        ("j", "down", "move(1, 0)", "down", "go to the next problem, line or row of the map"),
        ("k", "up", "move(-1, 0)", "up", "go to the problem, line or row of the map before"),
        ("h", "left", "move(0, -1)", "left", "go left in the cosine map"),
        ("l", "right", "move(0, 1)", "right", "go right in the cosine map"),
    ):
        yield Binding(letter, action, words, id=f"compare.{words}", group=_MOVE, tooltip=tooltip)
        yield Binding(arrow, action, words, id=f"compare.{words}", show=False, tooltip=tooltip)


class CompareScreen(RunScreen):
    """Compares checkpoint B with checkpoint A."""

    TAB = "Compare"
    HOME = "Checkpoints"
    CSS_PATH = "compare.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open_problem", "open", id="compare.open", key_display="enter",
                tooltip="show the problem in Problems, with both completions"),
        Binding("tab,v", "next_section(1)", "section", id="compare.section", key_display="tab",
                tooltip="next: overview, problems, settings, curves, cosine map"),
        Binding("shift+tab", "next_section(-1)", "section before", id="compare.section_before", show=False,
                tooltip="go one section back"),
        Binding("r", "ask_again", "try again", id="compare.again", tooltip="ask for the cosine map once more"),
        Binding("escape", "back", "back", id="compare.back", key_display="esc", tooltip="back to the checkpoints"),
        Binding("t", "tokens('a')", "tokens of A", id="compare.tokens_a", group=_TOKENS,
                tooltip="show the vocabulary tokens nearest to A's virtual tokens"),
        Binding("b", "tokens('b')", "tokens of B", id="compare.tokens_b", group=_TOKENS,
                tooltip="show the vocabulary tokens nearest to B's virtual tokens"),
        Binding("L", "toggle_log", "log scale", id="compare.log_scale", key_display="L",
                tooltip="logarithmic y axis for the curves"),
        Binding("x", "swap", "swap", id="compare.swap", tooltip="compare the other way round"),
        *_moves(),
        Binding("pagedown", "move(10, 0)", "ten down", id="compare.ten_down", key_display="PgDn", show=False,
                tooltip="go ten problems, lines or rows down"),
        Binding("pageup", "move(-10, 0)", "ten up", id="compare.ten_up", key_display="PgUp", show=False,
                tooltip="go ten problems, lines or rows up"),
    ]

    def __init__(self, a: CheckpointRow, b: CheckpointRow) -> None:
        super().__init__()
        self.comparison = Comparison(Side(a), Side(b))
        self.section = Section.OVERVIEW
        self.logarithmic = False
        self._curves: dict[str, RunCurves] = {}
        self._reading = True

    @property
    def softtune(self) -> SofttuneApp:
        """The app, which has the workbench and the other screens."""
        from tui.app import SofttuneApp

        assert isinstance(self.app, SofttuneApp)
        return self.app

    @property
    def cosines(self) -> CosinePane:
        """The part with the cosine map."""
        return self.query_one(CosinePane)

    def compose_body(self) -> ComposeResult:
        """Who is compared, the sections, and their parts."""
        yield Panel("compare-a")
        yield Panel("compare-b")
        yield Panel("compare-sections")
        with Horizontal(id="compare-body"):
            with Vertical(id="compare-left"):
                with VerticalScroll(id="compare-metrics", can_focus=False):
                    yield Static(id="compare-table", markup=False)
                with Vertical(id="compare-problems"):
                    yield Static(id="compare-sentences", markup=False)
                    yield FlipList("compare-flips")
            with Vertical(id="compare-right"):
                yield Plot("compare-curves")
                with VerticalScroll(id="compare-settings", can_focus=False):
                    yield Static(id="compare-differences", markup=False)
        yield CosinePane("compare-cosines")

    def on_mount(self) -> None:
        """Show what is known already, and read the rest."""
        self.scene = self.softtune.scene
        for name, title in (("metrics", "metrics"), ("problems", "problems that flipped"),
                            ("settings", "settings that differ")):
            self.query_one(f"#compare-{name}").border_title = f"[b]{title}[/b]"
        self.query_one("#compare-a", Panel).show(lambda width, height: side_line("A", self.comparison.a, width))
        self.query_one("#compare-b", Panel).show(lambda width, height: side_line("B", self.comparison.b, width))
        self.query_one("#compare-sections", Panel).show(lambda width, height: section_bar(self.section, width))
        self._show()
        self.run_worker(self._read(), group="compare-files")

    async def _read(self) -> None:
        """Files are read in a thread: first the small ones, then the events, part by part."""
        rows = self.comparison.a.row, self.comparison.b.row
        a, b = [await asyncio.to_thread(read_side, row) for row in rows]
        swapped = self.comparison.a.row is not rows[0]
        self.comparison = compared(b, a) if swapped else compared(a, b)
        self._show()
        for folder in {row.run.run_id: row.run for row in rows}.values():
            reader = CurvesReader(folder)
            while not reader.done:
                self._curves[folder.run_id] = await asyncio.to_thread(reader.read)
                self._show_curves()
        self._reading = False
        self._show_curves()

    def on_resize(self) -> None:
        """There is room for more parts, or for fewer."""
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        """Bring every part up to date."""
        try:
            with self.app.batch_update():
                self._show_parts()
                for name in ("a", "b", "sections"):
                    self.query_one(f"#compare-{name}", Panel).refresh()
        except NoMatches:
            return  # a resize that arrives before the widgets do
        self.call_after_refresh(self._fill)

    def _show_parts(self) -> None:
        slim = self.size.width < ROOMY
        shown = parts_of(self.section, slim, self.has_class("-short"))
        self.set_class(slim, "-compare-slim")
        for part in PARTS:
            self.query_one(f"#compare-{part}").display = part in shown
        self.query_one("#compare-left").display = bool(shown & {"metrics", "problems"})
        self.query_one("#compare-right").display = bool(shown & {"curves", "settings"})
        self.query_one("#compare-body").display = "cosines" not in shown
        self.set_class("metrics" in shown and "problems" in shown, "-compare-stacked")

    def _fill(self) -> None:
        """Fill the parts, now that it is known how wide they are."""
        said = sentences(self.comparison)
        flips = self.comparison.pairing.flips
        table = metrics_content(metrics(self.comparison), self._width("metrics"))
        if not self.query_one("#compare-problems").display:
            table = Content("\n").join([*said, Content(""), table])
        self.query_one("#compare-table", Static).update(table)
        words = [*said, *nothing_flipped(self.comparison)]
        self.query_one("#compare-sentences", Static).update(Content("\n").join(words))
        self.query_one(FlipList).show(flips)
        differences = self.comparison.differences
        lines = settings_words(self.comparison)
        lines += [settings_content(differences, self._width("settings"))] if differences else []
        self.query_one("#compare-differences", Static).update(Content("\n").join(lines))
        self._show_curves()
        if self.section is Section.COSINES and self.cosines.inquiry is None:
            self.action_ask_again()
        self.refresh_bindings()

    def _width(self, part: str) -> int:
        return self.query_one(f"#compare-{part}").scrollable_content_region.width or 72

    def _show_curves(self) -> None:
        sides = [CurveSide(self._curves.get(side.run_id, RunCurves()), side.row.step, side.row.heldout_loss)
                 for side in (self.comparison.a, self.comparison.b)]
        picture, values = curves_picture(*sides, one_run=self.comparison.one_run, logarithmic=self.logarithmic,
                                         reading=self._reading)
        self.query_one("#compare-curves", Plot).show(picture, values, at_once=not self._reading)

    def on_cosine_pane_changed(self) -> None:
        """There is a map to move in, or a refusal to try again."""
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys work where what they are for is shown."""
        if not self.is_mounted:
            return True
        if action == "open_problem":
            return self.query_one("#compare-problems").display and self.query_one(FlipList).flip is not None
        if action == "toggle_log":
            return bool(self.query_one("#compare-curves").display)
        if action == "ask_again":
            return self.section is Section.COSINES and self.cosines.refused
        if action == "move" and parameters[:1] == (0,):
            return self.section is Section.COSINES and bool(self.cosines.matrix)
        return True

    def copy_text(self) -> tuple[str, str] | None:
        """The comparison as text; of the cosine map, the map."""
        if self.section is Section.COSINES:
            return ("the cosine map", cosines_text(self.cosines.matrix)) if self.cosines.matrix else None
        return "the comparison", comparison_text(self.comparison)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click opens a problem."""
        self.call_later(self.action_open_problem)

    async def action_open_problem(self) -> None:
        """Show the problem under the cursor in Problems; this screen stays where 2 comes back to it."""
        flip, a, b = self.query_one(FlipList).flip, self.comparison.a.row, self.comparison.b.row
        if flip is not None:
            await self.softtune.open_problems(EvaluationRef(a.run, a.name), EvaluationRef(b.run, b.name), flip.task_id)

    def action_next_section(self, steps: int) -> None:
        """Go through the sections."""
        self.section = self.section.stepped(steps)
        self._show()

    def action_section(self, name: str) -> None:
        """Show a section that was clicked."""
        self.section = Section[name]
        self._show()

    def action_swap(self) -> None:
        """A becomes B; the cursors stay on their problem and on their pair."""
        self.comparison = self.comparison.swapped
        self.cosines.turn()
        self._show()

    def action_tokens(self, which: str) -> None:
        """Show what the virtual tokens of A or B are near to."""
        from tui.screens.tokens import TokensScreen

        self.app.push_screen(TokensScreen((self.comparison.a if which == "a" else self.comparison.b).row))

    def action_toggle_log(self) -> None:
        """Switch between a linear and a logarithmic y axis."""
        self.logarithmic = not self.logarithmic
        self._show_curves()

    def action_ask_again(self) -> None:
        """Ask for the cosine map once more."""
        self.cosines.ask(self.softtune.workbench, self.comparison.a.row, self.comparison.b.row)

    def action_move(self, down: int, across: int) -> None:
        """Move the cursor of the problems or of the map; scroll where there is none."""
        if self.section is Section.COSINES:
            self.cosines.move(down, across)
        elif self.query_one("#compare-problems").display:
            self.query_one(FlipList).move(down)
        else:
            part = "settings" if self.section is Section.SETTINGS else "metrics"
            self.query_one(f"#compare-{part}").scroll_relative(y=down, animate=False)

    def action_back(self) -> None:
        """Back to the checkpoints."""
        self.dismiss()
