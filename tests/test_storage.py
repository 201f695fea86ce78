"""Full disks and folders that go away: the run waits, says so, and goes on."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core import storage
from core.contract.config import Config
from core.contract.control import Command, ControlInbox, StopRequested
from core.contract.event_log import EventTail
from core.contract.events import Event, Notice, RunFinished, RunPaused, RunResumed
from core.contract.files import LineFile, write_whole
from core.contract.runs import create_run
from core.recorder import record
from core.storage import until_written


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "POLL_SECONDS", 0.001)


class Disk:
    """A disk that has room from the n-th try on."""

    def __init__(self, full_for: int, number: int = errno.ENOSPC) -> None:
        self.left, self.number = full_for, number

    def write(self) -> str:
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number), "runs/x/file")
        return "written"


def run_through(disk: Disk, control: ControlInbox | None = None) -> tuple[list[Event], str]:
    events, waiting = [], until_written(disk.write, control or ControlInbox())
    while True:
        try:
            events.append(next(waiting))
        except StopIteration as end:
            return events, end.value


def test_a_disk_with_room_is_not_mentioned() -> None:
    assert run_through(Disk(0)) == ([], "written")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EIO])
def test_a_run_waits_until_the_disk_takes_it_and_says_so_once(number: int) -> None:
    (notice, paused, resumed), value = run_through(Disk(5, number))
    assert value == "written"
    assert isinstance(notice, Notice) and notice.remedy and "runs/x/file cannot be written" in notice.what
    assert isinstance(paused, RunPaused) and os.strerror(number) in paused.reason
    assert isinstance(resumed, RunResumed)


def test_an_error_that_does_not_pass_is_one() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        run_through(Disk(5, errno.EBADF))


def test_a_folder_that_stays_away_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "GONE_SECONDS", 0.0)
    with pytest.raises(FileNotFoundError):
        run_through(Disk(10**6, errno.ENOENT))


def test_who_stops_does_not_wait() -> None:
    control = ControlInbox()
    control.request(Command.STOP)
    with pytest.raises(StopRequested):
        run_through(Disk(10**6), control)


def test_lines_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LineFile(tmp_path / "lines")
    file.append(b"one\n")
    write: Callable[[int, bytes], int] = os.write
    room = 3

    def until_full(handle: int, content: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(handle, bytes(content)[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", until_full)
    with pytest.raises(OSError, match="No space"):
        file.append(b"two two\n")
    assert (tmp_path / "lines").read_bytes() == b"one\n"
    monkeypatch.setattr(os, "write", write)
    file.append(b"two two\n")
    file.close()
    assert (tmp_path / "lines").read_bytes() == b"one\ntwo two\n"


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"one\ntw")
    file = LineFile(tmp_path / "lines")
    file.append(b"two\n")
    file.close()
    assert (tmp_path / "lines").read_bytes() == b"one\ntwo\n"


def test_lines_go_where_the_folder_came_back(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    file = LineFile(place / "lines")
    file.append(b"one\n")
    shutil.copytree(place, tmp_path / "kept")
    shutil.rmtree(place)
    with pytest.raises(FileNotFoundError):
        file.append(b"two\n")
    (tmp_path / "kept").rename(place)
    file.append(b"two\n")
    file.close()
    assert (place / "lines").read_bytes() == b"one\ntwo\n"


def test_a_run_whose_folder_goes_away_for_a_while_loses_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = create_run(Config(), "away")
    job = [Notice(what=str(number), time=time.time()) for number in range(4)]
    told: list[Event] = []
    for event in record(iter([*job, RunFinished(seconds=1.0)]), folder, ControlInbox()):
        told.append(event)
        if event is job[1]:
            folder.root.rename(tmp_path / "elsewhere")
            folder.root.mkdir()
            folder.root.rmdir()
        if isinstance(event, RunPaused):
            (tmp_path / "elsewhere").rename(folder.root)
    written = EventTail(folder.events_file).read()
    assert [event for event in written if event in job] == job
    assert folder.read_record().state == "finished"


def test_a_pause_that_was_asked_for_outlasts_the_wait_for_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = create_run(Config(), "paused")
    append, left = LineFile.append, [2]

    def full(self: LineFile, lines: bytes) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, lines)

    monkeypatch.setattr(LineFile, "append", full)
    list(record(iter([RunPaused()]), folder))
    written = [event.type for event in EventTail(folder.events_file).read()]
    assert written[-1] == "RunPaused" and folder.read_record().state == "paused"


def test_a_readable_log_that_is_tidied_away_is_nobody_s_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = create_run(Config(), "tidied")
    job = [Notice(what=str(number)) for number in range(3)]
    told = []
    for event in record(iter([*job, RunFinished(seconds=1.0)]), folder):
        told.append(event)
        if event is job[0]:
            Path("logs").rename("logs.old")
    assert [event.type for event in told] == ["Notice"] * 3 + ["RunFinished"]
    assert EventTail(folder.events_file).read() == told and folder.read_record().state == "finished"


@pytest.mark.parametrize("write", ["whole", "lines"])
def test_an_error_names_the_file_that_could_not_be_written(
    write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = LineFile(tmp_path / "lines")
    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        file.append(b"one\n") if write == "lines" else write_whole(tmp_path / "whole", "x")
    assert storage.in_words(caught.value) == f"{tmp_path / write} cannot be written: No space left on device"


def test_what_a_killed_writer_left_is_swept_by_the_next_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = create_run(Config(), "swept")
    folder.checkpoints.mkdir()
    Path("results").mkdir()
    output = Path(Config().inference.output_path)
    left = [folder.checkpoints / ".last.pt.abc.tmp", output.with_name(f".{output.name}.abc.tmp")]
    others = [Path("results/.other.tmp"), output.with_name(f".{output.name}.new.tmp")]
    for file in (*left, *others):
        file.write_bytes(b"half")
        os.utime(file, (1.0, 1.0))
    os.utime(others[1])
    list(record(iter([RunFinished(seconds=1.0)]), folder))
    assert not any(file.exists() for file in left) and not folder.reserve_file.exists()
    assert all(file.exists() for file in others), "somebody else's, and one that is being written"
