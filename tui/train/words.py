"""What is said of a whole run beside its figures: diagnoses, how it ended, and the lines that are copied."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from tui import deaths
from tui.follower import Scene
from tui.formatting import counted, figure, rate
from tui.status import status_of
from tui.train.diagnoses import Diagnosis
from tui.train.results import fold_table, score_table
from tui.visible import visible, visible_line


def diagnosis_lines(found: Sequence[Diagnosis], width: int, height: int) -> list[Content]:
    """Each diagnosis on one line with its remedy, or on several where that is too long; whole ones only."""
    lines: list[Content] = []
    for diagnosis in found:
        what = Content.assemble(" ", ("!", "bold $text-warning"), " ", (diagnosis.kind, "bold $text-warning"), "  ",
                                visible_line(diagnosis.what))
        remedy = Content.assemble(("→ ", "$text-muted"), (visible_line(diagnosis.remedy), "italic"))
        one = Content.assemble(what, "  ", remedy)
        more = [one] if one.cell_length <= width else [*_wrapped(what, width, 3), *_wrapped(remedy, width, 3, first=3)]
        if len(lines) + len(more) > height:
            break
        lines += more
    return lines


def _wrapped(text: Content, width: int, indent: int, first: int = 0) -> list[Content]:
    """Lines of some text, those after the first one indented."""
    lines = text.wrap(max(20, width - max(indent, first)))
    return [line.pad_left(indent if number else first) for number, line in enumerate(lines)]


def ending(scene: Scene) -> Content | None:
    """What the log says last when something is wrong that no event tells."""
    parts: list[Content] = []
    if scene.fault:
        parts.append(Content.styled(f"✗ {visible(scene.fault)}", "$text-error"))
    condition = scene.condition
    if condition is not None and scene.crashed:
        why, remedy = deaths.parted(condition.reason or "it is gone without having said why")
        if scene.last_words:  # before the headline, which has to be in view where the log has few lines
            parts += [Content.styled("  the last lines of engine.log:", "$text-muted"), Content(scene.last_words)]
        parts.append(Content.styled(f"✗ the engine crashed: {visible(why)}", "bold $text-error"))
        parts += [Content.styled(f"  → {remedy}", "italic")] if remedy else []
        command = visible_line(f"softtune train --resume {scene.run_id}")
        parts.append(Content.styled(f"  → {_going_on(scene)}, as `{command}` does; s starts a new run", "italic"))
    elif scene.resumable and not scene.has_last:  # else the event that ended it says how
        parts.append(Content.styled(f"  → {_going_on(scene)}", "italic"))
    if condition is not None and condition.state == "damaged":
        parts.append(Content.styled(f"✗ the run folder is damaged: {visible(condition.reason)}", "$text-error"))
    if scene.unreadable:
        parts.append(Content.styled(
            f"! {counted(scene.unreadable, 'lines')} of events.jsonl left out: torn, or of another version",
            "$text-warning",
        ))
    return Content("\n").join(parts) if parts else None


def _going_on(scene: Scene) -> str:
    if scene.has_last:
        return "R goes on from the last checkpoint"
    return "R begins this run again, in its folder: it had no checkpoint yet"


def copied_lines(scene: Scene, found: Sequence[Diagnosis] = ()) -> str:
    """The run's figures as plain lines; "" where there is no run."""
    view = scene.view
    if scene.condition is None:
        return ""
    why = f": {scene.condition.reason}" if scene.crashed else f": {view.waits_for}" if view.waits_for else ""
    lines = [f"run {scene.run_id}", f"state {status_of(scene).word}{why}"]
    lines += [f"model {view.model}"] if view.model else []
    if view.total_steps:
        lines.append(f"step {view.done_steps}/{view.total_steps}")
    if view.step:
        lines += [f"epoch {view.step.epoch}" + (f"/{view.plan.num_epochs}" if view.plan else ""),
                  f"training loss {figure(view.step.loss)}", f"smoothed {figure(view.smooth_loss.last)}"]
    if view.validation:
        lines += [f"held-out loss {figure(view.validation.loss)} (epoch {view.validation.epoch})",
                  f"held-out perplexity {figure(view.validation.perplexity, 2)}"]
    if view.best:
        lines.append(f"best held-out loss {figure(view.best.loss)} (epoch {view.best.epoch})")
    if view.step:
        lines += [f"learning rate {rate(view.step.learning_rate)}", f"gradient norm {figure(view.step.grad_norm, 2)}"]
    lines += [line.plain.rstrip() for line in (fold_table(view, 80) or score_table(view, 80))]
    lines += [view.verdict] if view.verdict else []
    lines += [f"{one.kind}: {one.what}; {one.remedy}" for one in found]
    return visible("\n".join(lines))
