"""Whether programs may be executed on this machine: asked before hours are spent on completions that they are of."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

from core.contract.config import EvaluationSettings
from core.contract.errors import SandboxError, WeakSandboxError
from core.contract.events import EvaluationCompleted, Event, Notice
from core.evaluation.sandbox import isolation_level


def refusal_to_run(settings: EvaluationSettings) -> SandboxError | None:
    """Why programs would not be executed with these settings; None where they would. Starts a sandbox: about 0.2 s."""
    try:
        level = isolation_level()
    except SandboxError as error:
        return error
    return WeakSandboxError() if level == "process" and not settings.allow_weak_sandbox else None


def foretell_refusal(settings: EvaluationSettings) -> Iterator[Event]:
    """Tell before the training that there will be no scores after it, where that is so."""
    refusal = refusal_to_run(settings)
    if refusal is not None:
        doctor = "softtune doctor tells what is missing"
        mend = f"set {refusal.setting} to true; {doctor}" if refusal.setting else refusal.remedy
        yield Notice(setting=refusal.setting, what=f"this run will not be scored: {refusal.what}",
                     remedy=f"it trains and completes the problems all the same; to have it scored, stop it and {mend}")


def unless_refused(
    scoring: Generator[Event, None, EvaluationCompleted | None], settings: EvaluationSettings, completions: Path
) -> Generator[Event, None, EvaluationCompleted | None]:
    """Complete and score; where executing is refused, tell how the completions are scored later.

    The generator's value is the scores, None where there are none.

    Args:
        scoring: completes, then executes; its value is the scores.
        completions: the file that it writes before it executes anything.
    """
    try:
        return (yield from scoring)
    except SandboxError:
        refusal = refusal_to_run(settings)
        if refusal is None:  # a fault, and not the machine's answer
            raise
    command = f"softtune evaluate --input {completions} --output {completions.with_name('results.jsonl')}"
    here = f"{command} --set {refusal.setting}=true, or without --set on" if refusal.setting else f"{command} on"
    yield Notice(setting=refusal.setting, what=f"the problems are completed, but not scored: {refusal.what}",
                 remedy=f"{here} a machine that grants more; in the app E, on the Checkpoints screen, asks")
    return None
