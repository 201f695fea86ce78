"""`softtune doctor`: what this machine can do for softtune."""

from __future__ import annotations

import os
import shutil
import sys

import torch

from core.data.dataset import versions
from core.evaluation.sandbox import isolation_level
from core.model.memory import free_bytes


def examine() -> dict[str, str]:
    """Findings by name; each is one line that a person can read."""
    size = shutil.get_terminal_size()
    disk = shutil.disk_usage(".")
    terminal = f"{os.environ.get('TERM', 'none')}, {size.columns}×{size.lines}"
    colours = os.environ.get("COLORTERM", "as TERM says")
    findings = {
        "terminal": f"{terminal}, colours {colours}" + ("" if sys.stdout.isatty() else " (stdout is not a terminal)"),
        "GPU": _gpu(),
        "memory": f"{free_bytes(torch.device('cpu')) / 2**30:.1f} GiB free, {torch.get_num_threads()} CPU threads",
        "sandbox": isolation_level(),
        "disk": f"{disk.free / 2**30:.1f} GiB free here",
    }
    return findings | versions()


def _gpu() -> str:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        return "none usable" + ("" if built else " (this torch is a CPU build)")
    free, total = torch.cuda.mem_get_info()
    sixteen = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return (f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, {sixteen}, "
            f"CUDA {torch.version.cuda}")
