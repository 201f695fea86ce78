"""One problem in full: verdict, program, traceback, output, tests, canonical solution; or its diff.

Everything here that a model or a program wrote goes through `visible` and is shown as plain content: no escape sequence
and no markup in it is ever interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from textual.content import Content

from tui.formatting import counted
from tui.problems.code import code_of, plain_of
from tui.problems.diff import diff_blocks
from tui.problems.files import Problem
from tui.problems.listing import STATUS_STYLES, Attempt, Row, Status
from tui.problems.page import BLANK, Block, Blocks, CodeLine, Listing, Prose, heading, note
from tui.problems.program import Marks, Program, check_blocks, head_blocks, marks_of, more_lines, shortened
from tui.problems.run import Rerun
from tui.visible import visible, visible_line

DETAIL_LINES = 8

_ENDINGS = {"stop": "ended at a stop sequence", "eos": "ended by itself", "length": "cut off at the token limit"}
_AS_STORED = "as stored"
_UNFINISHED = {Status.RUNNING: "completed, not executed yet", Status.PENDING: "not completed yet"}


class View(StrEnum):
    """What the page of a problem is about; `d` goes through them."""

    PROGRAM = "program"
    DIFF = "diff against the canonical solution"
    BETWEEN = "diff of A and B"

    def following(self, two: bool) -> View:
        """The next in the cycle; A and B can be compared where there are two."""
        every = [view for view in View if two or view is not View.BETWEEN]
        return every[(every.index(self) + 1) % len(every)] if self in every else View.PROGRAM


@dataclass(frozen=True)
class Look:
    """How a problem is shown."""

    view: View = View.PROGRAM
    reruns: tuple[Rerun | None, ...] = (None, None)
    """Runs by hand, of A and of B."""
    hint: str = ""
    """What to do about a problem without a completion."""


def detail_blocks(row: Row, look: Look) -> Blocks:
    """The page of a problem with one completion."""
    attempt, program = row.a, Program(row.problem, row.a.state.completion or "")
    top = (title(row), *verdict_blocks(attempt, look.hint), *rerun_blocks(attempt, look.reruns[0]), BLANK)
    if look.view is View.PROGRAM:
        named = "prompt and completion" if attempt.state.completion is not None else "prompt"
        body = (*head_blocks(program, marks(attempt), named), *empty_note(attempt), *output_blocks(attempt),
                *rerun_output_blocks(attempt, look.reruns[0]),
                *parted(check_blocks(program, marks(attempt))), *canonical_blocks(row.problem))
    else:
        body = against_canonical(row.problem, attempt)
    return (*top, *body)


def marks(attempt: Attempt) -> Marks:
    """The lines that a verdict names."""
    return marks_of(attempt.state.detail, attempt.execution.traceback)


def title(row: Row) -> Prose:
    """Task, function, side of the split."""
    facts = [visible_line(part) for part in (row.problem.entry_point, row.side) if part]
    name = visible_line(row.key[0]) + (f" sample {row.key[1]}" if row.key[1] else "")
    return Prose((Content.assemble((name, "bold"), *((f"  {fact}", "$text-muted") for fact in facts)),))


def verdict_blocks(attempt: Attempt, hint: str = "", name: str = "") -> Blocks:
    """Verdict, failing assertion, figures."""
    state, style = attempt.state, STATUS_STYLES[attempt.status]
    word = _UNFINISHED.get(attempt.status) or visible_line(state.verdict)
    parts: list[Block] = [Prose((Content.assemble((name, "bold $text-accent"), "  " if name else "",
                                                  (f"{attempt.glyph} {word}", f"bold {style}")),))]
    parts += _detail(attempt)
    parts += _muted(figures(attempt))
    if hint and attempt.status in _UNFINISHED:
        parts += _muted([hint])
    return tuple(parts)


def _muted(lines: list[str]) -> list[Block]:
    return [Prose(tuple(Content.styled(line, "$text-muted") for line in lines), 2)] if lines else []


def _detail(attempt: Attempt) -> list[Block]:
    state = attempt.state
    if not state.detail or state.passed:
        return []
    shown, more = shortened(state.detail, DETAIL_LINES)
    lines = tuple(Content.styled(line, STATUS_STYLES[attempt.status]) for line in visible(shown).split("\n"))
    return [Prose(lines, 2), *more_lines(more)]


def figures(attempt: Attempt) -> list[str]:
    """A line on how it ran (seconds, peak memory, isolation), and one on the completion (tokens, how it ended)."""
    return [", ".join(facts) for facts in (_execution_facts(attempt), _completion_facts(attempt)) if facts]


def _execution_facts(attempt: Attempt) -> list[str]:
    state, ran, facts = attempt.state, attempt.execution, []
    if state.seconds is not None:
        computing = f" (CPU {ran.cpu_seconds:.2f} s)" if attempt.timed_out and ran.cpu_seconds is not None else ""
        facts.append(f"{state.seconds:.2f} s{computing}")
    if ran.peak_memory_mb is not None:
        facts.append(f"peak {ran.peak_memory_mb:,.0f} MB")
    if ran.isolation:
        facts.append(f"isolation: {visible_line(ran.isolation)}")
    return facts


def _completion_facts(attempt: Attempt) -> list[str]:
    state = attempt.state
    facts = [counted(state.tokens, "tokens")] if state.tokens else []
    if state.finish_reason:
        facts.append(_ENDINGS.get(state.finish_reason, visible_line(state.finish_reason)))
    return facts


def rerun_blocks(stored: Attempt, rerun: Rerun | None) -> Blocks:
    """What a run by hand gave, beside the stored verdict."""
    if rerun is None:
        return ()
    if rerun.working:
        return (Prose((Content.styled(f"… run again: {visible_line(rerun.working)}", "bold $text-warning"),)),)
    return outcome_blocks(rerun, "run again: ", stored)


def rerun_output_blocks(stored: Attempt, rerun: Rerun | None, whose: str = "") -> Blocks:
    """Traceback and output of a run by hand, where they are not what is stored."""
    if rerun is None or rerun.ran is None:
        return ()
    made = rerun.attempt("")
    return output_blocks(made, f"{whose}run again: ") if made.execution.texts != stored.execution.texts else ()


def outcome_blocks(rerun: Rerun, name: str, stored: Attempt | None = None) -> Blocks:
    """The end of a run by hand: verdict and figures."""
    if rerun.ran is None:
        remedy = (note(f"→ {visible(rerun.remedy)}", "italic"),) if rerun.remedy else ()
        return (note(f"✗ {name}{visible_line(rerun.fault)}", "bold $text-error"), *remedy)
    made = rerun.attempt(stored.state.completion or "" if stored else "")
    likeness = _likeness(stored, made) if stored else ""
    said = ", ".join(part for part in (visible_line(made.state.verdict), likeness) if part)
    line = Content.styled(f"{made.glyph} {name}{said}", f"bold {STATUS_STYLES[made.status]}")
    kept = [] if stored is None else ["the stored results stay as they are"]
    return (Prose((line,)), *([] if likeness == _AS_STORED else _detail(made)), *_muted([*figures(made), *kept]))


def _likeness(stored: Attempt, made: Attempt) -> str:
    if made.state.verdict != stored.state.verdict:
        return "not as stored"
    # When a time limit struck, or where memory ran out, is a little different every time.
    told = made.state.verdict in ("failed", "error") and made.state.detail != stored.state.detail
    return f"{_AS_STORED}, but for another reason" if told else _AS_STORED


def empty_note(attempt: Attempt) -> Blocks:
    """That a completion says nothing."""
    said = attempt.state.completion
    return (note("the completion is empty", "$text-warning italic"),) if said is not None and not said.strip() else ()


def output_blocks(attempt: Attempt, whose: str = "") -> Blocks:
    """Traceback, captured output, and what the model wrote where that was processed."""
    output = attempt.execution
    parts: list[Block] = []
    for name, text in (("traceback", output.traceback), ("printed", output.stdout), ("error output", output.stderr),
                       ("written by the model, before post-processing", output.raw)):
        if text.strip():
            shown, more = shortened(text.rstrip("\n"))
            plain = plain_of(shown)
            lines = tuple(CodeLine(plain, at) for at in range(len(plain.lines)))
            parts += [BLANK, heading(whose + name), Listing(lines, margin=False), *more_lines(more)]
    return tuple(parts)


def canonical_blocks(problem: Problem) -> Blocks:
    """The solution that HumanEval gives."""
    if not problem.canonical_solution:
        return ()
    code = code_of(problem.canonical_solution.rstrip("\n"))
    lines = tuple(CodeLine(code, at) for at in range(len(code.lines)))
    return (BLANK, heading("canonical solution"), Listing(lines, margin=False))


def against_canonical(problem: Problem, attempt: Attempt, name: str = "the completion") -> Blocks:
    """A completion against the canonical solution."""
    titled = heading(f"{name} against the canonical solution")
    if not problem.canonical_solution:
        return (titled, note("the canonical solution of this problem is not known"))
    if attempt.state.completion is None:
        return (titled, note("there is no completion yet"))
    first = Program(problem, attempt.state.completion).first_written
    return (titled, *diff_blocks(problem.canonical_solution, attempt.state.completion,
                                 ("the canonical solution", name), first))


def parted(blocks: Blocks) -> Blocks:
    """Blocks with an empty line above."""
    return (BLANK, *blocks) if blocks else ()


def problem_text(row: Row) -> str:
    """What `y` copies: task, verdict, program, traceback."""
    parts = []
    for name, attempt in zip(("A", "B"), row.attempts, strict=False):
        state = attempt.state
        label = f"{name}: " if row.b is not None else ""
        word = _UNFINISHED.get(attempt.status) or state.verdict
        parts.append(f"{label}{row.key[0]}: {word}{f', {state.detail}' if state.detail and not state.passed else ''}")
        parts.append((row.problem.prompt + (state.completion or "")).rstrip("\n"))
        if attempt.execution.traceback:
            parts.append(attempt.execution.traceback.rstrip("\n"))
    return "\n\n".join(parts) + "\n"
