"""A run as a table: all that its events say, each step once, readable by what reads CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import datetime
from pathlib import Path

import pytest

from core.cli import main
from core.contract import events as ev
from core.contract.event_log import EventLog
from core.contract.run_csv import COLUMNS, run_csv
from core.contract.runs import RunFolder
from tests.trackers.told import a_run, step, training


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tell(folder: RunFolder, *events: ev.Event) -> None:
    log = EventLog(folder.events_file)
    for event in events:
        log.append(event)
    log.close()


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_has_all_that_is_told_of_its_step_in_full() -> None:
    folder = a_run("none")
    told = list(training(folder.run_id))
    tell(folder, *told)
    rows = table(run_csv(folder))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4"] and tuple(rows[0]) == COLUMNS
    (third,) = (event for event in told if isinstance(event, ev.StepCompleted) and event.step == 3)
    row = rows[3]
    assert [float(row[name]) for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second")] == [
        third.loss, third.learning_rate, third.grad_norm, third.tokens_per_second]
    assert row["loss"] == repr(1 / 3) and int(row["memory_peak"]) == third.memory.peak and row["epoch"] == "2"
    assert datetime.fromisoformat(row["time"]).timestamp() == pytest.approx(third.time, abs=0.001)
    assert (row["heldout_loss"], row["epoch_loss"]) == ("", "")
    assert (rows[4]["heldout_loss"], rows[4]["heldout_perplexity"], rows[4]["epoch_loss"]) == ("0.4", "3.0", "0.5")
    assert (rows[0]["loss"], rows[0]["heldout_loss"], rows[0]["epoch"]) == ("", "2.0", "0")


def test_a_loss_that_is_no_number_says_so() -> None:
    folder = a_run("none")
    tell(folder, step(1, loss=math.nan), step(2, loss=math.inf))
    assert [float(row["loss"]) for row in table(run_csv(folder))] == [pytest.approx(math.nan, nan_ok=True), math.inf]


def test_after_a_resume_each_step_is_there_once_as_it_was_told_last() -> None:
    folder = a_run("none")
    tell(folder, *training(folder.run_id, until=3), ev.RunStarted(run_id="r", model="m", pid=2, resumed_from_step=1),
         step(2, loss=7.0))
    assert [(row["step"], row["loss"]) for row in table(run_csv(folder))] == [("0", ""), ("1", "1.0"), ("2", "7.0")]


def test_the_members_of_a_run_are_told_apart() -> None:
    folder = a_run("none", "sweep")
    tell(folder, *training(folder.run_id))
    for number in (1, 2):
        tell(folder.member(f"trial-000{number}"), step(1, loss=number), step(2))
    rows = table(run_csv(folder))
    assert [(row["member"], row["step"]) for row in rows] == [
        ("trial-0001", "1"), ("trial-0001", "2"), ("trial-0002", "1"), ("trial-0002", "2")]
    assert [row["step"] for row in table(run_csv(folder.member("trial-0002")))] == ["1", "2"]


def test_the_command_writes_a_new_file_or_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    folder = a_run("none")
    tell(folder, *training(folder.run_id))
    assert main(["export", "last", "--format", "csv", "-"]) == 0
    printed = capfd.readouterr().out
    assert printed == run_csv(folder)
    assert main(["export", "shown", "--format", "csv", "out/curves.csv", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"path": "out/curves.csv", "format": "csv"}
    assert Path("out/curves.csv").read_text() == printed
    Path("mine.csv").write_text("mine")
    assert main(["export", folder.run_id, "--format", "csv", "mine.csv"]) == 2
    assert "mine.csv exists already" in capfd.readouterr().err and Path("mine.csv").read_text() == "mine"


@pytest.mark.parametrize(("arguments", "why"), [
    (["other", "out.csv"], "there is no run 'other'"), (["last", "out.csv"], "has no steps to write"),
    (["last", "out.csv", "--push", "me/it"], "--format csv takes RUN and FILE alone"),
])
def test_what_cannot_be_written_is_refused(
    arguments: list[str], why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run("none")
    assert main(["export", *arguments, "--format", "csv"]) == 2
    assert why in capfd.readouterr().err and not Path("out.csv").exists()
