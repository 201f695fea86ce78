"""Makes the golden run of this format version: `python tests/golden/make.py` (in the repository; replaces run/).

It is a real run of a tiny model that was stopped and resumed, so that every kind of file is in it. Only what names the
machine is changed afterwards. Make it anew only for a new format version, and keep the older ones beside it: a golden
run that is made again proves nothing of what older versions wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import torch  # noqa: E402 - a script: the project's root comes first

from core.contract.config import Config  # noqa: E402
from core.contract.config_file import load_config  # noqa: E402
from core.contract.control import Command, ControlInbox, send  # noqa: E402
from core.contract.events import StepCompleted  # noqa: E402
from core.contract.files import FORMAT_VERSION  # noqa: E402
from core.contract.liveness import at_work  # noqa: E402
from core.contract.runs import RunFolder, create_run  # noqa: E402
from core.data.dataset import read_dataset  # noqa: E402
from core.evaluation.completions import read_completions  # noqa: E402
from core.evaluation.job import with_summary  # noqa: E402
from core.evaluation.scoring import score  # noqa: E402
from core.jobs import train  # noqa: E402
from core.recorder import record  # noqa: E402
from tests.tiny import make_tiny_model  # noqa: E402

SETTINGS = {
    "model.name": "./tiny-model", "hardware.device": "cpu", "dataset.max_samples": 6, "dataset.max_length": 2048,
    "soft_prompts.num_virtual_tokens": 5, "training.num_epochs": 2, "training.batch_size": 2,
    "training.gradient_accumulation_steps": 1, "training.learning_rate": 0.05, "training.warmup_steps": 1,
    "training.save_every_n_steps": 1, "inference.max_new_tokens": 8,
}
STOPPED_AT = 1
MACHINE = {"host": "box", "boot_id": "00000000-0000-0000-0000-000000000000", "pid_namespace": "pid:[4026531836]",
           "pid": 4242, "pid_started": 100.0, "oom_kills": 0}


def run_stopped_and_resumed(config: Config) -> RunFolder:
    """A run that the user stopped after a step, and resumed."""
    folder = create_run(config, "golden")
    for resume in (False, True):
        with at_work(folder.lock_file):
            control = ControlInbox(folder.control_file)
            for event in record(train(config, folder, control, resume=resume), folder, control):
                if isinstance(event, StepCompleted) and event.step == STOPPED_AT and not resume:
                    send(folder.control_file, Command.STOP)
    return folder


def score_another(config: Config, folder: RunFolder) -> None:
    """Score the first epoch's checkpoint too, with known solutions to every second problem: something to compare."""
    dataset = read_dataset(config, folder)
    place = folder.evaluation("epoch_0001")
    place.mkdir()
    rows = read_completions(folder.evaluation("best") / "completions.jsonl")
    known = {problem.task_id: problem for problem in dataset.selected}
    for row in rows[::2]:
        row["completion"] = known[row["task_id"]].canonical_solution
    for row in rows:
        row["checkpoint"] = str(folder.checkpoints / "epoch_0001.pt")
    completions = place / "completions.jsonl"
    completions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    events = score(rows, known, dataset.split, config.evaluation, place / "results.jsonl", completions, "epoch_0001")
    list(with_summary(events, place / "summary.json"))


def without_the_machine(folder: RunFolder) -> None:
    """Put a machine that there is not in the place of this one."""
    text = folder.record_file.read_text()
    folder.record_file.write_text(json.dumps(json.loads(text) | MACHINE, indent=1) + "\n")
    events = folder.events_file.read_text()
    folder.events_file.write_text(re.sub(r'"pid":\d+', f'"pid":{MACHINE["pid"]}', events))
    folder.engine_log.write_text("")


def figures(folder: RunFolder) -> dict[str, Any]:
    """What every later version must find in it, taken from the files themselves and not by our readers."""
    events = [json.loads(line) for line in folder.events_file.read_text().splitlines()]
    run = json.loads(folder.record_file.read_text())
    checkpoints = {path.name: torch.load(path, weights_only=True) for path in sorted(folder.checkpoints.iterdir())}
    last_start = max(at for at, event in enumerate(events) if event["type"] == "RunStarted")
    resumed = events[last_start]["resumed_from_step"]
    steps = {event["step"]: event for at, event in enumerate(events)
             if event["type"] == "StepCompleted" and (at > last_start or event["step"] <= resumed)}
    return {
        "format_version": FORMAT_VERSION,
        "run": {key: run[key] for key in ("run_id", "state", "started", "ended", "model", "dataset_sha256", "split",
                                          "step", "total_steps", "heldout_loss", "pass_at_1")},
        "events": len(events), "types": sorted({event["type"] for event in events}), "resumed_from_step": resumed,
        "steps": [[number, event["loss"], event["learning_rate"], event["grad_norm"]]
                  for number, event in steps.items()],
        "validations": [[event["epoch"], event["loss"], event["is_best"]]
                        for event in events if event["type"] == "ValidationCompleted"],
        "checkpoints": {name: {
            "rows": list(content["soft_prompt"].shape),
            "sha256": hashlib.sha256(content["soft_prompt"].numpy().tobytes()).hexdigest(),
            "epoch": content["epoch"], "step": content["step"], "metrics": content["metrics"],
            "standing": content.get("training", {}).get("standing"),
        } for name, content in checkpoints.items()},
        "config": checkpoints["last.pt"]["config"],
        "verdicts": {place.name: {row["task_id"]: row["verdict"] for row in map(
            json.loads, (place / "results.jsonl").read_text().splitlines())}
            for place in sorted((folder.root / "evaluations").iterdir())},
    }


def main() -> None:
    """Make run/ and figures.json."""
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        make_tiny_model(Path("tiny-model"))
        config = load_config(overrides=[f"{key}={value}" for key, value in SETTINGS.items()])
        folder = run_stopped_and_resumed(config)
        score_another(config, folder)
        without_the_machine(folder)
        (HERE / "figures.json").write_text(json.dumps(figures(folder), indent=1) + "\n")
        shutil.rmtree(HERE / "run", ignore_errors=True)
        shutil.copytree(folder.root, HERE / "run")
        os.chdir(HERE)


if __name__ == "__main__":
    main()
