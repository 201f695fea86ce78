"""What the events of one evaluation come to: the object of `--json`, and what stands below the table."""

from __future__ import annotations

from collections import Counter
from typing import Any

from core.contract.events import EvaluationCompleted, Event, Notice, ProblemEvaluated, Score
from core.evaluation.scoring import PARTIAL


class Report:
    """Fed with every event, in order."""

    def __init__(self) -> None:
        self.completed: EvaluationCompleted | None = None
        self.progress = ""
        """"83 of 164", "" before the first verdict."""
        self._verdicts: Counter[str] = Counter()
        self._limits: list[Notice] = []

    def add(self, event: Event) -> None:
        """Take one event in."""
        if isinstance(event, ProblemEvaluated):
            self._verdicts[event.verdict] += 1
            self.progress = f"{event.done} of {event.total}"
        elif isinstance(event, Notice) and (event.level == "warning" or event.remedy == PARTIAL):
            self._limits.append(event)
        elif isinstance(event, EvaluationCompleted):
            self.completed = event

    @property
    def verdicts(self) -> dict[str, int]:
        """How many completions got each verdict: passed first, then the most frequent."""
        return {"passed": self._verdicts["passed"]} | dict(self._verdicts.most_common())

    def as_json(self) -> dict[str, Any]:
        """The one object that a script gets; {} when the evaluation did not end."""
        done = self.completed
        if done is None:
            return {}
        return {
            "isolation": done.isolation, "all": _fields(done.overall), "train": _fields(done.train),
            "heldout": _fields(done.heldout), "verdicts": self.verdicts, "results_path": done.results_path,
        }

    def lines(self) -> list[str]:
        """How often each verdict was given, and again what the scores must not be read without."""
        if self.completed is None:
            return []
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in self.verdicts.items())
        return [f"verdicts: {verdicts}", *(f"{notice.what}; {notice.remedy}" for notice in self._limits)]


def _fields(score: Score) -> dict[str, Any]:
    """A score with its own names; pass@1 is null when nothing was run, what was not asked for is left out."""
    fields = score.model_dump(by_alias=True)
    return {key: value for key, value in fields.items() if value is not None or key == "pass@1"}
