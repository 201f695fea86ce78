"""Training in a process of its own, for figures that are a whole process's: `processes.py memory ours --set …`.

It prints one JSON object. `memory` takes a few optimizer steps and tells the peak of the process's resident memory;
`train` trains soft prompts in one pass and tells the seconds of its parts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as core.cli does, and as it must be before torch is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the same

from core.contract.config import Config  # noqa: E402 - a script: the project's root and the environment come first
from core.contract.config_file import load_config  # noqa: E402
from core.data.batches import Example, effective_batches, epoch_order  # noqa: E402
from core.model.loading import load_model  # noqa: E402
from tests.bench.runs import split_examples, starting_rows, train_whole  # noqa: E402
from tests.bench.steps import Ours  # noqa: E402


def in_processes(
    settings: Sequence[str], commands: Sequence[Sequence[str]], count: int | None = None
) -> list[tuple[float, dict[str, Any]]]:
    """Seconds from start to end of a process for each command, one after another, and what came of it.

    Args:
        settings: what differs from the demo's, as `section.key=value`.
        count: so many of the commands have a process of their own, where nobody looks at the figures of a process;
            the others are done in this one.

    Raises:
        SystemExit: one of them failed.
    """
    options = [word for setting in settings for word in ("--set", setting)]
    return [
        (_in_a_process if count is None or place < count else _here)([*words, *options])
        for place, words in enumerate(commands)
    ]


def _in_a_process(words: Sequence[str]) -> tuple[float, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as place:
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, __file__, *words], cwd=place, capture_output=True, text=True)
        seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(words)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return seconds, json.loads(done.stdout.splitlines()[-1])


def _here(words: Sequence[str]) -> tuple[float, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        begun = time.perf_counter()
        found = what_came_of(words)
        return time.perf_counter() - begun, found


def epoch_steps(config: Config, train: Sequence[Example]) -> list[Sequence[Example]]:
    """The effective batches of epoch 1, whole ones alone."""
    settings = config.training
    size = settings.batch_size * settings.gradient_accumulation_steps
    steps = effective_batches(epoch_order(train, 1, config.dataset.seed), size)
    return [step for step in steps if len(step) == size]


def memory(config: Config, side: str, steps: int) -> dict[str, Any]:
    """Peak resident bytes of this process over some steps of epoch 1, those first that have the longest sequence."""
    loaded = load_model(config)
    train, _ = split_examples(loaded, config)
    rows = starting_rows(loaded, config)
    batches = sorted(epoch_steps(config, train), key=lambda batch: -max(example.tokens for example in batch))[:steps]
    if side == "ours":
        ours = Ours(loaded, config, train, [rows])
        losses = [ours.step(batch).loss for batch in batches]
    else:
        from tests.bench.peft_peer import PeftPeer

        peer = PeftPeer(loaded, config, len(train), rows)
        losses = [peer.step(batch).loss for batch in batches]
    return {"peak": peak_bytes(), "losses": losses}


def peak_bytes() -> int:
    """Peak resident memory since this program began; rusage's would count the one that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def train(config: Config, numbers: Sequence[int]) -> dict[str, Any]:
    """Train these soft prompts in one pass, from loading the model to the last checkpoint."""
    loaded = load_model(config)
    run = train_whole(loaded, config, *split_examples(loaded, config), numbers)
    return dataclasses.asdict(run)


def what_came_of(words: Sequence[str]) -> dict[str, Any]:
    """Do what the command's words say."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["memory", "train"])
    parser.add_argument("which", nargs="+", help="ours or peft; numbers of soft prompts")
    parser.add_argument("--steps", type=int, default=2, metavar="N", help="optimizer steps of `memory`")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    options = parser.parse_args(words)
    config = load_config(overrides=options.settings, demo=True)
    if options.what == "memory":
        return memory(config, options.which[0], options.steps)
    return train(config, [int(number) for number in options.which])


if __name__ == "__main__":
    print(json.dumps(what_came_of(sys.argv[1:])))
