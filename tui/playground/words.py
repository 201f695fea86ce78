"""What the Playground says around its completions: titles, empty panes, and the text that is copied. Pure functions."""

from __future__ import annotations

from textual.content import Content

from tui.playground.checkpoints import Bench
from tui.playground.completion import Completion, Phase, footer
from tui.playground.options import Options
from tui.visible import visible_line

KEY = "bold $accent"


def base_title(bench: Bench) -> Content:
    """The pane without a soft prompt."""
    name = Content.styled(f"  {visible_line(bench.model)}", "$text-muted") if bench.model else Content("")
    return Content.assemble(("base model", "bold"), name)


def soft_title(bench: Bench) -> Content:
    """The pane with one."""
    if bench.checkpoint is None:
        return Content.styled("checkpoint", "bold")
    file = bench.checkpoint
    name = f"{file.name}  {file.run_id}" if file.run_id else str(file.path)
    return Content.assemble(("checkpoint", "bold"), (f"  {visible_line(name)}", "$text-muted"))


def base_idle() -> Content:
    """The same before its first completion."""
    return Content.assemble(("g", KEY), " completes the prompt here, without a soft prompt.")


def soft_idle(bench: Bench) -> Content:
    """The same before its first completion, or without a checkpoint."""
    if bench.checkpoint is not None:
        return Content.assemble(("g", KEY), " completes it here, with the soft prompt. ", ("c", KEY),
                                " chooses another checkpoint.")
    if bench.checkpoints:
        return Content.assemble("No checkpoint is chosen: ", ("c", KEY), " chooses one.")
    return Content.assemble("No checkpoint yet: the base model completes alone.\n", ("1", KEY), ", then ", ("s", KEY),
                            " trains one.")


def options_line(options: Options | None, bench: Bench) -> Content:
    """How it would be completed; or why the settings cannot be used."""
    if bench.fault is not None:
        return Content.styled(f" ✗ {visible_line(bench.fault.what)}", "$text-error")
    return Content(" " + "   ".join(options.words())) if options else Content("")


def copied(prompt: str, parts: list[tuple[str, Completion]]) -> str:
    """The prompt and the completions, each under a comment that says what it is; "" where there is nothing."""
    sections = [f"# prompt\n{prompt}"] if prompt else []
    sections += [
        f"# {title}: {footer(completion, completion.began).plain.lstrip('○●■✗ ')}\n{completion.text}"
        for title, completion in parts if completion.phase is not Phase.IDLE
    ]
    return "\n\n".join(section.rstrip("\n") for section in sections) + ("\n" if sections else "")
