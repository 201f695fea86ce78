"""What `s` would start: the configuration, read anew each time, and the words that say so on an empty screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.content import Content

from core.contract.config import DEFAULT_CONFIG_FILE, Config
from core.contract.config_file import load_config
from core.contract.errors import SofttuneError
from core.contract.runs import RunSummary
from tui.formatting import counted, rate
from tui.visible import visible_line

_PURPOSE = "Teach a frozen code model a soft prompt, watch it train, and know whether it helped."


@dataclass(frozen=True)
class Plan:
    """A configuration that can be started.

    Args:
        config_file: None reads ./prompt_tuning.yml where there is one.
        demo: start from the settings of `--demo`.
    """

    config_file: Path | None = None
    demo: bool = False

    @property
    def name(self) -> str:
        """The end of the run's id."""
        return "demo" if self.demo else "train"

    @property
    def source(self) -> str:
        """Where the settings come from, in words."""
        if self.config_file is not None:
            return str(self.config_file)
        if self.demo:
            return "the demo's settings"
        return DEFAULT_CONFIG_FILE if Path(DEFAULT_CONFIG_FILE).exists() else "the defaults"

    def load(self) -> Config:
        """The settings as they are now; raises UsageError or ConfigError."""
        return load_config(self.config_file, demo=self.demo)


NAMED = 3
"""Damaged run folders that the empty screen names."""


def welcome(plan: Plan, damaged: Sequence[RunSummary] = ()) -> Content:
    """The empty screen: what softtune does, and what to press; run folders that cannot be read are named."""
    try:
        config = plan.load()
    except SofttuneError as error:
        settings = Content.styled(visible_line(error.what), "$text-error")
    else:
        settings = Content(
            f"{visible_line(config.model.name)}, {config.soft_prompts.num_virtual_tokens} virtual tokens, "
            f"{counted(config.training.num_epochs, 'epochs')}, learning rate {rate(config.training.learning_rate)}"
        )
    key = "bold $accent"
    return Content("\n").join([
        Content.styled("softtune", "bold $text-accent"),
        Content.styled(_PURPOSE, "$text-muted"),
        Content(""),
        *_no_run(damaged),
        Content(""),
        Content.assemble(("s", key), "   starts training with ", (plan.source, "bold")),
        Content.assemble("    ", settings),
        Content.assemble(("?", key), "   shows all keys"),
        Content.assemble(("q", key), "   quits"),
        Content(""),
        Content.assemble(("softtune --demo", "bold"), " trains a small model in minutes, without a GPU or a network."),
    ])


def _no_run(damaged: Sequence[RunSummary]) -> list[Content]:
    if not damaged:
        return [Content("There is no run in this folder yet.")]
    lines = [f"? {counted(len(damaged), 'damaged run folders')}, and no run that can be shown:"]
    lines += [f"  {visible_line(run.folder.run_id)}: {visible_line(run.reason)}" for run in damaged[:NAMED]]
    if len(damaged) > NAMED:
        lines.append(f"  … {len(damaged) - NAMED} more")
    return [Content.styled(line, "$text-error") for line in lines]
