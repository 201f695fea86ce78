"""What the Sweep screen says in words: the lines above the table, the trial under the cursor, and the empty screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from textual.content import Content

from core.contract.sweep_plan import Range, SweepPlan
from core.contract.wording import OBJECTIVES, interval_text, point_text, share_text, value_text
from tui.formatting import counted, duration, figure
from tui.status import status_of_state
from tui.sweep.reader import ShownSweep
from tui.sweep.table import STATE_STYLES
from tui.sweep.view import Trial, parameters, short_names
from tui.visible import visible_line

EXAMPLE = """\
trials: 20
objective: heldout_loss
parameters:
  training.learning_rate: {low: 0.001, high: 0.1, log: true}
  soft_prompts.num_virtual_tokens: [10, 20, 50]"""


def status_lines(sweep: ShownSweep, trials: Sequence[Trial], width: int) -> list[Content]:
    """Which sweep and how far it is; what it looks for and what is best; what it varies."""
    varied = _varied(sweep, ranges=True)
    varied = varied if varied.cell_length <= width else _varied(sweep, ranges=False)
    return [_progress(sweep, trials, width), _cut(_best(sweep, trials), width), _cut(varied, width)]


def _progress(sweep: ShownSweep, trials: Sequence[Trial], width: int) -> Content:
    state = status_of_state(sweep.condition.state) if sweep.condition else None
    counts = Counter(trial.state for trial in trials)
    done = sum(counts[one] for one in ("complete", "pruned", "failed"))
    planned = f" of {sweep.view.planned.trials:,}" if sweep.view.planned else ""
    parts = [Content.styled(visible_line(sweep.run_id), "bold")]
    parts += [Content.styled(f"{state.glyph} {state.word}", f"bold {state.style}")] if state else []
    parts.append(Content(f"{done:,}{planned} trials done"))
    parts += [Content.styled(f"{counts[one]:,} {one}", STATE_STYLES[one])
              for one in ("running", "cut short", "pruned", "failed") if counts[one]]
    at = sweep.sweeps.index(sweep.run_id) if sweep.run_id in sweep.sweeps else 0
    others = []
    if len(sweep.sweeps) > 1:
        keys = [("[", "older")] * (at + 1 < len(sweep.sweeps)) + [("]", "newer")] * (at > 0)
        others = [Content.assemble(f"{at + 1} of {counted(len(sweep.sweeps), 'sweeps')}  ",
                                   *((f"{key} ", "bold $accent") if half else f"{word} "
                                     for key, word in keys for half in (True, False)))]
    while len(parts) > 3 and sum(part.cell_length + 2 for part in parts) > width:
        parts.pop()
    line = Content.assemble(" ", Content("  ").join(parts))
    room = width - line.cell_length - sum(other.cell_length for other in others)
    return Content.assemble(line, " " * room, *others) if others and room >= 2 else _cut(line, width)


def _best(sweep: ShownSweep, trials: Sequence[Trial]) -> Content:
    planned = sweep.view.planned
    if planned is None:
        return Content.styled(" the sweep has not begun yet", "$text-muted")
    folds = f", each trial in {planned.folds} folds" if planned.folds else ""
    parts = [Content.assemble((" looks for ", "$text-muted"), f"the {'highest' if sweep.view.maximize else 'lowest'} "
                              f"{OBJECTIVES[planned.objective]}{folds}")]
    best = next((trial for trial in trials if trial.rank == 1), None)
    if best:
        value = share_text(best.value) if sweep.view.maximize else figure(best.value, 4)
        epoch = f", epoch {best.epoch}" if best.epoch is not None else ""
        parts.append(Content.assemble(("best so far " if sweep.active else "best ", "$text-muted"),
                                      (value, "bold $text-success"), f" of trial {best.number}{epoch}"))
    return Content("   ").join(parts)


def _varied(sweep: ShownSweep, ranges: bool) -> Content:
    names = short_names(parameters(sweep.view))
    shown = [Content.assemble((visible_line(short), "bold"), _range(sweep.plan, name) if ranges else "")
             for name, short in names.items()]
    return Content.assemble((" varies ", "$text-muted"), Content(", ").join(shown)) if shown else Content("")


def _range(plan: SweepPlan | None, name: str) -> str:
    space = plan.space().get(name) if plan else None
    if isinstance(space, Range):
        return f" {value_text(space.low)} – {value_text(space.high)}{' (log)' if space.log else ''}"
    return f" {' | '.join(visible_line(value_text(value)) for value in space)}" if space else ""


def trial_lines(trial: Trial | None, width: int) -> list[Content]:
    """The trial under the cursor: what it came to, then its point; why it ended early goes before that."""
    if trial is None:
        return []
    of = f"rank {trial.rank}" if trial.rank else trial.state
    parts = [Content.styled(f" trial {trial.number}", "bold $text-accent"),
             Content.styled(of, STATE_STYLES[trial.state])]
    if trial.heldout_loss is not None:
        epoch = f" (epoch {trial.epoch})" if trial.epoch is not None else ""
        so_far = " so far" if trial.state in ("running", "cut short") else ""
        parts.append(Content(f"held-out loss{so_far} {figure(trial.heldout_loss, 4)}{epoch}"))
    if trial.score is not None:
        around = interval_text(trial.score.interval())
        parts.append(Content(f"pass@1 {share_text(trial.score.pass_at_1)}" + (f" ({around})" if around else "")))
    parts += [Content(duration(trial.seconds))] if trial.seconds is not None else []
    short = short_names(trial.parameters)
    points = [trial.parameters, {short[name]: value for name, value in trial.parameters.items()}]
    lines = [f" {visible_line(point_text(point))}" for point in points]
    figures, point = Content("  ").join(parts), Content(lines[0] if len(lines[0]) <= width else lines[1])
    if trial.reason:
        why = Content.styled(f"  {visible_line(trial.reason)}", "$text-warning")
        if figures.cell_length + why.cell_length <= width:
            figures = Content.assemble(figures, why)
        else:
            point = why
    return [_cut(figures, width), _cut(point, width)]


def empty_content(fault: str) -> Content:
    """What a sweep is and how to start one."""
    if fault:
        return Content.styled(f"✗ {visible_line(fault)}", "$text-error")
    return Content.assemble(
        ("No sweep yet", "bold"), "\n\nA sweep trains soft prompts with many settings, and ranks them.\n"
        "Name the settings to vary in a file, ", ("sweep.yml", "bold"), ":\n\n", (EXAMPLE, "$text-accent"), "\n\n",
        "then start it in another terminal; it appears here:\n\n", ("softtune sweep sweep.yml", "bold"),
    )


def _cut(line: Content, width: int) -> Content:
    return line.truncate(width, ellipsis=True) if line.cell_length > width else line
