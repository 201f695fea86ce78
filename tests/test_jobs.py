"""Whole jobs on the tiny model: list() of a generator of events, and what it leaves on disk."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.contract.config import Config, InferenceSettings
from core.contract.config_file import load_config
from core.contract.control import Command, ControlInbox
from core.contract.event_log import EventTail
from core.contract.events import (
    CompletionGenerated,
    EvaluationCompleted,
    Event,
    LossMeasured,
    ModelLoaded,
    Notice,
    ProblemEvaluated,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
)
from core.contract.plan import trainable_parameters
from core.contract.record import Split
from core.contract.runs import RunFolder, create_run, list_runs
from core.contract.sweep_plan import changed
from core.data.humaneval import load_problems
from core.evaluation.job import evaluate
from core.jobs import infer, style_notice, train, with_model_of
from core.model.checkpoint import Checkpoint, load_checkpoint
from core.recorder import record
from tests.other_problems import BASE, MBPP, PLUS, write_problems


@pytest.fixture
def config(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return load_config(overrides=[
        f"model.name={tiny_model_folder}", "hardware.device=cpu", "dataset.max_samples=12", "training.num_epochs=1",
        "soft_prompts.num_virtual_tokens=4", "inference.max_new_tokens=12", "dataset.max_length=2048",
    ])


def run(config: Config) -> tuple[RunFolder, list[Event]]:
    folder = create_run(config, "job")
    return folder, list(record(train(config, folder, ControlInbox(folder.control_file)), folder))


def test_a_run_that_goes_through_transformers_layers_says_so(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.training.setup.row_passes", lambda *arguments: None)
    _, events = run(changed(config, {"evaluation.score_after_training": False}))
    (notice,) = [event for event in events if isinstance(event, Notice) and "transformers' layers" in event.what]
    assert notice.level == "info" and "take longer" in notice.what


def test_a_whole_run(config: Config) -> None:
    folder, events = run(config)
    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunFinished), events[-1]
    assert EventTail(folder.events_file).read() == events
    assert sum(isinstance(event, CompletionGenerated) for event in events) == 12
    assert sum(isinstance(event, ProblemEvaluated) for event in events) == 12
    evaluation = next(event for event in events if isinstance(event, EvaluationCompleted))
    assert (evaluation.overall.total, evaluation.train.total, evaluation.heldout.total) == (12, 9, 3)
    assert [(run.state, bool(run.record and run.record.dataset_sha256)) for run in list_runs()] == [("finished", True)]
    completions = [json.loads(line) for line in Path("results/completions_soft_prompts.jsonl").read_text().splitlines()]
    results = [json.loads(line) for line in (folder.evaluation("best") / "results.jsonl").read_text().splitlines()]
    problems = [json.loads(line)["task_id"] for line in folder.problems_file.read_text().splitlines()]
    assert [row["task_id"] for row in completions] == [row["task_id"] for row in results] == problems
    assert {row["split"] for row in completions} == {"train", "heldout"}
    summary = json.loads((folder.evaluation("best") / "summary.json").read_text())
    assert summary["all"]["total"] == 12 and summary["isolation"]
    assert list(Path("logs").glob("soft_prompt_training_*.log"))


def test_the_readable_log_says_what_people_look_for(config: Config) -> None:
    run(config)
    (log,) = Path("logs").glob("soft_prompt_training_*.log")
    text = log.read_text()
    for words in ("device", "trainable parameters  256", "frozen parameters", "optimizer steps", "effective batch",
                  "learning rate", "warm-up", "held-out loss", "perplexity", "average training loss",
                  "✓ New best checkpoint saved to soft_prompts/best_soft_prompts.pt", "pass@1", "finished in"):
        assert words in text


def test_infer_and_evaluate_after_training(config: Config) -> None:
    run(config)
    before = Path("results/completions_soft_prompts.jsonl").read_text()
    Path("results/completions_soft_prompts.jsonl").unlink()
    events = list(infer(config, None, ControlInbox()))
    assert isinstance(events[-1], RunFinished), events[-1]
    written = Path("results/completions_soft_prompts.jsonl")
    measured = next(event for event in events if isinstance(event, LossMeasured))
    trained = load_checkpoint(Path("soft_prompts/best_soft_prompts.pt"))
    assert measured.loss == pytest.approx(trained.metrics["heldout_loss"], rel=1e-6) and measured.problems == 3
    pick = [[(row["task_id"], row["completion"]) for row in map(json.loads, text.splitlines())]
            for text in (before, written.read_text())]
    assert pick[0] == pick[1]
    scored = list(evaluate(config, written, ControlInbox()))
    evaluation = next(event for event in scored if isinstance(event, EvaluationCompleted))
    assert (evaluation.overall.total, evaluation.train.total, evaluation.heldout.total) == (12, 9, 3)
    assert Path("results/completions_soft_prompts_results.jsonl").exists()


def test_the_split_travels_with_the_checkpoint(config: Config) -> None:
    _, events = run(config)
    other = load_config(overrides=["dataset.seed=7", "hardware.device=cpu", "inference.max_new_tokens=2"])
    target = Path("held.jsonl")
    events = list(infer(other, None, ControlInbox(), split="heldout", output=target))
    assert isinstance(events[-1], RunFinished), events[-1]  # and the model is the checkpoint's own, not the default
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert {row["split"] for row in rows} == {"heldout"} and len(rows) == 3


def test_the_baseline_is_kept_apart(config: Config) -> None:
    events = list(infer(config, None, ControlInbox(), soft=False))
    assert isinstance(events[-1], RunFinished), events[-1]
    rows = [json.loads(line) for line in Path("results/completions_no_soft_prompt.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and {row["checkpoint"] for row in rows} == {"no soft prompt"}
    assert not Path("results/completions_soft_prompts.jsonl").exists()


def test_a_text_prompt_changes_what_is_completed(config: Config) -> None:
    outputs = []
    for position in ("after_soft", "before_soft"):
        text = config.inference.model_copy(update={"text_prompt": "# x\n", "text_prompt_position": position})
        events = list(infer(config.model_copy(update={"inference": text}), None, ControlInbox(), soft=False))
        assert isinstance(events[-1], RunFinished), events[-1]
        outputs.append(Path("results/completions_no_soft_prompt.jsonl").read_text())
    assert outputs[0] == outputs[1]  # without a soft prompt there is no other order
    list(infer(config, None, ControlInbox(), soft=False))
    assert Path("results/completions_no_soft_prompt.jsonl").read_text() != outputs[0]


def test_a_prompt_in_another_style_than_it_was_trained_with_is_told() -> None:
    def told(trained: dict[str, str], now: dict[str, str]) -> list[tuple[str, str]]:
        config = Config(inference=InferenceSettings.model_validate(now))
        checkpoint = Checkpoint(torch.ones(4, 8), "m", 1, 1, {}, {"inference": trained}, Split(train=[], heldout=[]),
                                "r")
        notices = [event for event in style_notice(config, checkpoint) if isinstance(event, Notice)]
        return [(notice.setting, notice.remedy) for notice in notices]

    assert told({}, {}) == told({"prompt_style": "plain"}, {"text_prompt_position": "before_soft"}) == []
    assert told({"text_prompt": "a"}, {"prompt_style": "text", "text_prompt": "a"}) == []
    assert told({"text_prompt": "a"}, {"text_prompt": "b"}) == [
        ("inference.text_prompt", "as in training: 'a', after_soft")]
    assert told({}, {"prompt_style": "infilling"}) == [("inference.prompt_style", "as in training: plain")]
    assert told({"text_prompt": "a"}, {}) == [
        ("inference.prompt_style", "as in training: text, with inference.text_prompt 'a', after_soft")]


STAGES = ["TrainingPlanned", "StepCompleted", "CompletionGenerated", "ProblemEvaluated"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stop_is_obeyed_in_every_stage(stage: str, config: Config) -> None:
    folder = create_run(config, "stopped")
    control = ControlInbox(folder.control_file)
    events: list[Event] = []
    for event in record(train(config, folder, control), folder):
        events.append(event)
        if event.type == stage:
            control.request(Command.STOP)
    assert isinstance(events[-1], RunStopped)
    asked = next(index for index, event in enumerate(events) if event.type == stage)
    assert len(events) - asked <= 6  # notices, what was under way, a checkpoint, RunStopped
    assert [run.state for run in list_runs()] == ["stopped"]
    again = record(train(config, folder, ControlInbox(folder.control_file), resume=True), folder)
    assert isinstance(list(again)[-1], RunFinished)


@pytest.mark.parametrize(("change", "words"), [
    ("model.name=/nowhere/at/all", "no folder /nowhere/at/all"),
    ("dataset.path=/nowhere.jsonl", "no file /nowhere.jsonl"),
    ("dataset.evaluation_path=/nowhere.jsonl", "dataset.evaluation_path: there is no file /nowhere.jsonl"),
    ("soft_prompts.embedding_dim=3", "embedding_dim is 3"),
    ("dataset.max_length=16", "max_length 16"),
])
def test_a_run_that_cannot_start_says_why(change: str, words: str, config: Config) -> None:
    section, _, rest = change.partition(".")
    key, _, value = rest.partition("=")
    changed = getattr(config, section).model_copy(update={key: int(value) if value.isdigit() else value})
    _, events = run(config.model_copy(update={section: changed}))
    failed = events[-1]
    assert isinstance(failed, RunFailed) and words in failed.what and failed.remedy
    assert [run.state for run in list_runs()] == ["failed"]


def test_what_was_cut_is_reported_by_task_id(config: Config) -> None:
    shorter = config.dataset.model_copy(update={"max_length": 200})
    _, events = run(config.model_copy(update={"dataset": shorter}))
    notices = [event for event in events if isinstance(event, Notice) and event.setting == "dataset.max_length"]
    assert notices and all("HumanEval/" in notice.what for notice in notices)


def test_an_error_nobody_foresaw_is_an_event_too(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Iterator[Event]:
        raise ZeroDivisionError("what?")
        yield

    monkeypatch.setattr("core.training.loop.Trainer.fit", broken)
    _, events = run(config)
    assert isinstance(events[-1], RunFailed) and events[-1].what == "unexpected ZeroDivisionError"


def test_a_run_does_not_go_on_with_other_problems(config: Config, tmp_path: Path) -> None:
    rows = [json.dumps(vars(problem)) for problem in load_problems().problems[:9]]
    file = tmp_path / "problems.jsonl"
    file.write_text("\n".join(rows[:8]))
    dataset = config.dataset.model_copy(update={"path": str(file), "max_samples": None})
    mine = config.model_copy(update={"dataset": dataset})
    folder = create_run(mine, "changed")
    control = ControlInbox(folder.control_file)
    for event in record(train(mine, folder, control), folder):
        if event.type == "StepCompleted":
            control.request(Command.STOP)
    before = folder.read_record()
    file.write_text("\n".join(rows))
    events = list(record(train(mine, folder, ControlInbox(), resume=True), folder))
    failed = events[-1]
    assert isinstance(failed, RunFailed) and "the problems have changed" in failed.what
    assert folder.read_record().split == before.split


def test_a_checkpoint_cannot_allow_the_code_of_its_model(config: Config) -> None:
    trusting = config.model_copy(update={"model": config.model.model_copy(update={"trust_remote_code": True})})
    checkpoint = Checkpoint(torch.ones(4, 8), "m", 1, 1, {}, trusting.model_dump(), Split(train=[], heldout=[]), "r")
    taken = with_model_of(checkpoint, Config(), []).model
    assert (taken.name, taken.trust_remote_code) == (config.model.name, False)
    assert with_model_of(checkpoint, trusting, []).model.trust_remote_code is True


# Other tests


@pytest.fixture
def mine(config: Config) -> Config:
    """A run on six small problems, with files of other tests beside them."""
    for name, problems in (("base", BASE), ("plus", PLUS), ("mbpp", MBPP)):
        write_problems(Path(f"{name}.jsonl"), problems)
    dataset = config.dataset.model_copy(update={"path": "base.jsonl", "max_samples": None})
    return config.model_copy(update={"dataset": dataset})


def on(config: Config, evaluation: str | None) -> Config:
    dataset = config.dataset.model_copy(update={"evaluation_path": evaluation})
    return config.model_copy(update={"dataset": dataset})


def read_rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_on_one_file_is_scored_on_another(mine: Config) -> None:
    folder, events = run(on(mine, "mbpp.jsonl"))
    assert isinstance(events[-1], RunFinished), events[-1]
    evaluation = next(event for event in events if isinstance(event, EvaluationCompleted))
    assert (evaluation.overall.total, evaluation.train.total, evaluation.heldout.total) == (4, 0, 4)
    rows = read_rows(folder.evaluation("best") / "results.jsonl")
    assert [row["task_id"] for row in rows] == [problem.task_id for problem in MBPP]
    checkpoint = load_checkpoint(folder.checkpoints / "best.pt")
    assert {*checkpoint.split.train, *checkpoint.split.heldout} == {problem.task_id for problem in BASE}
    again = list(evaluate(mine, Path("results/completions_soft_prompts.jsonl"), ControlInbox()))
    assert isinstance(again[-1], RunFinished), "the rows say whose completions they are"
    made = list(infer(on(mine, "mbpp.jsonl"), None, ControlInbox(), output=Path("made.jsonl")))
    measured = next(event for event in made if isinstance(event, LossMeasured))
    assert isinstance(made[-1], RunFinished)
    assert measured.loss == pytest.approx(checkpoint.metrics["heldout_loss"], rel=1e-6), "of what it held out itself"
    kept = ("task_id", "completion", "split")
    assert [[row[key] for key in kept] for row in read_rows(Path("made.jsonl"))] == [
        [row[key] for key in kept] for row in rows
    ]


def test_a_run_scored_on_its_own_problems_with_other_tests_says_which_it_has_seen(mine: Config) -> None:
    _, events = run(on(mine, "plus.jsonl"))
    evaluation = next(event for event in events if isinstance(event, EvaluationCompleted))
    assert (evaluation.overall.total, evaluation.train.total, evaluation.heldout.total) == (6, 4, 2)
    notices = [e.what for e in events if isinstance(e, Notice) and e.setting == "dataset.evaluation_path"]
    assert notices == ["4 of its 6 problems are training problems too, and count as train"]
    Path("base.jsonl").unlink()  # what a checkpoint was trained on may be gone: then its task ids count
    elsewhere = mine.dataset.model_copy(update={"path": "mbpp.jsonl", "evaluation_path": "plus.jsonl"})
    events = list(infer(mine.model_copy(update={"dataset": elsewhere}), None, ControlInbox(), split="train",
                        output=Path("seen.jsonl")))
    assert isinstance(events[-1], RunFinished), events[-1]
    assert len(read_rows(Path("seen.jsonl"))) == 4


def test_the_other_tests_decide(mine: Config) -> None:
    lazy = "    return items[-1]\n"  # right for the one test of HumanEval/5, and wrong
    samples = [(one.task_id, one.canonical_solution) for one in BASE[:5]] + [(BASE[5].task_id, lazy)]
    samples_file, other_file = Path("samples.jsonl"), Path("other.jsonl")
    samples_file.write_text("".join(json.dumps({"task_id": t, "completion": c}) + "\n" for t, c in samples))
    other_file.write_text("".join(json.dumps({"task_id": one.task_id, "completion": one.canonical_solution,
                                              "problems_path": "mbpp.jsonl"}) + "\n" for one in MBPP))
    scored = []
    for config, file in ((mine, samples_file), (on(mine, "plus.jsonl"), samples_file), (mine, other_file)):
        events = list(evaluate(config, file, ControlInbox()))
        scored += [(e.overall.passed, e.overall.total) for e in events if isinstance(e, EvaluationCompleted)]
    assert scored == [(6, 6), (5, 6), (4, 4)]


def test_other_tests_that_changed_end_a_run_that_goes_on(mine: Config) -> None:
    config = on(mine, "mbpp.jsonl")
    folder = create_run(config, "changed")
    control = ControlInbox(folder.control_file)
    for event in record(train(config, folder, control), folder):
        if event.type == "StepCompleted":
            control.request(Command.STOP)
    write_problems(Path("mbpp.jsonl"), MBPP[:-1])
    failed = list(record(train(config, folder, ControlInbox(), resume=True), folder))[-1]
    assert isinstance(failed, RunFailed) and "the problems have changed" in failed.what
    assert "dataset.evaluation_path" in failed.remedy


def test_a_residual_run_tells_all_that_it_trains_and_leaves_plain_rows(config: Config) -> None:
    prompts = config.soft_prompts.model_copy(update={"reparameterisation": "residual"})
    evaluation = config.evaluation.model_copy(update={"score_after_training": False})
    folder, events = run(config.model_copy(update={"soft_prompts": prompts, "evaluation": evaluation}))
    told = next(event for event in events if isinstance(event, ModelLoaded))
    assert told.trainable_parameters == trainable_parameters(prompts, 64) > 4 * 64
    assert load_checkpoint(folder.checkpoints / "best.pt").soft_prompt.shape == (4, 64)
