"""The rows of the Problems screen: which problem, which side of the split, what became of it. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from tui.problem_files import Execution, Problem, ProblemFiles, natural_order
from tui.run_view import ProblemKey, ProblemState, RunView
from tui.visible import visible_line

SHORT = {
    "passed": "passed", "failed": "failed", "error": "error", "timed out": "timeout", "out of memory": "memory",
    "crashed": "crashed", "exited early": "exited",
}
"""Verdicts in at most seven letters, for the list."""


class Status(StrEnum):
    """What became of a problem."""

    PASSED = "passed"
    FAILED = "failed"
    RUNNING = "running"
    PENDING = "pending"


GLYPHS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.RUNNING: "…", Status.PENDING: "·"}


class Show(StrEnum):
    """Which problems the list shows; `f` goes through them in this order."""

    ALL = "all"
    FAILED = "failed"
    PASSED = "passed"
    HELDOUT = "held-out"

    @property
    def following(self) -> Show:
        """The next in the cycle."""
        every = list(Show)
        return every[(every.index(self) + 1) % len(every)]


@dataclass(frozen=True)
class Row:
    """One problem with one completion (or none yet)."""

    key: ProblemKey
    problem: Problem
    state: ProblemState
    split: str
    execution: Execution

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
    def side(self) -> str:
        """"train", "held-out" or ""."""
        return {"heldout": "held-out"}.get(self.split, self.split)


def rows_of(view: RunView, files: ProblemFiles) -> tuple[Row, ...]:
    """Every problem with all its samples, in order of task id.

    Events are newer than the files while the engine works; the files know more once it is done.
    """
    states = dict(files.states)
    for key, state in view.problems.items():
        states[key] = _newer(states.get(key), state)
    samples: dict[str, list[int]] = {}
    for task_id, sample in states:
        samples.setdefault(task_id, []).append(sample)
    known = {problem.task_id: problem for problem in files.problems}
    names = list(known) or sorted(samples, key=natural_order)
    names += sorted(set(samples) - set(names), key=natural_order)
    return tuple(
        _row((name, sample), known.get(name, Problem(name)), states, files)
        for name in names for sample in sorted(samples.get(name, [0]))
    )


def _newer(from_file: ProblemState | None, live: ProblemState) -> ProblemState:
    if from_file is None or live.completion is not None and live.completion != from_file.completion:
        return live
    if not live.verdict:
        return from_file
    return replace(live, completion=from_file.completion if live.completion is None else live.completion,
                   split=live.split or from_file.split, detail=live.detail or from_file.detail)


def _row(key: ProblemKey, problem: Problem, states: dict[ProblemKey, ProblemState], files: ProblemFiles) -> Row:
    state = states.get(key, ProblemState())
    split = state.split or (files.split.kind(key[0]) if files.split else "")
    stored = files.states.get(key)
    same = stored is not None and stored.completion == state.completion
    return Row(key, problem, state, split, files.executions.get(key, Execution()) if same else Execution())


def chosen(rows: tuple[Row, ...], show: Show, words: str) -> tuple[Row, ...]:
    """The rows that a filter lets through; `words` must all occur in task id, entry point, verdict or detail."""
    wanted = words.casefold().split()
    return tuple(row for row in rows if _fits(row, show) and all(word in _haystack(row) for word in wanted))


def _fits(row: Row, show: Show) -> bool:
    if show is Show.HELDOUT:
        return row.split == "heldout"
    return show is Show.ALL or row.status == show.value


def _haystack(row: Row) -> str:
    return " ".join(
        (row.key[0], row.problem.entry_point, row.word, row.state.verdict, row.side, row.state.detail)
    ).casefold()


def counts(rows: tuple[Row, ...]) -> dict[Status, int]:
    """How many rows have each status."""
    return {status: sum(row.status is status for row in rows) for status in Status}
