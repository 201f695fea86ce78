"""Starting, following and losing an engine, without a screen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.contract import events as ev
from core.contract.config import Config
from core.contract.control import Command
from core.contract.errors import SofttuneError
from core.contract.events import event_line
from core.contract.liveness import boot_id, identity, locked, process_start
from core.contract.runs import RunFolder, create_run
from tests.tui.conftest import reap
from tests.tui.fake_run import __file__ as fake_engine
from tests.tui.fake_run import make_run, training
from tui import deaths, engine
from tui.engine import RunLink, active_run, newest_run
from tui.follower import Follower, Scene
from tui.status import status_of


def fake(*options: str) -> engine.EngineCommand:
    return lambda folder: [sys.executable, fake_engine, str(folder.root), *options]


def poll_until(follower: Follower, true: Callable[[Scene], bool], seconds: float = 10.0) -> Scene:
    deadline = time.monotonic() + seconds
    while not true(scene := follower.poll()):
        assert time.monotonic() < deadline, scene.condition
        time.sleep(0.02)
    return scene


def test_the_real_command_names_the_run_and_is_safe_from_the_current_folder(tmp_path: Path) -> None:
    folder = create_run(Config(), "x", tmp_path)
    command = engine.engine_command(folder)
    assert command[1:] == ["-P", "-m", "core", "train", "--queued", folder.run_id]


def test_start_follow_and_finish(runs: Path) -> None:
    link = engine.start(Config(), "demo", runs, fake("--pace", "0.01", "--steps", "6", "--count", "3"))
    assert active_run(runs) is not None
    follower = Follower(link)
    scene = poll_until(follower, lambda scene: scene.view.outcome == "finished")
    scene = poll_until(follower, lambda scene: scene.condition is not None and scene.condition.state == "finished")
    assert not scene.active and active_run(runs) is None
    assert len(scene.files.problems) == 3 and scene.files.split is not None
    assert follower.poll() is scene  # nothing new, nothing to show
    reap(link)


def test_the_engine_is_in_a_session_of_its_own(runs: Path) -> None:
    link = engine.start(Config(), "demo", runs, fake("--pace", "0.2", "--steps", "500", "--count", "3"))
    follower = Follower(link)
    poll_until(follower, lambda scene: scene.view.done_steps > 0)
    pid = link.folder.read_record().pid
    assert pid is not None and os.getsid(pid) == pid != os.getsid(0)
    link.send(Command.PAUSE)
    assert poll_until(follower, lambda scene: scene.view.paused).condition
    link.send(Command.STOP)
    poll_until(follower, lambda scene: scene.view.outcome == "stopped")
    reap(link)


def test_a_crash_is_told_with_the_last_words(runs: Path) -> None:
    link = engine.start(Config(), "demo", runs, fake("--pace", "0.01", "--crash", "3", "--count", "3"))
    scene = poll_until(Follower(link), lambda scene: scene.condition is not None and scene.condition.state == "crashed")
    assert "illegal memory access" in scene.last_words and not scene.active


def test_an_engine_that_dies_before_its_first_word(runs: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no torch here')"]
    link = engine.start(Config(), "demo", runs, lambda folder: command)
    scene = poll_until(Follower(link), lambda scene: scene.condition is not None and scene.condition.state == "crashed")
    assert scene.condition is not None and "exit status 1" in scene.condition.reason
    assert scene.last_words == "no torch here"


@pytest.mark.parametrize(("code", "words"), [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV (Segmentation fault)"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ("raise SystemExit(3)", "exit status 3"),
    ("pass", "exit status 0"),
])
def test_how_an_engine_ended_is_written_down_for_everybody(runs: Path, code: str, words: str) -> None:
    link = engine.start(Config(), "demo", runs, lambda folder: [sys.executable, "-c", code])
    reap(link)
    ours = link.condition()
    assert ours.state == "crashed" and words in ours.reason and "before it took the run up" in ours.reason
    assert RunLink(link.folder).condition() == ours == link.condition()  # another UI, and the same one later
    assert link.folder.read_record().state == "crashed" and active_run(runs) is None


def test_an_engine_that_cannot_go_on_is_the_same_to_all(runs: Path) -> None:
    stopped = [*training("x", steps=3), ev.RunStopped(step=3, checkpoint="runs/x/checkpoints/last.pt")]
    folder = make_run(runs, stopped, state="stopped", count=2)
    link = engine.resume(folder, lambda folder: [sys.executable, "-c", "raise SystemExit(2)"])
    other = Follower(RunLink(folder))
    assert other.poll().view.outcome == "stopped"
    reap(link)
    ours, theirs = Follower(link).poll(), Follower(RunLink(folder)).poll()
    assert status_of(ours) == status_of(theirs) and ours.crashed and theirs.crashed
    assert ours.condition == theirs.condition and ours.resumable
    other._looked_at = 0.0
    assert status_of(other.poll()) == status_of(ours)


@pytest.mark.parametrize("last", [
    ev.RunPaused(reason="no space left"), ev.Progress(stage="validating", done=1, total=9, unit="problems"),
])
def test_a_run_that_died_within_a_stage_is_starting_once_another_engine_has_it(runs: Path, last: ev.Event) -> None:
    folder = make_run(runs, [*training("x", steps=3), last], state="crashed", count=2)
    before = Follower(RunLink(folder)).poll()
    assert before.crashed and (before.view.paused or before.view.phase == "validating")
    link = engine.resume(folder, lambda folder: [sys.executable, "-c", "import time; time.sleep(60)"])
    assert link._process is not None
    try:
        assert status_of(Follower(link).poll()).word == "starting"
    finally:
        link._process.kill()
        link._process.wait()


def test_an_engine_that_is_refused_leaves_the_run_to_the_one_at_work(runs: Path) -> None:
    folder = make_run(runs, training("x", steps=3), state="running", alive=True, count=2)
    refused = engine.resume(folder, lambda folder: [sys.executable, "-c", "raise SystemExit(2)"])
    reap(refused)
    assert refused.condition() == RunLink(folder).condition() and refused.condition().state == "running"
    assert folder.read_record().state == "running"


def test_an_engine_that_another_one_has_succeeded_is_not_a_crash(runs: Path) -> None:
    folder = make_run(runs, training("x", steps=3), state="stopped", count=2)
    with locked(Path(folder.lock_file), "", ""):  # the other one has it, and has yet to say so
        link = engine.resume(folder, lambda folder: [sys.executable, "-c", "raise SystemExit(2)"])
        reap(link)
        assert link.condition().state == "crashed"
        assert folder.read_record().state == "stopped"  # it is the other one's to write
        record = {"state": "running", "pid": os.getpid(), "pid_started": process_start(os.getpid())}
        folder.write_record(folder.read_record().model_copy(update=record))
        assert link.condition().state == "running" and link.settled()


def test_a_resumed_run_has_not_ended_for_anybody(runs: Path) -> None:
    stopped = [*training("x", steps=3), ev.RunStopped(step=3, checkpoint="runs/x/checkpoints/last.pt")]
    folder = make_run(runs, stopped, state="stopped", count=2)
    other = Follower(RunLink(folder))
    assert not other.poll().active
    link = engine.resume(folder, lambda folder: [sys.executable, "-c", "import time; time.sleep(60)"])
    assert link._process is not None
    ours = Follower(link)
    assert ours.poll().active and ours.scene.view.outcome == "" and not link.settled()
    pid = link._process.pid
    taken_up = {"state": "queued", "pid": pid, "pid_started": process_start(pid)}
    folder.write_record(folder.read_record().model_copy(update=taken_up))  # what a real engine does before all else
    ours._looked_at = other._looked_at = 0.0
    assert status_of(ours.poll()) == status_of(other.poll()) and ours.scene.active and other.scene.active
    link._process.kill()
    link._process.wait()
    ours._looked_at = other._looked_at = 0.0
    assert status_of(ours.poll()) == status_of(other.poll()) and ours.scene.crashed and other.scene.crashed


@pytest.mark.parametrize(("before", "now", "told"), [(3, 5, True), (3, 3, False), (None, 5, False), (3, None, False)])
def test_want_of_memory_is_recognised_by_who_only_looks(
    runs: Path, monkeypatch: pytest.MonkeyPatch, before: int | None, now: int | None, told: bool
) -> None:
    folder = make_run(runs, training("x", steps=3), state="running", count=2)
    folder.write_record(folder.read_record().model_copy(update={"oom_kills": before, "boot_id": boot_id()}))
    monkeypatch.setattr("tui.deaths.oom_kills", lambda: now)
    condition = RunLink(folder).condition()
    assert condition.state == "crashed" and "process 4194305 is gone" in condition.reason
    assert ("out-of-memory killer (2 processes" in condition.reason) is told
    assert ("halve training.batch_size" in condition.reason) is told
    folder.write_record(folder.read_record().model_copy(update={"boot_id": "before the machine was restarted"}))
    assert "memory" not in RunLink(folder).condition().reason


def test_sigkill_in_words() -> None:
    kill = -signal.SIGKILL
    assert "by somebody" in deaths.of_status(kill, None) and "this kernel does not tell" in deaths.of_status(kill, None)
    assert "not by the kernel's" in deaths.of_status(kill, 0)
    assert "1 process killed" in deaths.of_status(kill, 1)
    assert deaths.of_status(-11, 1).startswith("it was killed by SIGSEGV (")
    assert deaths.of_status(-99, 1) == "it was killed by signal 99"
    assert "memory" not in deaths.of_status(1, 4)


def test_a_command_that_is_not_there(runs: Path) -> None:
    with pytest.raises(SofttuneError, match="cannot be started"):
        engine.start(Config(), "demo", runs, lambda folder: ["/nowhere/python"])


def test_last_words_are_made_harmless(runs: Path) -> None:
    folder = create_run(Config(), "x", runs)
    Path(folder.engine_log).write_bytes(b"progress 1\rprogress 2\r\n\x1b[31merror\x1b[0m \xff\n")
    assert RunLink(folder).last_words() == "progress 1\nprogress 2\n␛[31merror␛[0m \ufffd"
    assert RunLink(create_run(Config(), "y", runs)).last_words() == ""


def test_torn_foreign_and_newer_lines(runs: Path) -> None:
    folder = create_run(Config(), "x", runs)
    good = event_line(ev.Notice(what="hello"))
    Path(folder.events_file).write_text(
        f'{good}\nnot json\n{{"type": "FromTheFuture", "time": 1, "x": 2}}\n{{"type": "Notice"}}\n{good}\n{good[:20]}'
    )
    follower = Follower(RunLink(folder))
    scene = follower.poll()
    assert [line.text for line in scene.view.log] == ["hello", "hello"]
    assert scene.unreadable == 3
    with open(folder.events_file, "a") as file:
        file.write(good[20:] + "\n")
    assert len(follower.poll().view.log) == 3


def test_a_long_log_comes_in_parts(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PART", 1000)
    monkeypatch.setattr("tui.follower.SHOW_SECONDS", -1.0)
    follower = Follower(RunLink(make_run(runs, training("x", steps=30), count=2)))
    counts = [follower.poll().view.events]
    while follower.link.behind:
        counts.append(follower.poll().view.events)
    assert len(counts) > 5 and counts == sorted(counts)
    assert follower.scene.view.train_loss.xs == tuple(range(1, 31)) and follower.scene.unreadable == 0


def test_nan_travels(runs: Path) -> None:
    steps = [event.model_copy(update={"loss": float("nan")}) if isinstance(event, ev.StepCompleted) else event
             for event in training("x", steps=3)]
    scene = Follower(RunLink(make_run(runs, steps, count=2))).poll()
    assert scene.view.train_loss.dropped == 3 and scene.unreadable == 0


@pytest.mark.parametrize("damage", ["garbage", "missing", "empty"])
def test_a_damaged_run_is_judged_and_passed_over(runs: Path, damage: str) -> None:
    good = make_run(runs, [], count=2)
    bad = RunFolder(runs / "9999-01-01-000000-bad")
    bad.root.mkdir()
    if damage != "missing":
        Path(bad.record_file).write_text("{" if damage == "garbage" else "")
    assert (newest := newest_run(runs)) is not None and newest.folder.run_id == good.run_id
    scene = Follower(RunLink(bad)).poll()
    assert scene.condition is not None and scene.condition.state == "damaged" and scene.condition.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_events_file(runs: Path) -> None:
    folder = make_run(runs, [], count=2)
    os.chmod(folder.events_file, 0)
    assert "permissions" in Follower(RunLink(folder)).poll().fault


def test_an_events_file_that_is_a_folder(runs: Path) -> None:
    folder = make_run(runs, [], count=2)
    Path(folder.events_file).unlink()
    Path(folder.events_file).mkdir()
    assert "cannot be read" in Follower(RunLink(folder)).poll().fault


def test_no_runs_at_all(runs: Path) -> None:
    assert active_run(runs) is None and newest_run(runs) is None


def test_results_that_arrive_later_are_read(runs: Path) -> None:
    folder = make_run(runs, [], count=2)
    follower = Follower(RunLink(folder))
    assert follower.poll().files.states == {}
    place = folder.evaluation("best")
    place.mkdir(parents=True)
    row = {"task_id": "HumanEval/0", "completion": "x", "passed": True}
    (place / "results.jsonl").write_text(json.dumps(row) + "\n")
    assert poll_until(follower, lambda scene: bool(scene.files.states)).files.checkpoint == "best"


def test_scoring_another_checkpoint_by_hand_leaves_the_run_s_own_results(runs: Path) -> None:
    folder = make_run(runs, count=2)
    follower = Follower(RunLink(folder))
    assert follower.poll().files.checkpoint == "best"
    place = folder.evaluation("epoch_0001")
    place.mkdir(parents=True)
    (place / "results.jsonl").write_text(json.dumps({"task_id": "HumanEval/0", "completion": "x", "passed": True}))
    follower._looked_at = 0.0
    scene = follower.poll()
    assert scene.files.checkpoint == "best" and len(scene.files.states) == 2
    best = folder.evaluation("best") / "results.jsonl"
    best.write_text(json.dumps({"task_id": "HumanEval/1", "completion": "scored anew", "passed": True}))
    follower._looked_at = 0.0
    assert len(follower.poll().files.states) == 1


def test_where_no_command_can_be_written_a_stop_is_a_signal(runs: Path) -> None:
    folder = create_run(Config(), "full", runs)
    Path(folder.control_file).mkdir()  # as good as a full disk: nothing can be appended to it
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        known = {**identity(), "pid": process.pid, "pid_started": process_start(process.pid), "state": "running"}
        folder.write_record(folder.read_record().model_copy(update=known))
        link = RunLink(folder)
        with pytest.raises(SofttuneError, match="control.jsonl cannot be written"):
            link.send(Command.PAUSE)
        link.send(Command.STOP)
        assert process.wait(60) == -signal.SIGTERM
    with pytest.raises(SofttuneError, match="control.jsonl cannot be written"):
        link.send(Command.STOP)  # and no other process gets it
