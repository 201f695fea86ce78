"""What a user did to problems by hand while the app is open: runs of stored completions, and scratch copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from textual.screen import Screen

from tui.problems.files import EvaluationRef
from tui.problems.listing import Attempt, Row
from tui.problems.run import Rerun, obstacle, run_program
from tui.problems.scratch import Scratch

if TYPE_CHECKING:
    from tui.app import SofttuneApp

HandKey = tuple[str, str, str, int]
"""Run folder, checkpoint, task id, sample: what a run by hand and a scratch copy belong to."""


def hand_key(ref: EvaluationRef, row: Row) -> HandKey:
    """The key of a problem in an evaluation."""
    return (str(ref.run.root), ref.checkpoint, *row.key)


class ByHand:
    """Runs and copies of a screen.

    Args:
        screen: whose workers the runs are.
        changed: called when a run gets on.
    """

    def __init__(self, screen: Screen[None], changed: Callable[[], None]) -> None:
        self._screen = screen
        self._changed = changed
        self._reruns: dict[HandKey, tuple[str, Rerun]] = {}
        """With the completion that was run: a later scoring may have stored another."""
        self._scratches: dict[HandKey, Scratch] = {}

    def reruns(self, refs: Sequence[EvaluationRef], row: Row) -> tuple[Rerun | None, ...]:
        """How the runs of a row stand, one an evaluation."""
        return tuple(self._rerun_of(hand_key(ref, row), attempt)
                     for ref, attempt in zip(refs, row.attempts, strict=False))

    def _rerun_of(self, key: HandKey, attempt: Attempt) -> Rerun | None:
        completion, rerun = self._reruns.get(key, ("", None))
        return rerun if completion == attempt.state.completion else None

    def rerun(self, refs: Sequence[EvaluationRef], row: Row) -> None:
        """Run what a row's completions are again."""
        for ref, attempt in zip(refs, row.attempts, strict=False):
            if attempt.state.completion is not None:
                self._screen.run_worker(self._run(ref, row, attempt.state.completion),
                                        group=f"rerun {hand_key(ref, row)}", exclusive=True)

    async def _run(self, ref: EvaluationRef, row: Row, completion: str) -> None:
        consent = cast("SofttuneApp", self._screen.app).consent
        async for rerun in run_program(consent, ref.run, row.problem, completion):
            self._reruns[hand_key(ref, row)] = completion, rerun
            self._changed()

    def scratch(self, refs: Sequence[EvaluationRef], row: Row) -> Scratch | str:
        """The scratch copy of a row, or why there can be none.

        Of two completions it is A's, or B's where A has none or B lost what A passed.
        """
        second = row.b is not None and (row.a.state.completion is None or row.flip == "lost")
        attempt: Attempt = row.attempts[1 if second else 0]
        said = obstacle(row.problem, None if attempt.state.completion is None else "")
        if said:
            return said
        ref = refs[1 if second else 0]
        made = Scratch.of(ref, row, attempt)
        kept = self._scratches.get(hand_key(ref, row))
        if kept is None or kept.original != made.original:  # another is stored by now; the file has the edits
            self._scratches[hand_key(ref, row)] = kept = made
        kept.stored = attempt
        return kept
