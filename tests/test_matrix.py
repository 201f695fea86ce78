"""The grid of styles, soft prompt and post-processing on the tiny model: what it is made of, and going on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core.cli import main
from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import Command, ControlInbox
from core.contract.events import (
    CompletionGenerated,
    Event,
    Notice,
    ProblemEvaluated,
    RunFailed,
    RunFinished,
    RunStopped,
)
from core.contract.record import Split
from core.data.humaneval import load_problems, select_problems, split_problems
from core.evaluation.completions import read_completions
from core.generation.postprocess import LEVELS
from core.jobs import infer
from core.matrix import Matrix, matrix
from core.model.checkpoint import Checkpoint, save_checkpoint

STOPS = "inference.stop_sequences=['e', ' ']"


def options(model: Path) -> list[str]:
    return [f"model.name={model}", "hardware.device=cpu", "dataset.max_samples=5", "inference.max_new_tokens=10",
            "evaluation.allow_weak_sandbox=true", "dataset.max_length=2048", STOPS]


@pytest.fixture
def config(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Settings, in a folder that has a published checkpoint."""
    monkeypatch.chdir(tmp_path)
    config = load_config(overrides=options(tiny_model_folder))
    publish(config, 1)
    return config


def publish(config: Config, seed: int) -> None:
    rows = torch.randn(4, 64, generator=torch.Generator().manual_seed(seed)) * 0.2
    split = split_problems(select_problems(load_problems(), config.dataset), config.dataset)
    save_checkpoint(Checkpoint(rows, config.model.name, 1, 1, {}, config.model_dump(), split, "r"),
                    Path(config.inference.checkpoint_path))


def made(config: Config, control: ControlInbox | None = None, **how: Any) -> tuple[list[Event], Matrix | None]:
    """The events of a grid, and its value."""
    events: list[Event] = []
    work = matrix(config, how.pop("checkpoint", None), control or ControlInbox(), **how)
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return events, end.value


def count(events: list[Event], kind: type) -> int:
    return sum(isinstance(event, kind) for event in events)


def with_text(config: Config) -> Config:
    inference = config.inference.model_copy(update={"text_prompt": "# Python\n"})
    return config.model_copy(update={"inference": inference})


def test_a_grid_is_made_once_and_none_is_what_the_decoder_would_have_given(config: Config) -> None:
    events, grid = made(with_text(config))
    assert isinstance(events[-1], RunFinished) and grid is not None, events[-1]
    assert [(cell.style, cell.soft_prompt, cell.post_processing) for cell in grid.cells] == [
        (style, soft, level) for style in ("plain", "text") for soft in (False, True) for level in LEVELS]
    assert count(events, CompletionGenerated) == 4 * 5
    notices = [event for event in events if isinstance(event, Notice)]
    assert ["infilling is left out: the model's tokenizer has no" in notice.what for notice in notices].count(True) == 1
    assert [notice.remedy for notice in notices if notice.what.startswith("the soft prompt was trained")] == [
        "as in training: plain"]  # once: for the style text
    assert list(grid.left_out) == ["infilling"]

    for soft in (False, True):
        list(infer(config, None, ControlInbox(), soft=soft, output=Path("decoded.jsonl")))
        decoded = {row["task_id"]: row["completion"] for row in read_completions(Path("decoded.jsonl"))}
        (cell,) = [cell for cell in grid.cells if (cell.style, cell.soft_prompt, cell.post_processing) == (
            "plain", soft, "none")]
        rows = read_completions(Path(cell.results_path))
        assert {row["task_id"]: row["completion"] for row in rows} == decoded
        assert any(row["raw_completion"] != row["completion"] for row in rows)
        assert {key: cell.scores[key].total for key in ("heldout", "train", "all")} == {
            "heldout": 1, "train": 4, "all": 5}

    again, same = made(with_text(config))
    assert same == grid and not count(again, CompletionGenerated) and not count(again, ProblemEvaluated)
    publish(config, 2)
    changed, _ = made(config, styles=["plain"])
    assert count(changed, CompletionGenerated) == 5  # with the soft prompt, which is another one now


