"""What stands beside the settings: the help of one, what all of them imply, and the YAML as it will be written."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from core.contract.errors import Fault, SofttuneError
from tui.config.diff import change_words, diff_content, yaml_content
from tui.config.facts import Facts, Machine
from tui.config.fields import Setting
from tui.config.figures import figures, figures_content
from tui.config.form import Form
from tui.config.words import help_content
from tui.visible import visible

PANES = ("help", "figures", "yaml")
"""From above to below; where there is little room, one of them at a time."""


class SettingAside(Vertical):
    """Three panes, brought up to date apart."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._yaml: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """Help, figures, YAML."""
        yield Static(id="config-help", markup=False)
        figures_pane = Static(id="config-figures", markup=False)
        figures_pane.border_title = _title("what this implies")
        yield figures_pane
        with VerticalScroll(id="config-yaml", can_focus=False):
            yield Static(id="config-yaml-text", markup=False)

    def show_setting(self, setting: Setting, form: Form, fault: Fault | None) -> None:
        """The help of a setting, with what is wrong with it."""
        pane = self.query_one("#config-help", Static)
        pane.border_title = _title(setting.name)
        pane.update(help_content(setting, form, fault))

    def show_figures(self, form: Form, facts: Facts, machine: Machine, close: bool) -> None:
        """What the settings imply; `close` takes fewer lines."""
        if form.config is None:
            words = f"unknown while there are faults: {', '.join(form.faults)}"
            content = Content.styled(words, "$text-error")
        else:
            content = figures_content(figures(form.config, facts, machine), close)
        self.query_one("#config-figures", Static).update(content)

    def show_yaml(self, form: Form, whole: bool) -> None:
        """What changes in the file, or the whole of it; a new file has only the whole."""
        written, before = form.written, form.text
        if (state := (written, before, whole)) == self._yaml:
            return
        self._yaml = state
        if isinstance(written, SofttuneError):
            title, content = "YAML", Content.styled(visible(str(written)), "$text-error")
        elif before is None:
            title, content = "YAML, a new file", yaml_content(written)
        elif whole:
            title, content = f"YAML, whole: {change_words(before, written)}", yaml_content(written)
        else:
            title, content = f"YAML: {change_words(before, written)}", diff_content(before, written)
            if not content:
                content = Content.styled("the file says all this already; d shows the whole of it", "$text-muted")
        self.query_one("#config-yaml").border_title = _title(title)
        self.query_one("#config-yaml-text", Static).update(content)

    def scroll_yaml(self, pages: int) -> None:
        """Scroll the YAML by what is in view."""
        pane = self.query_one("#config-yaml")
        pane.scroll_relative(y=pages * max(1, pane.size.height - 2), animate=False)


def _title(words: str) -> str:
    return Content.styled(words, "bold").markup
