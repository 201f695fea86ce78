"""Problems, their hash, their split."""

import gzip
import json
import os
from pathlib import Path

import pytest

from core.contract.config import DatasetSettings
from core.contract.errors import DataError
from core.data.humaneval import load_problems, select_problems, split_problems


def test_humaneval_has_164_problems_and_splits_into_131_and_33() -> None:
    everything = load_problems()
    split = split_problems(select_problems(everything, DatasetSettings()), DatasetSettings())
    assert (len(everything.problems), len(split.train), len(split.heldout)) == (164, 131, 33)
    assert not set(split.train) & set(split.heldout)
    assert split == split_problems(list(everything.problems), DatasetSettings())
    assert split != split_problems(list(everything.problems), DatasetSettings(seed=1))


def test_max_samples_takes_a_seeded_sample_in_file_order() -> None:
    everything = load_problems()
    few = select_problems(everything, DatasetSettings(max_samples=10))
    assert len(few) == 10 and few == [p for p in everything.problems if p in few]
    assert few != select_problems(everything, DatasetSettings(max_samples=10, seed=7))


def row(**changes: object) -> str:
    problem = {"task_id": "a", "prompt": "def f():\n", "entry_point": "f", "canonical_solution": "    return 1\n",
               "test": "def check(c): pass"}
    return json.dumps(problem | changes)


def test_the_hash_is_of_the_content_not_of_the_packing(tmp_path: Path) -> None:
    text = f"{row()}\n\n{row(task_id='b', extra=1)}\n"
    (tmp_path / "p.jsonl").write_text(text)
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    plain, packed = load_problems(str(tmp_path / "p.jsonl")), load_problems(str(tmp_path / "p.jsonl.gz"))
    assert plain.sha256 == packed.sha256 and len(plain.problems) == 2
    (tmp_path / "p.jsonl").write_text(text.replace("return 1", "return 2"))
    assert load_problems(str(tmp_path / "p.jsonl")).sha256 != plain.sha256


@pytest.mark.parametrize(("text", "message"), [
    ("not json\n", ":1: not JSON"),
    (f"{row()}\n{row()}\n", ":2: task_id a also stands in line 1"),
    (f"{row()}\n{row(task_id='b', test=3)}\n", ":2: no text under test"),
    (f"{row(prompt=' ')}\n", ":1: no text under prompt"),
    (f"{row()}\n", "has 1 problems"),
    ("[]\n", "no text under task_id"),
])
def test_a_file_that_is_no_problem_set_is_told_by_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        load_problems(str(tmp_path / "p.jsonl"))


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.path"):
        load_problems(str(tmp_path / "none.jsonl"))


def test_a_pipe_in_place_of_the_problems_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="no regular file"):
        load_problems(str(tmp_path / "pipe.jsonl"))
