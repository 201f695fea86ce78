"""What the events of one evaluation come to: the object of `--json`, and what stands below the table."""

from __future__ import annotations

from collections import Counter
from typing import Any

from core.contract.events import EvaluationCompleted, Event, Notice, ProblemEvaluated
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
        if self.completed is None:
            return {}
        done = self.completed
        scores = {"all": done.overall, "train": done.train, "heldout": done.heldout}
        return {
            "isolation": done.isolation, **{kind: score.counts() for kind, score in scores.items()},
            "intervals": {kind: score.intervals for kind, score in scores.items()},
            "results_path": done.results_path, "verdicts": self.verdicts,
        }

    def lines(self) -> list[str]:
        """How often each verdict was given, and again what the scores must not be read without."""
        if self.completed is None:
            return []
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in self.verdicts.items())
        of = f" of {self._verdicts.total()} samples" if self.completed.overall.several else ""
        return [f"verdicts{of}: {verdicts}", *(f"{notice.what}; {notice.remedy}" for notice in self._limits)]
