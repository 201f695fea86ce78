"""What the machine, the model's folder and the problem file tell about settings. Read in a thread, never by a key."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.contract.config import Config
from core.contract.estimate import ModelShape, model_shape

HUMANEVAL_PROBLEMS = 164
_MIB = 2**20


@dataclass(frozen=True)
class Machine:
    """Memory in bytes; a GPU's where nvidia-smi tells of one."""

    memory: int = 0
    gpu: str = ""
    gpu_memory: int = 0


@dataclass(frozen=True)
class Facts:
    """What is known beside the settings; None for what is not."""

    problems: int | None = HUMANEVAL_PROBLEMS
    shape: ModelShape | None = None


def probe_machine(environ: Mapping[str, str] = os.environ) -> Machine:
    """The machine's memory, and the first GPU that a run could use."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    query = shutil.which("nvidia-smi")
    if query is None or environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return Machine(memory)
    command = [query, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        name, _, size = told.splitlines()[0].rpartition(",")
        return Machine(memory, name.strip(), int(size) * _MIB)
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return Machine(memory)  # a driver that does not answer: the run will say what it uses


def gather(config: Config) -> Facts:
    """The number of problems before the split, and the model's sizes."""
    return Facts(count_problems(config.dataset.path), model_shape(config.model))


def count_problems(path: str | None) -> int | None:
    """Problems of a JSONL file, compressed or not; None where it cannot be read. No path means HumanEval's 164."""
    if path is None:
        return HUMANEVAL_PROBLEMS
    file = Path(path)
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
            return sum(1 for line in lines if line.strip())
    except (OSError, EOFError, zlib.error, ValueError):
        return None
