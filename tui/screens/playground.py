"""The Playground screen: complete a prompt with and without a soft prompt, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import TextArea

from core.contract.workbench import Complete
from tui.follower import Scene
from tui.playground.checkpoints import Bench, CheckpointFile, survey
from tui.playground.choices import Choose, Entry, OptionsForm, checkpoint_entries, problem_entries, side_of
from tui.playground.completion import Completion, Phase
from tui.playground.options import Options
from tui.playground.words import base_idle, base_title, copied, options_line, soft_idle, soft_title
from tui.problems.files import Problem
from tui.screens.base import RunScreen
from tui.screens.dialogs import Message
from tui.visible import visible_line
from tui.widgets.completion_pane import CompletionPane
from tui.widgets.panel import Panel
from tui.widgets.prompt_area import PromptArea

if TYPE_CHECKING:
    from textual.worker import WorkType

    from tui.app import SofttuneApp

Side = Literal["base", "soft"]
SIDES: tuple[Side, ...] = ("base", "soft")
_STEPS = Binding.Group("problems", compact=True)
_COMPLETE = "complete the prompt, with both; F5 does it while typing"


class PlaygroundScreen(RunScreen):
    """Completes a prompt in two panes at once."""

    TAB = "Playground"
    CSS_PATH = "playground.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g,enter", "complete", "complete", id="playground.complete",
                tooltip=_COMPLETE),
        Binding("f5", "complete", "complete", id="playground.complete_while_typing", key_display="F5",
                tooltip=_COMPLETE),
        Binding("x", "stop", "stop", id="playground.stop", tooltip="stop both completions; what is there stays"),
        Binding("e,i", "edit", "edit", id="playground.edit", tooltip="edit the prompt; esc leaves it"),
        Binding("p", "choose_problem", "problem", id="playground.problem",
                tooltip="take the prompt of one of the run's problems"),
        Binding("c", "choose_checkpoint", "checkpoint", id="playground.checkpoint",
                tooltip="choose the checkpoint that completes on the right"),
        Binding("t", "warmer", "temperature", id="playground.temperature",
                tooltip="step through temperatures: 0 is greedy, higher is more varied"),
        Binding("o", "options", "options", id="playground.options",
                tooltip="longest completion, temperature, top_p, seed, stop sequences"),
        Binding("r", "again", "again", id="playground.again",
                tooltip="complete once more with another seed, above temperature 0"),
        Binding("left_square_bracket", "step(-1)", "previous", id="playground.previous_problem", key_display="[",
                group=_STEPS, tooltip="take the prompt of the problem before"),
        Binding("right_square_bracket", "step(1)", "next", id="playground.next_problem", key_display="]",
                group=_STEPS, tooltip="take the prompt of the next problem"),
        Binding("tab", "next_pane", "pane", id="playground.pane", show=False,
                tooltip="go to one pane, to scroll it alone; then to the other; then to none"),
        Binding("up,k", "scroll_panes(-1, False)", "up", id="playground.up", key_display="↑", show=False,
                tooltip="scroll the panes up"),
        Binding("down,j", "scroll_panes(1, False)", "down", id="playground.down", key_display="↓", show=False,
                tooltip="scroll the panes down; at its end a pane follows its completion"),
        Binding("pageup", "scroll_panes(-1, True)", "a page up", id="playground.page_up", key_display="PgUp",
                show=False, tooltip="scroll the panes a page up"),
        Binding("pagedown", "scroll_panes(1, True)", "a page down", id="playground.page_down", key_display="PgDn",
                show=False, tooltip="scroll the panes a page down"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self._used = Bench()
        """What the completions that are shown were made with."""
        self.chosen: CheckpointFile | None = None
        self.changed: Options | None = None
        """What the user made of the options; None for those of the configuration."""
        self.problem: Problem | None = None
        """Where the prompt came from."""

    def compose_body(self) -> ComposeResult:
        """Prompt, options, panes."""
        yield PromptArea("playground-prompt", "e types a prompt, p takes that of a problem")
        yield Panel("playground-settings")
        with Horizontal(id="playground-panes"):
            for side in SIDES:
                yield CompletionPane(f"playground-{side}")

    def on_mount(self) -> None:
        """Nothing is completed yet."""
        settings = self.query_one("#playground-settings", Panel)
        settings.show(lambda width, height: options_line(self.options, self.bench))
        self._show_prompt_title()
        self._show_bench()

    def on_screen_resume(self) -> None:
        """Look for checkpoints that came meanwhile."""
        self._work(self._survey, "survey")

    def _work(self, work: WorkType[None], group: str) -> None:
        """Begin something that waits; what was begun in the same group is given up."""
        self.run_worker(work, group=group, exclusive=True)

    @property
    def _softtune(self) -> SofttuneApp:
        return cast("SofttuneApp", self.app)

    @property
    def prompt(self) -> str:
        """The prompt as it stands."""
        return self.query_one(PromptArea).text

    @property
    def options(self) -> Options | None:
        """How it would be completed now; None where the configuration is not known."""
        return self.changed or (Options.of(self.bench.config) if self.bench.config else None)

    @property
    def completions(self) -> dict[Side, Completion]:
        """What both panes have."""
        return {side: self._pane(side).completion for side in SIDES}

    @property
    def underway(self) -> bool:
        """Whether something is being completed."""
        return any(pane.completion.underway for pane in self.query(CompletionPane))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Stopping needs a completion that is underway, another seed needs chance, stepping needs problems."""
        possible = {
            "stop": self.underway, "again": self.options is not None and self.options.sampled,
            "step": bool(self.scene.files.problems),
        }
        return possible.get(action, True)

    def show_scene(self, scene: Scene) -> None:
        """The prompt's title tells the side of its problem."""
        self._show_prompt_title()

    def tick(self) -> None:
        """What is underway says for how long."""
        super().tick()
        if self.is_current:
            for side in SIDES:
                self._pane(side).tick()

    def copy_text(self) -> tuple[str, str] | None:
        """The prompt with both completions."""
        text = copied(self.prompt, [(self._title(side).plain, self.completions[side]) for side in SIDES])
        return ("prompt and completions", text) if text else None

    def _pane(self, side: Side) -> CompletionPane:
        return self.query_one(f"#playground-{side}", CompletionPane)

    async def _survey(self) -> None:
        app = self._softtune
        self.bench = await asyncio.to_thread(survey, app.plan, app.runs, self.scene.run_id, self.chosen)
        self._show_bench()

    def _show_bench(self) -> None:
        for side in SIDES:
            self._pane(side).border_title = self._title(side)
        self._pane("base").show_idle(base_idle())
        self._pane("soft").show_idle(soft_idle(self.bench))
        self._show_options()

    def _title(self, side: Side) -> Content:
        """What made the completion that a pane shows; in an idle one, what would."""
        bench = self.bench if self.completions[side].phase is Phase.IDLE else self._used
        return base_title(bench) if side == "base" else soft_title(bench)

    def _show_options(self) -> None:
        self.query_one("#playground-settings", Panel).refresh()
        self.refresh_bindings()

    def on_completion_pane_changed(self) -> None:
        """There is something to stop, or no more."""
        self.refresh_bindings()

    def _show_prompt_title(self) -> None:
        area = self.query_one(PromptArea)
        title = Content.styled("prompt", "bold")
        if self.problem is not None:
            parts = [visible_line(self.problem.task_id), side_of(self.problem, self.scene.files)]
            parts += ["edited"] if area.text != self.problem.prompt else []
            title = Content.assemble(title, ("  " + ", ".join(part for part in parts if part), "$text-muted"))
        area.border_title = title
        hints = [("esc", "leaves"), ("F5", "completes")] if area.has_focus else [("e", "edits"), ("g", "completes")]
        area.border_subtitle = Content("  ").join(
            Content.assemble((key, "bold $accent"), f" {words}") for key, words in hints)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """An edited problem is said to be one."""
        self._show_prompt_title()

    def on_descendant_focus(self) -> None:
        """Its keys are others while typing."""
        self._show_prompt_title()

    def on_descendant_blur(self) -> None:
        """And now they are not."""
        self._show_prompt_title()

    def action_complete(self) -> None:
        """Complete with both, from the start."""
        self.set_focus(None)
        if self.prompt.strip():
            self._work(partial(self._begin, self.prompt), "begin")
        else:
            self.notify("there is no prompt yet: e types one, p takes that of a problem", severity="warning")

    async def _begin(self, prompt: str) -> None:
        await self._survey()
        config, options, checkpoint = self.bench.config, self.options, self.bench.checkpoint
        if self.bench.fault is not None:
            self.app.push_screen(Message(self.bench.fault.what, self.bench.fault.remedy, "error"))
        if config is None or options is None:
            return
        applied, path = options.applied(config), str(checkpoint.path) if checkpoint else ""
        self._used, workbench = self.bench, self._softtune.workbench
        self._pane("base").ask(prompt, lambda number: Complete(
            id=number, config=applied, checkpoint=path, soft_prompt=False, prompt=prompt), workbench)
        if checkpoint is None:
            self._pane("soft").clear()
        else:
            self._pane("soft").ask(prompt, lambda number: Complete(
                id=number, config=applied, checkpoint=path, prompt=prompt), workbench)
        self._show_bench()

    def action_stop(self) -> None:
        """Stop both."""
        self.workers.cancel_group(self, "begin")
        for side in SIDES:
            self._pane(side).stop()

    def action_edit(self) -> None:
        """Go to the prompt."""
        self.set_focus(self.query_one(PromptArea))

    def action_choose_problem(self) -> None:
        """Let the user choose one of the run's problems."""
        files = self.scene.files
        if not files.problems:
            self.notify("no problems yet: they come with a run (1, then s starts one)", severity="warning")
            return
        at = self._problem_at()
        self._choose("Problem", problem_entries(files), max(0, at), lambda at: self._load(files.problems[at]))

    def _choose(self, title: str, entries: Sequence[Entry], at: int, chosen: Callable[[int], None]) -> None:
        def answered(at: int | None) -> None:
            if at is not None:
                chosen(at)

        self.app.push_screen(Choose(title, entries, at), answered)

    def _problem_at(self) -> int:
        names = [problem.task_id for problem in self.scene.files.problems]
        return names.index(self.problem.task_id) if self.problem and self.problem.task_id in names else -1

    def _load(self, problem: Problem) -> None:
        self.problem = problem
        self.query_one(PromptArea).put(problem.prompt)
        self._show_prompt_title()

    def action_step(self, problems: int) -> None:
        """Take the problem before or after."""
        every = self.scene.files.problems
        self._load(every[min(len(every) - 1, max(0, self._problem_at() + problems))])

    def action_choose_checkpoint(self) -> None:
        """Let the user choose a checkpoint."""
        files = self.bench.checkpoints
        if not files:
            self.notify("no checkpoint yet: 1, then s trains one", severity="warning")
            return
        paths = [file.path for file in files]
        present = self.bench.checkpoint
        at = paths.index(present.path) if present and present.path in paths else 0
        self._choose("Checkpoint", checkpoint_entries(files), at, lambda at: self._use(files[at]))

    def _use(self, file: CheckpointFile) -> None:
        self._pane("soft").clear()
        self.chosen = file
        self.on_screen_resume()

    def action_warmer(self) -> None:
        """Take the next temperature of the cycle."""
        self._change(self.options.warmer if self.options else None)

    def action_options(self) -> None:
        """Let the user change all options."""
        if self.options is not None:
            self.app.push_screen(OptionsForm(self.options), self._change)

    def _change(self, options: Options | None) -> None:
        if options is not None:
            self.changed = options
            self._show_options()

    def action_again(self) -> None:
        """Complete once more, with another seed."""
        if self.options is not None:
            self._change(self.options.reseeded)
            self.action_complete()

    def action_next_pane(self) -> None:
        """Go from pane to pane, then to none."""
        order = [None, *(self._pane(side).text for side in SIDES)]
        at = order.index(self.focused) if self.focused in order else 0
        self.set_focus(order[(at + 1) % len(order)])

    def action_scroll_panes(self, direction: int, pages: bool) -> None:
        """Scroll both panes, or the one that has the focus."""
        texts = [self._pane(side).text for side in SIDES]
        for text in [text for text in texts if text.has_focus] or texts:
            text.scroll_relative(y=direction * (max(1, text.size.height - 1) if pages else 1), animate=False)
