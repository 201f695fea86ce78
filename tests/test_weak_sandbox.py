"""A machine that grants only the weak sandbox: nothing is executed without leave, and nothing else is lost by that."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from core.contract.config import Config, EvaluationSettings
from core.contract.config_file import load_config
from core.contract.control import ControlInbox
from core.contract.errors import SandboxError, WeakSandboxError
from core.contract.events import (
    CompletionGenerated,
    EvaluationCompleted,
    Event,
    Notice,
    ProblemEvaluated,
    RunFailed,
    RunFinished,
    RunStarted,
)
from core.contract.runs import RunFolder, create_run, list_runs
from core.contract.workbench import ProblemText, ProgramRan, RunProgram, ScoreCheckpoint, Told
from core.evaluation.job import evaluate
from core.evaluation.permission import foretell_refusal, refusal_to_run, unless_refused
from core.evaluation.sandbox import isolation_level
from core.jobs import train
from core.recorder import record
from core.workbench.checkpoints import score_checkpoint
from core.workbench.models import Models
from core.workbench.programs import run_program
from core.workbench.refusals import refusal
from tests.evaluation.machines import refuse

ALLOW = WeakSandboxError.setting
PROBLEM = ProblemText(task_id="Test/42", prompt="def answer():\n", entry_point="answer",
                      test="def check(candidate):\n    assert candidate() == 42\n")


@pytest.fixture
def weak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses namespaces and has no Landlock."""
    refuse(monkeypatch, "namespaces", "landlock")


