"""One problem as two checkpoints completed it: side by side where there is room, one below the other where not."""

from __future__ import annotations

from textual.content import Content

from tui.problems.detail import (
    Look,
    View,
    against_canonical,
    canonical_blocks,
    empty_note,
    marks,
    output_blocks,
    parted,
    rerun_blocks,
    rerun_output_blocks,
    title,
    verdict_blocks,
)
from tui.problems.diff import diff_blocks
from tui.problems.listing import FLIP_SIGNS, Attempt, Row
from tui.problems.page import BLANK, Blocks, Columns, Prose, heading, note
from tui.problems.program import Marks, Program, check_blocks, head_blocks
from tui.problems.run import Rerun

SIDE_BY_SIDE = 84
"""Cells from which two columns are readable."""

_FLIPS = {"gained": "B passes where A failed", "lost": "A passed where B fails"}


def pair_blocks(row: Row, look: Look, width: int) -> Blocks:
    """The page of a problem with two completions."""
    assert row.b is not None
    sides = (("A", row.a), ("B", row.b))
    tops = [(*verdict_blocks(attempt, look.hint, name), *rerun_blocks(attempt, rerun))
            for (name, attempt), rerun in zip(sides, look.reruns, strict=True)]
    top = (title(row), *_flip(row), *_beside(tops[0], tops[1], width), BLANK)
    if look.view is View.BETWEEN:
        return (*top, *_between(row, row.a, row.b))
    if look.view is View.DIFF:
        one, other = (against_canonical(row.problem, attempt, name) for name, attempt in sides)
        return (*top, *_beside(one, (*_space(width), *other), width))
    return (*top, *_programs(row, row.a, row.b, look.reruns, width))


def _flip(row: Row) -> Blocks:
    if not row.flip:
        return ()
    style = "bold $text-success" if row.flip == "gained" else "bold $text-error"
    return (Prose((Content.styled(f"{FLIP_SIGNS[row.flip]} {row.flip}: {_FLIPS[row.flip]}", style),)),)


def _programs(row: Row, a: Attempt, b: Attempt, reruns: tuple[Rerun | None, ...], width: int) -> Blocks:
    """The prompt once, then both completions, each with its traceback, output and tests."""
    prompt = head_blocks(Program(row.problem, ""), Marks(), "prompt")
    same = a.state.completion is not None and a.state.completion == b.state.completion
    alike = (note("A and B completed it alike"),) if same else ()
    one, other = (_side(row, attempt, name, rerun) for attempt, name, rerun in zip((a, b), "AB", reruns, strict=True))
    return (*prompt, BLANK, *alike, *_beside(one, (*_space(width), *other), width), *canonical_blocks(row.problem))


def _side(row: Row, attempt: Attempt, name: str, rerun: Rerun | None) -> Blocks:
    program, found = Program(row.problem, attempt.state.completion or ""), marks(attempt)
    if attempt.state.completion is None:
        return (heading(f"{name}: no completion"),)
    return (*head_blocks(program, found, f"{name}: completion", program.first_written), *empty_note(attempt),
            *output_blocks(attempt, f"{name}: "), *rerun_output_blocks(attempt, rerun, f"{name}: "),
            *parted(check_blocks(program, found, f"{name}: tests")))


def _between(row: Row, a: Attempt, b: Attempt) -> Blocks:
    titled = heading("B's completion against A's")
    if a.state.completion is None or b.state.completion is None:
        return (titled, note("one of the two has no completion"))
    first = Program(row.problem, b.state.completion).first_written
    return (titled, *diff_blocks(a.state.completion, b.state.completion, ("A", "B"), first))


def _beside(one: Blocks, other: Blocks, width: int) -> Blocks:
    return (Columns(one, other),) if width >= SIDE_BY_SIDE else (*one, *other)


def _space(width: int) -> Blocks:
    """What parts A from B where B comes below."""
    return () if width >= SIDE_BY_SIDE else (BLANK,)
