"""Completions files: what is read, and how a fault is told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from core.contract.errors import DataError
from core.evaluation.completions import check_task_ids, read_completions, read_good_lines

GOOD = json.dumps({"task_id": "HumanEval/0", "completion": "    pass\n", "tokens": 3})


def test_extra_keys_and_order_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(f"{GOOD}\n\n{GOOD.replace('/0', '/1')}")
    rows = read_completions(path)
    assert [(row["task_id"], row["tokens"]) for row in rows] == [("HumanEval/0", 3), ("HumanEval/1", 3)]


def test_compressed(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))
    assert len(read_completions(path)) == 1


@pytest.mark.parametrize("line, fault", [
    ("{", "not JSON"), ("[]", "not a JSON object"), ('{"task_id": "a"}', "no text under completion"),
    ('{"task_id": 3, "completion": null}', "no text under task_id and completion"), ("\xff", "not JSON"),
    ("[" * 100_000, "not JSON|recursion"),
], ids=["torn", "list", "half", "types", "encoding", "deep"])
def test_malformed_lines_are_named(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + line.encode("latin-1") + b"\n")
    with pytest.raises(DataError, match=rf"c\.jsonl:2: .*({fault})"):
        read_completions(path)


def test_all_malformed_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("x\n" * 9)
    with pytest.raises(DataError, match="(?s)c.jsonl:1: .*c.jsonl:5: .*and 4 lines more"):
        read_completions(path)


def test_malformed_lines_can_be_left_out_and_are_told(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(GOOD + "\n{\n" + GOOD + "\n" + "[]\n" * 6)
    rows, (notice,) = read_good_lines(path)
    assert [row["task_id"] for row in rows] == ["HumanEval/0"] * 2
    assert notice.level == "warning" and notice.what == f"{path}: 7 malformed lines were skipped: 2, 4, 5, 6, 7, …"
    path.write_text(GOOD)
    assert read_good_lines(path)[1] == []
    path.write_text("x\ny\n")
    with pytest.raises(DataError, match=r"c\.jsonl:1: not JSON.*column 1"):
        read_good_lines(path)


def test_empty_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "broken.jsonl.gz").write_text("plain")
    faults = {"empty.jsonl": "no completions", "none.jsonl": "there is no", "broken.jsonl.gz": "cannot be read"}
    for name, fault in faults.items():
        with pytest.raises(DataError, match=fault):
            read_completions(tmp_path / name)


def test_unknown_task_ids_are_listed_once() -> None:
    rows = [{"task_id": name} for name in ("a", "x", "y", "x")]
    with pytest.raises(DataError, match=r"unknown task ids: x, y\n.*dataset\.path"):
        check_task_ids(rows, ["a"], Path("c.jsonl"))
