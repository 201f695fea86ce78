"""Publishing keeps what it replaces, deleting can be taken back, and a run at work keeps its checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.contract.checkpoint_files import (
    Publication,
    delete_checkpoint,
    publish,
    published_copies,
    restore_checkpoint,
    trashed,
    what_goes,
)
from core.contract.config import Config
from core.contract.errors import CheckpointError
from core.contract.runs import RunFolder, create_run


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A finished run with two checkpoints, one of them scored."""
    folder = create_run(Config(), "x", tmp_path / "runs")
    folder.write_record(folder.read_record().model_copy(update={"state": "finished"}))
    Path(folder.checkpoints).mkdir()
    for name in ("best", "epoch_0001"):
        (Path(folder.checkpoints) / f"{name}.pt").write_bytes(name.encode() * 100)
    folder.evaluation("best").mkdir(parents=True)
    (folder.evaluation("best") / "summary.json").write_text("{}")
    return folder


def best(folder: RunFolder) -> Path:
    return Path(folder.checkpoints) / "best.pt"


def test_publishing_keeps_what_it_replaces_once(folder: RunFolder, tmp_path: Path) -> None:
    target = tmp_path / "soft_prompts" / "best_soft_prompts.pt"
    assert publish(best(folder), target) == Publication(target)
    assert target.read_bytes() == best(folder).read_bytes()
    assert published_copies(best(folder), target.parent) == [target]
    assert publish(best(folder), target) == Publication(target)
    target.write_bytes(b"of another program")
    first = publish(best(folder), target)
    assert first.kept is not None and first.kept.read_bytes() == b"of another program"
    target.write_bytes(b"of another program")
    assert publish(best(folder), target).kept == first.kept
    assert sorted(path.name for path in target.parent.iterdir()) == ["best_soft_prompts.pt", "replaced"]


def test_what_is_no_checkpoint_is_not_published(folder: RunFolder, tmp_path: Path) -> None:
    target = tmp_path / "soft_prompts" / "best_soft_prompts.pt"
    best(folder).write_bytes(b"")
    for source in (best(folder), tmp_path / "none.pt", tmp_path):
        with pytest.raises(CheckpointError, match="is no checkpoint"):
            publish(source, target)
    target.mkdir(parents=True)
    with pytest.raises(CheckpointError, match="cannot be published"):
        publish(Path(folder.checkpoints) / "epoch_0001.pt", target)


def test_deleting_takes_the_scores_along_and_can_be_taken_back(folder: RunFolder) -> None:
    assert what_goes(folder, "best") == [(best(folder), 400), (folder.evaluation("best"), 2)]
    deleted = delete_checkpoint(folder, "best")
    assert not best(folder).exists() and not folder.evaluation("best").exists()
    assert deleted.place.parent == Path(folder.checkpoints) / ".trash"
    second = delete_checkpoint(folder, "epoch_0001")
    assert trashed(folder) == [deleted, second]
    assert restore_checkpoint(deleted).read_bytes() == b"best" * 100
    assert (folder.evaluation("best") / "summary.json").read_text() == "{}"
    assert trashed(folder) == [second]


def test_restoring_replaces_nothing(folder: RunFolder) -> None:
    deleted = delete_checkpoint(folder, "best")
    best(folder).write_bytes(b"newer")
    with pytest.raises(CheckpointError, match="is there again"):
        restore_checkpoint(deleted)
    assert best(folder).read_bytes() == b"newer" and trashed(folder) == [deleted]


@pytest.mark.parametrize("state", ["queued", "running", "paused"])
def test_a_run_at_work_keeps_its_checkpoints(folder: RunFolder, state: str) -> None:
    from core.contract.liveness import process_start

    pid = os.getpid()
    folder.write_record(folder.read_record().model_copy(
        update={"state": state, "pid": pid, "pid_started": process_start(pid)}))
    with pytest.raises(CheckpointError, match=f"is {state}, and its engine needs"):
        delete_checkpoint(folder, "best")
    assert best(folder).exists() and not trashed(folder)


def test_a_run_that_cannot_be_judged_keeps_its_checkpoints(folder: RunFolder) -> None:
    Path(folder.record_file).write_text("{")
    with pytest.raises(CheckpointError, match="cannot be told"):
        delete_checkpoint(folder, "best")
    assert best(folder).exists()


@pytest.mark.parametrize("name", ["", "../best", ".trash", "a/b", ".."])
def test_only_names_of_checkpoints_are_deleted(folder: RunFolder, name: str) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint's name"):
        delete_checkpoint(folder, name)


def test_a_failed_delete_leaves_all_as_it_was(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="cannot be deleted"):
        delete_checkpoint(folder, "epoch_0007")
    rename = os.rename

    def half(source: Path, target: Path) -> None:
        if Path(source) == folder.evaluation("best"):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", half)
    with pytest.raises(CheckpointError, match="Permission denied"):
        delete_checkpoint(folder, "best")
    assert best(folder).exists() and folder.evaluation("best").exists() and not trashed(folder)
    assert not list((Path(folder.checkpoints) / ".trash").iterdir())
