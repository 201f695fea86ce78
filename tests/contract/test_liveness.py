"""Whether an engine is at work: judged by process, boot, namespace and heartbeat, and kept to one by a lock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.contract import liveness
from core.contract.config import Config
from core.contract.errors import UsageError
from core.contract.liveness import SILENT_SECONDS, at_work, identity, judge, last_heartbeat, locked
from core.contract.record import RunRecord
from core.contract.runs import RunFolder, create_run, summarize

NOW = 1_800_000_000.0


def running(**changes: Any) -> RunRecord:
    known = {"run_id": "x", "started": NOW - 3600, "state": "running"}
    return RunRecord.model_validate({**known, **identity(), **changes})


def test_a_run_of_this_process_is_running() -> None:
    assert judge(running()) == ("running", "")


@pytest.mark.parametrize(("changes", "words"), [
    ({"pid_started": 1.0}, "is gone"), ({"pid": 2**22 + 1}, "is gone"), ({"pid": 1}, "is gone"),
    ({"boot_id": "another"}, "restarted"), ({"pid": None}, "no engine took it up"),
])
@pytest.mark.parametrize("heartbeat", [None, NOW - 1, NOW - 10**6])
def test_a_process_that_is_not_the_engine_never_looks_like_it(
    heartbeat: float | None, changes: dict[str, Any], words: str
) -> None:
    state, reason = judge(running(**changes), heartbeat, NOW)
    assert state == "crashed" and words in reason


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"pid_namespace": "pid:[1]", "pid": 2**22 + 1}])
def test_an_engine_that_cannot_be_asked_is_judged_by_its_heartbeat(changes: dict[str, Any]) -> None:
    record = running(**changes)
    assert judge(record, NOW - SILENT_SECONDS / 2, NOW).state == "running"
    state, reason = judge(record, NOW - 10 * SILENT_SECONDS, NOW)
    assert state == "crashed" and "no sign of life" in reason
    assert judge(record, None, NOW).state == "crashed", "it began an hour ago, and never gave one"


@pytest.mark.parametrize("state", ["stopped", "finished", "failed"])
def test_a_run_that_is_over_stays_so(state: str) -> None:
    assert judge(running(state=state, pid=2**22 + 1, boot_id="another", error="why")) == (state, "why")


def test_a_record_of_before_these_fields_is_judged_by_its_process() -> None:
    assert judge(running(boot_id="", pid_namespace="")).state == "running"
    assert judge(running(boot_id="", pid_namespace="", pid_started=1.0)).state == "crashed"


HOLD = """
import sys, time
from pathlib import Path
from core.contract.liveness import at_work
with at_work(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_engine_holds_a_run_until_it_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "_LOCK_TRIES", 2)
    lock = tmp_path / "engine.lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="is being worked on by another process"), at_work(lock):
            pass
        process.kill()
    with at_work(lock):
        pass


def test_who_holds_the_lock_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "HEARTBEAT_SECONDS", 0.01)
    lock = tmp_path / "engine.lock"
    lock.touch()
    os.utime(lock, (1.0, 1.0))
    with at_work(lock) as before:
        assert before == 1.0
        for _ in range(500):
            if (last_heartbeat(lock) or 0.0) > 1.0:
                break
            time.sleep(0.01)
        assert (last_heartbeat(lock) or 0.0) > 1.0
    assert last_heartbeat(tmp_path / "none") is None


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="engine.lock cannot be written"), at_work(tmp_path / "none" / "engine.lock"):
        pass


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "x", "held", ""):
        raise ZeroDivisionError
    with locked(tmp_path / "x", "held", ""):
        pass


def test_a_summary_tells_how_the_death_is_known(tmp_path: Path) -> None:
    folder: RunFolder = create_run(Config(), "x", tmp_path)
    folder.write_record(folder.read_record().model_copy(update={**identity(), "state": "running", "host": "elsewhere"}))
    folder.lock_file.touch()
    assert summarize(folder).state == "running"
    os.utime(folder.lock_file, (1.0, 1.0))
    assert summarize(folder).state == "crashed" and "no sign of life from elsewhere" in summarize(folder).reason
    assert summarize(folder, time.time()).state == "running"


def test_a_record_of_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    folder = create_run(Config(), "x", tmp_path)
    folder.record_file.write_text(folder.record_file.read_text().replace('"format_version": 1', '"format_version": 2'))
    found = summarize(folder)
    assert found.state == "damaged" and "format version 2 is of a newer softtune" in found.reason
