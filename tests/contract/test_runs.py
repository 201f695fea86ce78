"""Run folders, and states that are judged and not believed."""

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from core.contract.config import Config
from core.contract.errors import UsageError
from core.contract.files import write_whole
from core.contract.liveness import judge, process_start
from core.contract.record import Split
from core.contract.runs import check_outputs, create_run, find_run, list_runs, summarize


def test_a_new_run_has_its_configuration_and_is_queued(tmp_path: Path) -> None:
    folder = create_run(Config(), "first", tmp_path)
    assert folder.run_id.endswith("-first") and folder.read_config() == Config()
    assert [(run.folder.run_id, run.state) for run in list_runs(tmp_path)] == [(folder.run_id, "queued")]


def test_two_runs_in_one_second_get_two_folders(tmp_path: Path) -> None:
    folders = {create_run(Config(), "same", tmp_path).run_id for _ in range(3)}
    assert len(folders) == 3


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "x" * 65, "a b"])
def test_a_name_that_no_folder_should_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--name"):
        create_run(Config(), name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_runs_are_found_by_id_by_name_and_as_last(tmp_path: Path) -> None:
    folder = create_run(Config(), "mine", tmp_path)
    for name in (folder.run_id, "mine", "last"):
        assert find_run(name, tmp_path).run_id == folder.run_id
    with pytest.raises(UsageError, match="no run 'other'"):
        find_run("other", tmp_path)


def test_a_running_run_is_believed_only_while_its_process_lives(tmp_path: Path) -> None:
    record = create_run(Config(), "x", tmp_path).read_record()
    alive = {"state": "running", "pid": os.getpid(), "pid_started": process_start(os.getpid())}
    assert judge(record.model_copy(update=alive)).state == "running"
    assert judge(record.model_copy(update={**alive, "pid_started": 1.0})).state == "crashed"  # the pid was used again
    assert judge(record.model_copy(update={**alive, "pid": 2**22 + 1})).state == "crashed"
    assert judge(record.model_copy(update={**alive, "state": "finished", "pid": 1})).state == "finished"
    assert judge(record, now=time.time() + 3600).state == "crashed"  # queued, and nobody came


def test_a_damaged_folder_is_listed_with_its_reason(tmp_path: Path) -> None:
    good = create_run(Config(), "good", tmp_path)
    (tmp_path / "2020-01-01-000000-empty").mkdir()
    (tmp_path / "2020-01-01-000000-torn").mkdir()
    (tmp_path / "2020-01-01-000000-torn" / "run.json").write_text('{"run_id": ')
    (tmp_path / ".ipynb_checkpoints").mkdir()  # of some other program
    states = {run.folder.run_id: (run.state, bool(run.reason)) for run in list_runs(tmp_path)}
    assert ".ipynb_checkpoints" not in states
    assert states[good.run_id] == ("queued", False)
    assert states["2020-01-01-000000-empty"] == states["2020-01-01-000000-torn"] == ("damaged", True)


def test_a_run_that_a_quota_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("core.contract.runs.write_whole", refuse)
    with pytest.raises(UsageError, match="cannot be written: Disk quota exceeded"):
        create_run(Config(), "x", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["runs", "logs", "soft_prompts", "results"])
def test_a_link_to_a_disk_that_is_not_mounted_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).symlink_to("/nowhere/at/all")
    with pytest.raises(UsageError, match=f"{name} points to /nowhere/at/all, which is not there"):
        check_outputs(Config())


def test_a_pipe_in_place_of_a_record_is_damage_and_not_waited_for(tmp_path: Path) -> None:
    folder = create_run(Config(), "x", tmp_path)
    folder.record_file.unlink()
    os.mkfifo(folder.record_file)
    assert summarize(folder).state == "damaged" and "no regular file" in summarize(folder).reason


def test_a_damaged_record_has_the_one_before_to_stand_in_for_it(tmp_path: Path) -> None:
    folder = create_run(Config(), "x", tmp_path)
    first = folder.read_record()
    assert folder.recovered_record() is None and not folder.previous_record_file.exists()
    second = first.model_copy(update={"step": 5, "split": Split(train=["a"], heldout=["b"])})
    folder.write_record(second)
    folder.write_record(second.model_copy(update={"state": "running"}))
    for damage in ('{"run_id": ', "", "[" * 100_000):
        folder.record_file.write_text(damage)
        assert folder.recovered_record() == (second, "the one before it, run.json.previous, is taken instead")
        reason = summarize(folder).reason
        assert reason.endswith(f"; softtune train --resume {folder.run_id} puts it right")
    folder.record_file.unlink()
    assert folder.recovered_record() is not None
    folder.restore_record(second)
    assert folder.read_record() == second and "}" in folder.previous_record_file.read_text()
    assert sorted(path.name for path in folder.root.iterdir()) == [
        "config.yml", "events.jsonl", "run.json", "run.json.previous"]


def test_without_one_a_training_run_has_a_record_made_anew(tmp_path: Path) -> None:
    folder = create_run(Config(), "x", tmp_path)
    before = folder.read_record()
    folder.record_file.write_text("{")
    record, how = folder.recovered_record() or pytest.fail("there is none")
    same = ("run_id", "kind", "host", "model", "config_sha256", "split")
    assert [getattr(record, name) for name in same] == [getattr(before, name) for name in same]
    assert record.state == "stopped" and abs(record.started - before.started) < 10 and "config.yml" in how
    folder.member("fold1").root.mkdir(parents=True)
    assert folder.recovered_record() is None, "its folds cannot be made anew"
    shutil.rmtree(folder.root / "members")
    folder.config_file.write_text("training: {num_epochs: none}")
    assert folder.recovered_record() is None and "puts it right" not in summarize(folder).reason


def test_a_record_of_a_newer_softtune_is_not_put_right(tmp_path: Path) -> None:
    folder = create_run(Config(), "x", tmp_path)
    folder.write_record(folder.read_record())
    folder.record_file.write_text(json.dumps({**folder.read_record().model_dump(), "format_version": 999}))
    assert folder.recovered_record() is None
    assert "update softtune" in summarize(folder).reason and "puts it right" not in summarize(folder).reason


@pytest.mark.parametrize("linked", [True, False])
def test_the_file_before_keeps_a_name_with_hard_links_and_without(
    linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not linked:
        monkeypatch.setattr(os, "link", refuse)
    file, previous = tmp_path / "x", tmp_path / "x.previous"
    for number in range(3):
        write_whole(file, str(number), previous)
    assert (file.read_text(), previous.read_text()) == ("2", "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.previous"]


def test_settings_that_were_changed_since_the_run_began_are_told(tmp_path: Path) -> None:
    folder = create_run(Config(), "x", tmp_path)
    folder.check_config_unchanged(folder.read_record())
    folder.config_file.write_text(folder.config_file.read_text().rpartition("inference:")[0])
    folder.read_config()  # what is left of it is valid
    with pytest.raises(UsageError, match=r"config\.yml was changed or damaged"):
        folder.check_config_unchanged(folder.read_record())


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "x.json"
    write_whole(file, "old")

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        write_whole(file, "new")
    assert file.read_text() == "old" and [path.name for path in file.parent.iterdir()] == ["x.json"]