@pytest.fixture
def settings(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return [
        f"model.name={tiny_model_folder}", "hardware.device=cpu", "dataset.max_samples=8", "training.num_epochs=1",
        "soft_prompts.num_virtual_tokens=4", "inference.max_new_tokens=6", "dataset.max_length=2048",
    ]


def run(config: Config) -> tuple[RunFolder, list[Event]]:
    folder = create_run(config, "weak")
    return folder, list(record(train(config, folder, ControlInbox(folder.control_file)), folder))


def about_the_sandbox(events: list[Event]) -> list[Notice]:
    return [event for event in events if isinstance(event, Notice) and event.setting == ALLOW]


def test_a_run_says_at_its_start_that_it_will_not_be_scored(weak: None, settings: list[str]) -> None:
    folder, events = run(load_config(overrides=settings))
    assert isinstance(events[0], RunStarted) and isinstance(events[1], Notice), events[:2]
    first, last = about_the_sandbox(events)
    assert first is events[1] and first.level == "warning" and "will not be scored" in first.what
    assert "read your files" in first.what and f"set {ALLOW} to true" in first.remedy
    finished = events[-1]
    assert isinstance(finished, RunFinished) and finished.evaluation is None and last is events[-2]
    assert [run.state for run in list_runs()] == ["finished"]
    assert sum(isinstance(event, CompletionGenerated) for event in events) == 8
    assert not any(isinstance(event, ProblemEvaluated | EvaluationCompleted) for event in events)
    place = folder.evaluation("best")
    assert [path.name for path in place.iterdir()] == ["completions.jsonl"]
    assert (place / "completions.jsonl").read_bytes() == Path("results/completions_soft_prompts.jsonl").read_bytes()
    command = f"softtune evaluate --input {place}/completions.jsonl --output {place}/results.jsonl --set {ALLOW}=true,"
    assert last.remedy.startswith(command)

    refused = list(evaluate(load_config(overrides=settings), place / "completions.jsonl", ControlInbox()))
    assert isinstance(refused[-1], RunFailed) and f"{ALLOW}: true" in refused[-1].remedy
    assert "only the weak sandbox" in refused[-1].what and not (place / "completions_results.jsonl").exists()
    allowing = load_config(overrides=[*settings, f"{ALLOW}=true"])
    scored = list(evaluate(allowing, place / "completions.jsonl", ControlInbox(), results=place / "results.jsonl"))
    assert isinstance(scored[-1], RunFinished), scored[-1]
    rows = [json.loads(line) for line in (place / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and {row["isolation"] for row in rows} == {"process"}


def test_a_run_that_is_allowed_to_is_scored(weak: None, settings: list[str]) -> None:
    _, events = run(load_config(overrides=[*settings, f"{ALLOW}=true"]))
    finished = events[-1]
    assert isinstance(finished, RunFinished) and finished.evaluation is not None, finished
    assert finished.evaluation.isolation == "process" and finished.evaluation.overall.total == 8
    told = [event for event in events if isinstance(event, Notice) and "read your files" in event.what]
    assert len(told) == 1  # when the first program has run, and not with every one


def test_landlock_needs_no_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "namespaces")
    if isolation_level() != "landlock":
        pytest.skip("this machine has no Landlock")
    assert refusal_to_run(EvaluationSettings()) is None
    (reply,) = ran(RunProgram(id=1, problem=PROBLEM, completion="    return 42\n"))
    assert reply.passed and reply.isolation == "landlock"


def test_where_nothing_is_scored_no_sandbox_is_tried(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.evaluation.permission.isolation_level", lambda: pytest.fail("it was tried"))
    _, events = run(load_config(overrides=[*settings, "evaluation.score_after_training=false"]))
    assert isinstance(events[-1], RunFinished), events[-1]


@pytest.mark.parametrize(("level", "refuses"), [("namespaces", False), ("process", True)])
def test_a_fault_is_no_refusal(level: str, refuses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that broke is a failure of the run; one that is refused is not."""
    monkeypatch.setattr("core.evaluation.permission.isolation_level", lambda: level)

    def scoring() -> Generator[Event, None, EvaluationCompleted | None]:
        yield Notice(what="completed")
        raise SandboxError("the sandbox failed twice on one program")

    events = unless_refused(scoring(), EvaluationSettings(), Path("c.jsonl"))
    assert isinstance(next(events), Notice)
    if refuses:
        assert [event.setting for event in events if isinstance(event, Notice)] == [ALLOW]
    else:
        with pytest.raises(SandboxError, match="failed twice"):
            list(events)


def test_a_machine_that_starts_no_sandbox_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("core.evaluation.server_process._SERVER", tmp_path / "missing")
    (notice,) = foretell_refusal(EvaluationSettings(allow_weak_sandbox=True))
    assert isinstance(notice, Notice) and "will not be scored: programs cannot be executed here" in notice.what
    assert notice.setting == "" and ALLOW not in notice.remedy


def ran(request: RunProgram) -> list[ProgramRan]:
    return [reply for reply in run_program(request) if isinstance(reply, ProgramRan)]


def test_one_program_needs_leave_too(weak: None) -> None:
    request = RunProgram(id=1, problem=PROBLEM, completion="    return 42\n")
    with pytest.raises(WeakSandboxError) as caught:
        list(run_program(request))
    refused = refusal(1, caught.value)
    assert (refused.what, refused.remedy, refused.setting) == (caught.value.what, caught.value.remedy, ALLOW)
    allowing = EvaluationSettings(allow_weak_sandbox=True)
    (reply,) = ran(request.model_copy(update={"evaluation": allowing}))
    assert reply.passed and reply.isolation == "process"
    assert reply.cpu_seconds is not None and reply.peak_memory_mb is not None and reply.peak_memory_mb > 1


def test_a_checkpoint_is_not_completed_when_it_cannot_be_scored(weak: None, settings: list[str]) -> None:
    """And what the run itself was allowed says nothing: its folder may have come from elsewhere."""
    folder, _ = run(load_config(overrides=[*settings, f"{ALLOW}=true", "evaluation.score_after_training=false"]))
    request = ScoreCheckpoint(id=1, run=str(folder.root), checkpoint="best")
    with pytest.raises(WeakSandboxError):
        next(score_checkpoint(request, Models(), ControlInbox()))  # before it loads the model
    assert not folder.evaluation("best").exists()
    replies = list(score_checkpoint(request.model_copy(update={"allow_weak_sandbox": True}), Models(), ControlInbox()))
    events = [reply.event for reply in replies if isinstance(reply, Told)]
    assert [event.isolation for event in events if isinstance(event, EvaluationCompleted)] == ["process"]