def test_a_grid_that_was_stopped_goes_on(config: Config) -> None:
    control = ControlInbox()
    events: list[Event] = []
    for event in matrix(config, None, control, styles=["plain"]):
        events.append(event)
        if isinstance(event, ProblemEvaluated):
            control.request(Command.STOP)
    assert isinstance(events[-1], RunStopped) and count(events, CompletionGenerated) == 5
    executed = count(events, ProblemEvaluated)
    rest, grid = made(config, styles=["plain"])
    assert grid is not None and count(rest, CompletionGenerated) == 5  # those of the soft prompt
    told = [event for event in rest if isinstance(event, Notice) and event.what.startswith("going on")]
    assert executed >= 1 and len(told) == 1


def test_the_cells_hold_the_verdicts_of_their_own_completions(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that answers in Markdown: nothing runs before the fences are gone."""
    solutions = {problem.task_id: problem.prompt + problem.canonical_solution for problem in load_problems().problems}

    def answering(_: Any, loaded: Any, rows: Any, problems: Any, split: Split, output: Path, *more: Any, **most: Any
                  ) -> Any:
        lines = [{"task_id": problem.task_id, "sample": 0, "split": split.kind(problem.task_id),
                  "completion": f"Sure:\n```python\n{solutions[problem.task_id]}```\nDone."} for problem in problems]
        output.write_text("".join(json.dumps(line) + "\n" for line in lines))
        yield from ()

    monkeypatch.setattr("core.matrix.complete_problems", answering)
    _, grid = made(config, styles=["plain"], split="heldout")
    assert grid is not None and grid.problems == 1
    assert [cell.scores["heldout"].pass_at_1 for cell in grid.cells] == [0, 0, 1, 1, 1, 1] * 2
    lines = grid.lines()
    assert lines[0].endswith(f"at most 10 new tokens, temperature 0, 1 problems, isolation {grid.isolation}")
    assert lines[2] == ("| style | soft prompt | post-processing | pass@1 held-out (1) | pass@1 train (0) | "
                        "pass@1 all (1) |")
    assert lines[6] == "| plain | no | post_v2 | 1.000 (0.207 – 1.000) | – | 1.000 (0.207 – 1.000) |"
    assert len(lines) == 4 + 12 and grid.as_json()["cells"][2]["heldout"]["pass@1"] == 1


def test_without_a_checkpoint_there_are_no_rows_with_a_soft_prompt(
    config: Config, tiny_model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path(config.inference.checkpoint_path).unlink()
    settings = [part for text in options(tiny_model_folder) for part in ("--set", text)]
    assert main(["matrix", "--styles", "plain", "--json", "--output", "kept", *settings]) == 0
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert [cell["soft_prompt"] for cell in report["cells"]] == [False] * 6 and report["checkpoint"] == ""
    assert all(Path(cell["results_path"]).parent.parent == Path("kept") for cell in report["cells"])
    assert "there is no soft_prompts/best_soft_prompts.pt: no rows with a soft prompt" in err
    assert main(["matrix", "--styles", "text", "--output", "kept", *settings]) == 1
    out, err = capfd.readouterr()
    assert out == "" and "no style is left" in err and "set inference.text_prompt" in err


def test_what_cannot_be_had_fails_before_anything_is_completed(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, grid = made(config, checkpoint=Path("none.pt"))
    assert grid is None and isinstance(events[-1], RunFailed) and "no checkpoint none.pt" in events[-1].what
    monkeypatch.setattr("core.evaluation.permission.isolation_level", lambda: "process")
    strict = config.evaluation.model_copy(update={"allow_weak_sandbox": False})
    events, grid = made(config.model_copy(update={"evaluation": strict}))
    assert grid is None and len(events) == 1 and isinstance(events[0], RunFailed)
    assert not Path("results/matrix").exists()


def test_an_unknown_style_is_a_wrong_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["matrix", "--styles", "plain,fim"])
    assert left.value.code == 2 and "'fim' is no prompt style" in capsys.readouterr().err
