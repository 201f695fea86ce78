"""A run that an older version wrote is opened by this one: by every reader, with the meaning that it had.

`golden/run` is a real run of format version 1, and `golden/figures.json` what it says, taken from the files themselves.
"""

import hashlib
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from core.comparison import compare
from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.event_log import EventTail
from core.contract.events import Event, RunFinished, RunStarted, StepCompleted, ValidationCompleted
from core.contract.files import FORMAT_VERSION
from core.contract.liveness import judge
from core.contract.runs import RunFolder, find_run, list_runs, summarize
from core.evaluation.job import evaluate
from core.jobs import train
from core.model.checkpoint import load_checkpoint
from core.training.checkpoints import PREVIOUS, load_best, load_last
from core.training.standing import Standing
from tui.checkpoints.catalogue import CatalogueReader
from tui.problems.files import read_problem_files
from tui.run_view import RunView, advance

GOLDEN = Path(__file__).with_name("golden")
FIGURES: dict[str, Any] = json.loads((GOLDEN / "figures.json").read_text())
RUN = FIGURES["run"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A copy of the golden run where runs are, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN / "run", Path("runs") / RUN["run_id"])
    return find_run("golden")


def events_of(folder: RunFolder) -> list[Event]:
    tail = EventTail(folder.events_file)
    events = tail.read()
    assert (tail.skipped, tail.unknown) == (0, 0)
    return events


def test_it_is_of_a_format_that_this_version_reads_and_names_no_machine() -> None:
    assert FIGURES["format_version"] <= FORMAT_VERSION
    for path in GOLDEN.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            content = path.read_bytes()
            assert not any(word in content for word in (b"/tmp/", b"/root", b"/home", b"/work")), path
    assert json.loads((GOLDEN / "run" / "run.json").read_text())["host"] == "box"
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 300_000


def test_its_record_says_what_it_said(folder: RunFolder) -> None:
    (run,) = list_runs()
    assert (run.state, run.reason) == ("finished", "")
    assert run.record is not None
    assert {key: run.record.model_dump()[key] for key in RUN} == RUN


def test_its_record_would_not_be_taken_for_a_running_run(folder: RunFolder) -> None:
    record = folder.read_record().model_copy(update={"state": "running"})
    later = record.started + 3600
    assert judge(record, now=later).state == "crashed"
    assert judge(record.model_copy(update={"host": socket.gethostname()}), now=later).state == "crashed"


def test_its_settings_mean_what_they_meant(folder: RunFolder) -> None:
    folder.check_config_unchanged(folder.read_record())
    now = folder.read_config().model_dump(mode="json")
    for section, values in FIGURES["config"].items():
        assert {key: now[section][key] for key in values} == values, section


def test_every_event_is_known_and_gives_the_curve(folder: RunFolder) -> None:
    events = events_of(folder)
    assert len(events) == FIGURES["events"]
    assert sorted({event.type for event in events}) == FIGURES["types"]
    starts = [event.resumed_from_step for event in events if isinstance(event, RunStarted)]
    assert starts == [0, FIGURES["resumed_from_step"]]
    steps = [event for event in events if isinstance(event, StepCompleted)]
    assert [[one.step, one.loss, one.learning_rate, one.grad_norm] for one in steps] == FIGURES["steps"]
    validations = [event for event in events if isinstance(event, ValidationCompleted)]
    assert [[one.epoch, one.loss, one.is_best] for one in validations] == FIGURES["validations"]
    last = events[-1]
    assert isinstance(last, RunFinished) and last.best_heldout_loss == RUN["heldout_loss"]


@pytest.mark.parametrize("name", FIGURES["checkpoints"])
def test_each_checkpoint_holds_the_same_prompt(folder: RunFolder, name: str) -> None:
    wanted, found = FIGURES["checkpoints"][name], load_checkpoint(folder.checkpoints / name)
    assert list(found.soft_prompt.shape) == wanted["rows"]
    assert hashlib.sha256(found.soft_prompt.numpy().tobytes()).hexdigest() == wanted["sha256"]
    assert (found.epoch, found.step, found.metrics) == (wanted["epoch"], wanted["step"], wanted["metrics"])
    assert found.split.model_dump() == RUN["split"]
    assert (found.run_id, found.base_model) == (RUN["run_id"], RUN["model"])
    assert Config.model_validate(found.config) == folder.read_config()
    assert (found.training and found.training["standing"]) == wanted["standing"]


def test_training_can_go_on_from_it(folder: RunFolder) -> None:
    last, notices = load_last(folder)
    assert last is not None and last.training is not None and notices == []
    standing = Standing(**last.training["standing"])
    assert (standing.step, standing.best_loss) == (RUN["step"], RUN["heldout_loss"])
    best, notices = load_best(folder, standing.best_epoch)
    assert notices == [] and best.metrics["heldout_loss"] == RUN["heldout_loss"]


