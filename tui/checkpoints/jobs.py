"""A checkpoint being scored by the workbench: how far it is, and what to say when it ends. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from textual.content import Content

from core.contract.events import EvaluationCompleted, Notice, Progress
from core.contract.workbench import AnyReply, Refused, Told, Working
from tui.checkpoints.columns import share
from tui.train.figures import bar_content
from tui.visible import visible_line


@dataclass(frozen=True)
class ScoreJob:
    """One scoring, as its replies tell it."""

    run_id: str
    name: str
    what: str = "starting the workbench"
    done: int = 0
    total: int = 0
    unit: str = ""
    result: EvaluationCompleted | None = None
    refusal: Refused | None = None

    @property
    def key(self) -> str:
        """The key of the checkpoint's row."""
        return f"{self.run_id}/{self.name}"

    def after(self, reply: AnyReply) -> ScoreJob:
        """The job after one more reply."""
        if isinstance(reply, Working):
            return replace(self, what=reply.what, done=0, total=0)
        if isinstance(reply, Refused):
            return replace(self, refusal=reply)
        if not isinstance(reply, Told):
            return self
        event = reply.event
        if isinstance(event, Progress):
            return replace(self, what=event.stage, done=event.done, total=event.total, unit=event.unit)
        if isinstance(event, EvaluationCompleted):
            return replace(self, result=event)
        return replace(self, what=event.what) if isinstance(event, Notice) else self


def job_line(job: ScoreJob, width: int) -> Content:
    """What is scored, a bar, how much is done, and the key that gives it up."""
    head = Content.assemble(" ", ("scoring ", "bold"), (visible_line(job.name), "bold $text-accent"),
                            (f" of {visible_line(job.run_id)}", "$text-muted") if width >= 100 else "", "  ")
    numbers = f"{job.done:,}/{job.total:,} {visible_line(job.unit)}" if job.total > 0 else ""
    tail = Content.assemble(f"{visible_line(job.what)}  {numbers}", "   ", ("x", "bold $accent"), " gives it up")
    room = min(40, width - head.cell_length - tail.cell_length - 3)
    bar = bar_content(min(1.0, job.done / job.total), room) if job.total > 0 and room >= 4 else Content("")
    return Content.assemble(head, bar, "  " if bar.plain else "", tail)


def outcome_words(job: ScoreJob) -> str:
    """What came of a scoring that ended well."""
    if job.result is None:
        return f"{visible_line(job.name)} is scored"
    parts = []
    kinds = [("held-out", job.result.heldout), ("train", job.result.train)]
    if not any(score.total for _, score in kinds):  # it was imported: nobody knows what it was trained on
        kinds = [("all", job.result.overall)]
    for kind, score in kinds:
        passed = share(score)
        if passed is not None:
            of = "" if score.several else f" ({score.passed} of {score.total})"
            parts.append(f"{kind} {passed:.3f}{of}")
    return f"{visible_line(job.name)}: pass@1 " + (", ".join(parts) or "–")
