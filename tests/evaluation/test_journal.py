"""The journal of an evaluation: what it keeps, for which work, and that it has one writer."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.contract.config import EvaluationSettings
from core.contract.errors import DataError
from core.data.humaneval import Problem
from core.evaluation.journal import Journal, strength, work_key

HOLD = "import sys; from pathlib import Path; from core.evaluation.journal import Journal\n" \
       "with Journal(Path(sys.argv[1])) as journal:\n" \
       "    journal.append('a', {'passed': True}); print('held', flush=True); input()\n"


def test_outcomes_are_there_the_next_time(tmp_path: Path) -> None:
    results = tmp_path / "new" / "r.jsonl"
    with Journal(results) as journal:
        assert journal.findings == {}
        journal.append("a", {"passed": True, "stdout": "\ud800 é\n"})
    with Journal(results) as journal:
        assert journal.findings == {"a": {"passed": True, "stdout": "\ud800 é\n"}}
        journal.append("b", {"passed": False})
    with Journal(results) as journal:
        assert list(journal.findings) == ["a", "b"]


@pytest.mark.parametrize("torn", [b'{"key": "b", "pass', b"\0\0\0\0"], ids=["line", "zeros"])
def test_a_torn_last_line_costs_that_line_alone(torn: bytes, tmp_path: Path) -> None:
    with Journal(tmp_path / "r.jsonl") as journal:
        journal.append("a", {"passed": True})
    with open(journal.path, "ab") as file:
        file.write(torn)
    with Journal(tmp_path / "r.jsonl") as journal:
        assert list(journal.findings) == ["a"]
        journal.append("c", {"passed": True})
    with Journal(tmp_path / "r.jsonl") as journal:
        assert list(journal.findings) == ["a", "c"]
    assert all(json.loads(line) for line in journal.path.read_bytes().splitlines())


def test_nothing_is_left_of_one_that_has_nothing_or_is_done(tmp_path: Path) -> None:
    with Journal(tmp_path / "r.jsonl") as journal:
        assert journal.path.exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "temporary"]
    with Journal(tmp_path / "r.jsonl") as journal:
        journal.append("a", {"passed": True})
        journal.finish()
    assert list(tmp_path.iterdir()) == [tmp_path / "temporary"]


def test_a_second_writer_is_refused_and_told_who_is_at_work(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "r.jsonl")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        before = (tmp_path / "r.jsonl.journal").read_bytes()
        with pytest.raises(DataError, match=rf"process {first.pid} is evaluating into .*/r\.jsonl\n"):
            Journal(tmp_path / "r.jsonl").__enter__()
        assert (tmp_path / "r.jsonl.journal").read_bytes() == before
        first.send_signal(signal.SIGKILL)
    with Journal(tmp_path / "r.jsonl") as journal:  # the lock ends with its process
        assert list(journal.findings) == ["a"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"(?s)results cannot be written into .*file: .*--output"):
        Journal(tmp_path / "file" / "r.jsonl").__enter__()


def test_the_key_has_all_that_a_verdict_depends_on(forty_two: Problem) -> None:
    settings = EvaluationSettings()
    keys = [work_key(forty_two, "x", 0, settings), work_key(forty_two, "y", 0, settings),
            work_key(forty_two, "x", 1, settings)]
    keys += [work_key(dataclasses.replace(forty_two, **{field.name: "other"}), "x", 0, settings)
             for field in dataclasses.fields(Problem)]
    keys += [work_key(forty_two, "x", 0, settings.model_copy(update=change))
             for change in ({"timeout_seconds": 4.0}, {"memory_limit_mb": 99})]
    assert len(set(keys)) == len(keys) == 10
    assert keys[0] == work_key(forty_two, "x", 0, EvaluationSettings(workers=7))


def test_levels_of_isolation_are_in_order() -> None:
    levels = sorted(["process", "namespaces", "", "landlock"], key=strength)
    assert levels == ["", "process", "landlock", "namespaces"]
