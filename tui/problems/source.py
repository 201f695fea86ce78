"""Where the problems on the screen come from: the run that the app follows, or evaluations that were opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textual.content import Content

from core.contract.runs import RunFolder
from tui.follower import Scene
from tui.problems.files import EvaluationRef, ProblemFiles, read_problem_files
from tui.problems.listing import Row, paired_rows, rows_of
from tui.problems.page import Blocks, Prose, note
from tui.run_view import RunView
from tui.visible import visible, visible_line


@dataclass(frozen=True)
class Opened:
    """One evaluation, or two side by side; `files` are theirs once they are read."""

    a: EvaluationRef
    b: EvaluationRef | None = None
    files: tuple[ProblemFiles, ...] = ()

    @property
    def refs(self) -> tuple[EvaluationRef, ...]:
        """A, or A and B."""
        return (self.a,) if self.b is None else (self.a, self.b)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each is called: letter, run and checkpoint."""
        return tuple(f"{letter}  {visible_line(ref.run.run_id)} · {visible_line(ref.checkpoint)}"
                     for letter, ref in zip("AB", self.refs, strict=False))

    def rows(self) -> tuple[Row, ...]:
        """Its problems."""
        if len(self.files) == 2:
            return paired_rows(*self.files)
        return rows_of(RunView(), self.files[0]) if self.files else ()

    @property
    def fault(self) -> str:
        """What could not be read."""
        return "; ".join(f"{ref.run.run_id}: {files.fault}"
                         for ref, files in zip(self.refs, self.files, strict=False) if files.fault)

    @property
    def unscored(self) -> tuple[str, ...]:
        """Checkpoints that have neither results nor completions."""
        return tuple(f"{ref.checkpoint} of {ref.run.run_id}"
                     for ref, files in zip(self.refs, self.files, strict=False) if not files.states)


def read_opened(a: EvaluationRef, b: EvaluationRef | None) -> Opened:
    """Read what the evaluations have; never raises: faults are told in words."""
    refs = (a,) if b is None else (a, b)
    return Opened(a, b, tuple(read_problem_files(ref.run, ref.checkpoint) for ref in refs))


_KEY = "bold $accent"


def rows_of_scene(scene: Scene) -> tuple[Row, ...]:
    """The problems of the followed run."""
    return rows_of(scene.view, scene.files, over=not scene.active)


def refs_of(scene: Scene, opened: Opened | None, runs: Path) -> list[EvaluationRef]:
    """The evaluations on the screen: those opened, or the followed run's."""
    if opened is not None:
        return list(opened.refs)
    return [EvaluationRef(RunFolder(runs / scene.run_id), scene.files.checkpoint)]


def hint_of(scene: Scene, opened: Opened | None) -> str:
    """What to do about a problem that nothing has completed; "" while a run may come to it."""
    if opened is None and (scene.active or not scene.run_id):
        return ""
    which = "it" if opened else "a checkpoint"
    return f"2 goes to Checkpoints, where E scores {which}"


def empty_blocks(scene: Scene, opened: Opened | None, reading: bool, has_rows: bool) -> Blocks:
    """What stands there when no problem is listed, with what to press."""
    if reading and opened is not None:
        return (note(f"reading {', '.join(visible_line(ref.checkpoint) for ref in opened.refs)} …"),)
    fault = opened.fault if opened else scene.files.fault
    if fault:
        return (note(f"✗ {visible(fault)}", "$text-error"),)
    if has_rows:
        return (Prose((Content.assemble("No problem fits. ", ("f", _KEY), " changes the filter, ", ("/", _KEY),
                                        " the words."),)),)
    if opened is not None:
        return (note(f"{visible_line(' and '.join(opened.unscored))}: not scored yet.", ""),
                Prose((Content.assemble(("2", _KEY), " goes to Checkpoints, where ", ("E", _KEY), " scores it; ",
                                        ("0", _KEY), " goes back to the followed run."),)))
    return (note("No problems yet: they appear when a run has loaded them.", ""),
            Prose((Content.assemble(("1", _KEY), " goes to Train, where ", ("s", _KEY), " starts one."),)))
