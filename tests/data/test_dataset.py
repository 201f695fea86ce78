"""The problems of a run: what is split, what is scored, and what the run folder says of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.errors import DataError
from core.contract.runs import RunFolder, create_run
from core.data.dataset import Dataset, prepare_dataset, problems_of_rows, read_evaluation
from tests.other_problems import BASE, MBPP, PLUS, write_problems


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, problems in (("base", BASE), ("plus", PLUS), ("mbpp", MBPP)):
        write_problems(Path(f"{name}.jsonl"), problems)


def config_of(evaluation: str, *more: str) -> Config:
    return load_config(overrides=["dataset.path=base.jsonl", f"dataset.evaluation_path={evaluation}", *more])


def prepared(config: Config) -> tuple[RunFolder, Dataset]:
    folder = create_run(config, "test")
    return folder, prepare_dataset(config, folder)


def test_nothing_of_another_file_is_trained_on() -> None:
    folder, dataset = prepared(config_of("mbpp.jsonl"))
    assert dataset.selected == BASE and dataset.scored == MBPP
    assert dataset.scored_split.train == [] and len(dataset.scored_split.heldout) == len(MBPP)
    assert list(dataset.overlap()) == []
    assert folder.read_record().scored_split == dataset.scored_split and folder.read_record().split == dataset.split
    assert [json.loads(line) for line in folder.problems_file.read_text().splitlines()] == [vars(one) for one in MBPP]


def test_training_problems_with_other_tests_count_as_train_and_are_told() -> None:
    _, dataset = prepared(config_of("plus.jsonl"))
    assert dataset.scored == PLUS and dataset.scored_split == dataset.split
    (notice,) = dataset.overlap()
    assert notice.setting == "dataset.evaluation_path" and "4 of its 6 problems are training problems" in notice.what


def test_the_same_id_with_another_prompt_is_another_problem() -> None:
    strangers = [dataclasses.replace(one, prompt=f"# another\n{one.prompt}") for one in BASE]
    write_problems(Path("strangers.jsonl"), strangers)
    _, dataset = prepared(config_of("strangers.jsonl"))
    assert dataset.scored_split.train == [] and list(dataset.overlap()) == []
    settings = config_of("strangers.jsonl").dataset
    other = read_evaluation(settings, dict.fromkeys(dataset.split.train))
    assert other is not None and other.split == dataset.split, "a prompt that is not known may be the same"


def test_max_samples_is_of_each_file() -> None:
    _, dataset = prepared(config_of("mbpp.jsonl", "dataset.max_samples=3"))
    assert len(dataset.selected) == len(dataset.scored) == 3


@pytest.mark.parametrize("name", ["base", "mbpp"])
def test_a_run_that_goes_on_needs_the_problems_it_began_with(name: str) -> None:
    config = config_of("mbpp.jsonl")
    folder, _ = prepared(config)
    prepare_dataset(config, folder)
    write_problems(Path(f"{name}.jsonl"), {"base": BASE, "mbpp": MBPP}[name][:-1])
    setting = {"base": "dataset.path", "mbpp": "dataset.evaluation_path"}[name]
    with pytest.raises(DataError, match="the problems have changed since") as caught:
        prepare_dataset(config, folder)
    assert f"restore the file that {setting} names" in caught.value.remedy


def test_a_file_that_is_not_there_is_named_with_its_setting() -> None:
    with pytest.raises(DataError, match=r"dataset.evaluation_path: there is no file none.jsonl") as caught:
        prepared(config_of("none.jsonl"))
    assert "null for the problems of dataset.path" in caught.value.remedy
    Path("empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"dataset.evaluation_path: empty.jsonl has 0 problems"):
        prepared(config_of("empty.jsonl"))


def test_completions_find_their_problems_by_settings_then_by_what_they_say() -> None:
    def found(rows: list[dict[str, object]], *overrides: str) -> object:
        return problems_of_rows(rows, load_config(overrides=list(overrides)).dataset)["HumanEval/0"]

    rows: list[dict[str, object]] = [{"problems_path": "plus.jsonl"}, {"problems_path": "plus.jsonl"}]
    assert found(rows) == PLUS[0]
    assert found(rows, "dataset.evaluation_path=base.jsonl") == BASE[0]
    assert found([{}, *rows], "dataset.path=base.jsonl") == BASE[0], "rows of several files are of none"
    assert found([{"problems_path": ["plus.jsonl"]}], "dataset.path=base.jsonl") == BASE[0]