def test_an_engine_of_now_goes_on_with_it(folder: RunFolder, tiny_model_folder: Path) -> None:
    """From the checkpoint before the last one, as if the run had been cut short there. The tiny model may be another
    by now, so the numbers are not those of then."""
    Path("tiny-model").symlink_to(tiny_model_folder)
    (folder.checkpoints / PREVIOUS).replace(folder.checkpoints / "last.pt")
    before = FIGURES["checkpoints"][PREVIOUS]["step"]
    events = list(train(folder.read_config(), folder, ControlInbox(), resume=True))
    assert isinstance(events[0], RunStarted) and events[0].resumed_from_step == before
    assert [event.step for event in events if isinstance(event, StepCompleted)] == list(
        range(before + 1, RUN["total_steps"] + 1))
    assert isinstance(events[-1], RunFinished), events[-1]


def test_its_results_are_compared_as_they_were(folder: RunFolder) -> None:
    verdicts = FIGURES["verdicts"]
    found = compare(folder.checkpoints / "epoch_0001.pt", folder.checkpoints / "best.pt")
    passed = {name: {task for task, verdict in tasks.items() if verdict == "passed"}
              for name, tasks in verdicts.items()}
    assert set(found.paired["all"].lost) == passed["epoch_0001"] - passed["best"] != set()
    assert found.paired["all"].gained == [] == found.only_in_one
    assert (found.a["all"].total, found.a["all"].passed) == (len(verdicts["best"]), len(passed["epoch_0001"]))
    assert found.a["heldout"].total == len(RUN["split"]["heldout"])


def test_its_completions_get_the_same_verdicts(folder: RunFolder, tmp_path: Path) -> None:
    config = folder.read_config()
    allowed = config.evaluation.model_copy(update={"allow_weak_sandbox": True, "timeout_seconds": 30.0})
    source, results = folder.evaluation("epoch_0001") / "completions.jsonl", tmp_path / "results.jsonl"
    events = list(evaluate(config.model_copy(update={"evaluation": allowed}), source, ControlInbox(), results=results))
    assert isinstance(events[-1], RunFinished), events[-1]
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert {row["task_id"]: row["verdict"] for row in rows} == FIGURES["verdicts"]["epoch_0001"]
    assert {row["split"] for row in rows} == {"train", "heldout"}


def test_the_app_shows_it(folder: RunFolder) -> None:
    view = advance(RunView(), events_of(folder))
    assert (view.run_id, view.outcome, view.resumed_from) == (RUN["run_id"], "finished", FIGURES["resumed_from_step"])
    assert list(view.train_loss.ys) == [loss for _, loss, *_ in FIGURES["steps"]]
    assert [one.loss for one in view.validations] == [loss for _, loss, _ in FIGURES["validations"]]
    assert view.best is not None and view.best.loss == RUN["heldout_loss"]
    assert {key[0]: state.verdict for key, state in view.problems.items()} == FIGURES["verdicts"]["best"]


def test_the_app_reads_its_problems(folder: RunFolder) -> None:
    for name, verdicts in FIGURES["verdicts"].items():
        files = read_problem_files(folder, name)
        assert files.fault == "" and files.checkpoint == name
        assert files.split is not None and files.split.model_dump() == RUN["split"]
        assert {problem.task_id for problem in files.problems} == set(verdicts)
        assert {key[0]: state.verdict for key, state in files.states.items()} == verdicts


def test_the_app_lists_its_checkpoints(folder: RunFolder) -> None:
    rows = {row.path.name: row for row in CatalogueReader().read().rows}
    wanted = {name: one for name, one in FIGURES["checkpoints"].items() if name.endswith(".pt")}
    assert rows.keys() == wanted.keys()
    for name, row in rows.items():
        metrics = wanted[name]["metrics"]
        assert (row.state, row.damage, row.faults) == ("finished", "", ())
        assert (row.epoch, row.step) == (wanted[name]["epoch"], wanted[name]["step"])
        assert (row.train_loss, row.heldout_loss) == (metrics["train_loss"], metrics["heldout_loss"])
        assert row.virtual_tokens == wanted[name]["rows"][0]
        assert row.scored == (row.name in FIGURES["verdicts"])


def test_a_later_format_is_refused_by_name(folder: RunFolder) -> None:
    record = json.loads(folder.record_file.read_text())
    folder.record_file.write_text(json.dumps(record | {"format_version": FORMAT_VERSION + 1}))
    run = summarize(folder)
    assert run.state == "damaged" and "newer softtune" in run.reason
    content = torch.load(folder.checkpoints / "best.pt", weights_only=True)
    torch.save(content | {"format_version": FORMAT_VERSION + 1}, folder.checkpoints / "best.pt")
    with pytest.raises(Exception, match=f"best.pt has format version {FORMAT_VERSION + 1}"):
        load_checkpoint(folder.checkpoints / "best.pt")
