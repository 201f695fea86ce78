"""The rows of the Problems screen: which problem, which side of the split, what became of it. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tui.problems.files import Execution, Problem, ProblemFiles, natural_order
from tui.run_view import ProblemKey, ProblemState, RunView
from tui.visible import visible_line

SHORT = {
    "passed": "passed", "failed": "failed", "error": "error", "timed out": "timeout", "out of memory": "memory",
    "crashed": "crashed", "cheated": "cheated", "exited early": "exited",
}
"""Verdicts in at most seven letters, for the list."""


class Status(StrEnum):
    """What became of a problem."""

    PASSED = "passed"
    FAILED = "failed"
    RUNNING = "running"
    PENDING = "pending"


CHEATED = "cheated"
"""The verdict on a program that reached for the tests, or for its own verdict."""

CHEATED_GLYPH = "!"

GLYPHS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.RUNNING: "…", Status.PENDING: "·"}

STATUS_STYLES = {
    Status.PASSED: "$text-success", Status.FAILED: "$text-error", Status.RUNNING: "$text-warning",
    Status.PENDING: "$text-muted",
}


class Show(StrEnum):
    """Which problems the list shows; `f` goes through them in this order."""

    ALL = "all"
    FAILED = "failed"
    PASSED = "passed"
    TIMED_OUT = "timed out"
    CHEATED = "cheated"
    HELDOUT = "held-out"
    FLIPPED = "flipped"

    def following(self, offered: Sequence[Show]) -> Show:
        """The next in the cycle of those that are offered."""
        return offered[(offered.index(self) + 1) % len(offered)] if self in offered else Show.ALL


@dataclass(frozen=True)
class Attempt:
    """One completion of a problem (or none yet), and what became of it."""

    state: ProblemState = ProblemState()
    execution: Execution = Execution()

    @property
    def status(self) -> Status:
        """Passed, failed, completed but not executed yet, or not begun."""
        if self.state.verdict:
            return Status.PASSED if self.state.passed else Status.FAILED
        return Status.RUNNING if self.state.completion is not None else Status.PENDING

    @property
    def word(self) -> str:
        """The verdict in at most seven letters."""
        verdict = self.state.verdict
        if self.status in (Status.PASSED, Status.FAILED):
            return "passed" if self.state.passed else SHORT.get(verdict, visible_line(verdict)[:7])
        return "to run" if self.status is Status.RUNNING else "pending"

    @property
    def glyph(self) -> str:
        """The sign of the verdict."""
        return CHEATED_GLYPH if self.cheated else GLYPHS[self.status]

    @property
    def cheated(self) -> bool:
        """Whether it failed by reaching for what it must not."""
        return self.state.verdict == CHEATED and not self.state.passed

    @property
    def timed_out(self) -> bool:
        """Whether the time limit ended it."""
        return self.state.verdict == "timed out"


SAMPLES_LISTED = 10
"""Samples of one problem that are listed: a list of 164 × 200 lines would take seconds to draw."""


@dataclass(frozen=True)
class Row:
    """One sample of a problem as A has it, and where two evaluations are side by side, as B has it."""

    key: ProblemKey
    problem: Problem
    split: str
    a: Attempt
    b: Attempt | None = None
    unlisted: int = 0
    """Samples of the same problem that are left out of the list."""

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """A, or A and B."""
        return (self.a,) if self.b is None else (self.a, self.b)

    @property
    def failed(self) -> bool:
        """Whether A or B failed."""
        return any(attempt.status is Status.FAILED for attempt in self.attempts)

    @property
    def passed(self) -> bool:
        """Whether A (and B) passed."""
        return all(attempt.status is Status.PASSED for attempt in self.attempts)

    @property
    def flip(self) -> str:
        """"gained" where only B passed, "lost" where only A did, "" where both came out alike or are not through."""
        before, after = self.a.status, self.b.status if self.b else self.a.status
        if (before, after) == (Status.FAILED, Status.PASSED):
            return "gained"
        return "lost" if (before, after) == (Status.PASSED, Status.FAILED) else ""

    @property
    def side(self) -> str:
        """"train", "held-out" or ""."""
        return {"heldout": "held-out"}.get(self.split, self.split)


FLIP_SIGNS = {"gained": "+", "lost": "−"}

_FITS: dict[Show, Callable[[Row], bool]] = {
    Show.ALL: lambda row: True,
    Show.FAILED: lambda row: row.failed,
    Show.PASSED: lambda row: row.passed,
    Show.TIMED_OUT: lambda row: any(attempt.timed_out for attempt in row.attempts),
    Show.CHEATED: lambda row: any(attempt.cheated for attempt in row.attempts),
    Show.HELDOUT: lambda row: row.split == "heldout",
    Show.FLIPPED: lambda row: bool(row.flip),
}


def offered(rows: tuple[Row, ...], two: bool) -> list[Show]:
    """The filters that can have something to show: only two evaluations have flipped problems, and few cheat."""
    left_out = set() if two else {Show.FLIPPED}
    if not any(_FITS[Show.CHEATED](row) for row in rows):
        left_out.add(Show.CHEATED)
    return [show for show in Show if show not in left_out]


def rows_of(view: RunView, files: ProblemFiles, over: bool = False) -> tuple[Row, ...]:
    """Every problem with its first SAMPLES_LISTED samples, in order of task id.

    Args:
        over: whether the run is. Events are newer than the files while the engine works; once it is done the files know
            more, and may be of a later scoring by hand.
    """
    states = dict(files.states)
    for key, state in view.problems.items():
        if not (over and key in states and states[key].verdict):
            states[key] = _newer(states.get(key), state)
    samples: dict[str, list[int]] = {}
    for task_id, sample in states:
        samples.setdefault(task_id, []).append(sample)
    known = {problem.task_id: problem for problem in files.problems}
    names = list(known) or sorted(samples, key=natural_order)
    names += sorted(set(samples) - set(names), key=natural_order)
    # An engine at work makes as many samples of every problem: lines that come one by one would be laid out each time.
    begun = 0 if over else 1 + max((sample for _, sample in view.problems), default=-1)
    rows = []
    for name in names:
        numbers = sorted({*samples.get(name, [0]), *range(begun)})
        rows += [_row((name, sample), known.get(name, Problem(name)), states, files,
                      max(0, len(numbers) - SAMPLES_LISTED)) for sample in numbers[:SAMPLES_LISTED]]
    return tuple(rows)


def paired_rows(a: ProblemFiles, b: ProblemFiles) -> tuple[Row, ...]:
    """Every problem of A or B with what both made of it."""
    first = {row.key: row for row in rows_of(RunView(), a)}
    second = {row.key: row for row in rows_of(RunView(), b)}
    keys = sorted({*first, *second}, key=lambda key: (natural_order(key[0]), key[1]))
    rows = []
    for key in keys:
        one, other = first.get(key), second.get(key)
        base = next(row for row in (one, other) if row is not None)
        stated = next((row.problem for row in (one, other) if row is not None and row.problem.prompt), base.problem)
        split = next((row.split for row in (one, other) if row is not None and row.split), "")
        unlisted = max(row.unlisted for row in (one, other) if row is not None)
        rows.append(Row(key, stated, split, one.a if one else Attempt(), other.a if other else Attempt(), unlisted))
    return tuple(rows)


def _newer(from_file: ProblemState | None, live: ProblemState) -> ProblemState:
    if from_file is None or live.completion is not None and live.completion != from_file.completion:
        return live
    if not live.verdict:
        return from_file
    return replace(live, completion=from_file.completion if live.completion is None else live.completion,
                   split=live.split or from_file.split, detail=live.detail or from_file.detail)


def _row(
    key: ProblemKey, problem: Problem, states: dict[ProblemKey, ProblemState], files: ProblemFiles, unlisted: int
) -> Row:
    state = states.get(key, ProblemState())
    split = state.split or (files.split.kind(key[0]) if files.split else "")
    stored = files.states.get(key)
    same = stored is not None and stored.completion == state.completion
    execution = files.executions.get(key, Execution()) if same else Execution()
    return Row(key, problem, split, Attempt(state, execution), unlisted=unlisted)


def chosen(rows: tuple[Row, ...], show: Show, words: str) -> tuple[Row, ...]:
    """The rows that a filter lets through; `words` must all occur in task id, entry point, verdict or detail."""
    wanted = words.casefold().split()
    fits = _FITS[show]
    return tuple(row for row in rows if fits(row) and all(word in _haystack(row) for word in wanted))


def _haystack(row: Row) -> str:
    told = [part for attempt in row.attempts
            for part in (attempt.word, attempt.state.verdict, attempt.state.detail)]
    return " ".join((row.key[0], row.problem.entry_point, row.side, row.flip, *told)).casefold()


def counts(rows: tuple[Row, ...]) -> dict[Status, int]:
    """How many attempts have each status."""
    every = [attempt.status for row in rows for attempt in row.attempts]
    return {status: every.count(status) for status in Status}
