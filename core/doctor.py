"""`softtune doctor`: what this machine can do for softtune."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from core.contract.config_file import load_config
from core.contract.errors import UsageError, WeakSandboxError
from core.contract.estimate import chosen_device, estimate_memory, gigabytes, model_shape
from core.contract.plan import split_sizes
from core.contract.space import HUMANEVAL_PROBLEMS, bytes_written
from core.data.dataset import versions
from core.evaluation.sandbox import LevelReport, levels
from core.model.memory import free_bytes

COVERS = {
    "namespaces": "programs reach no network, no other process, and no file but system folders and Python's own, "
                  "read-only",
    "landlock": "programs reach no network and no file but system folders and Python's own, read-only; they see that "
                "other processes exist",
    "process": "the weak sandbox, in which programs can read your files, write and delete where you can, and use the "
               f"network; none is run without {WeakSandboxError.setting}: true",
}
"""What programs that a model wrote can reach at each level of isolation."""

_KERNEL = Path("/proc/sys")
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_SWITCHES = (("kernel.unprivileged_userns_clone", "0", "1"), ("user.max_user_namespaces", "0", "10000"),
             ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"))
"""Settings of a kernel that keep users from making namespaces: name, the value that does, one that does not."""


def examine() -> dict[str, Any]:
    """Findings by name: one line that a person can read, but for "sandbox_levels", which has a dict for each."""
    size = shutil.get_terminal_size()
    disk = shutil.disk_usage(".")
    terminal = f"{os.environ.get('TERM', 'none')}, {size.columns}×{size.lines}"
    colours = os.environ.get("COLORTERM", "as TERM says")
    reports = levels()
    findings = {
        "terminal": f"{terminal}, colours {colours}" + ("" if sys.stdout.isatty() else " (stdout is not a terminal)"),
        "GPU": _gpu(),
        "memory": f"{free_bytes(torch.device('cpu')) / 2**30:.1f} GiB free, {torch.get_num_threads()} CPU threads",
        "sandbox": next((report.level for report in reports if report.granted), "none"),
        "sandbox_levels": [_level(report) for report in reports],
        "disk": f"{disk.free / 2**30:.1f} GiB free here",
    }
    return findings | _run() | versions()


def _run() -> dict[str, str]:
    """What a run with the settings of this folder would take of memory and disk."""
    try:
        config = load_config()
    except UsageError as error:
        return {"a run": f"not with these settings: {error.what}"}
    shape, device = model_shape(config.model), chosen_device(config, torch.cuda.is_available())
    disk = f"writes up to {gigabytes(bytes_written(config))}"
    if shape is None:
        return {"a run": f"of {config.model.name}: memory unknown until the model is loaded; {disk}"}
    problems = split_sizes(config.dataset.max_samples or HUMANEVAL_PROBLEMS, config.dataset.train_val_split)[0]
    total = estimate_memory(config, shape, device, problems, torch.get_num_threads()).total
    free = free_bytes(torch.device(device))
    tight = "" if total < free else ": it may not fit; lower training.batch_size, raise gradient_accumulation_steps"
    return {"a run": f"of {config.model.name} takes about {gigabytes(total)} of {gigabytes(free)} free on the "
                     f"{'GPU' if device == 'cuda' else 'CPU'}{tight}; {disk}"}


def finding_lines(findings: dict[str, Any]) -> list[str]:
    """The findings as lines; below the sandbox's level, what keeps the machine from granting the stronger ones."""
    lines = []
    for name, finding in findings.items():
        if name == "sandbox":
            finding = ": ".join(part for part in (finding, COVERS.get(finding, "")) if part)
        if name != "sandbox_levels":
            lines.append(f"{name:<14} {finding}")
            continue
        for level in finding:
            if level["granted"]:
                break  # the weaker ones are of no interest
            lines.append(f"{'':<14} not {level['level']}: {level['reason']}")
            lines += [f"{'':<14}   → {level['remedy']}"] if level["remedy"] else []
    return lines


def _level(report: LevelReport) -> dict[str, Any]:
    return {"level": report.level, "granted": report.granted, "reason": report.reason,
            "remedy": "" if report.granted else _remedy(report.level)}


def _remedy(level: str) -> str:
    """What to do to be granted a level, as far as the kernel's settings tell what it is that refuses."""
    if level == "landlock":
        return "it needs Linux 5.13 or later, with landlock among the modules of lsm= on the kernel's command line"
    if level == "process":
        return ""
    shut = [f"sudo sysctl {name}={better}" for name, worse, better in _SWITCHES if _switch(name) == worse]
    if shut:
        return "; ".join(shut)
    if any(mark.exists() for mark in _CONTAINER_MARKS):
        return ("in a container: start it with --security-opt seccomp=unconfined (where that is not enough, also "
                "apparmor=unconfined and systempaths=unconfined), or rely on landlock")
    return "let users make namespaces: " + ", ".join(f"{name} {better}" for name, _, better in _SWITCHES)


def _switch(name: str) -> str:
    """A setting of the kernel; "" where it has none of this name."""
    try:
        return _KERNEL.joinpath(*name.split(".")).read_text().strip()
    except OSError:
        return ""


def _gpu() -> str:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        return "none usable" + ("" if built else " (this torch is a CPU build)")
    free, total = torch.cuda.mem_get_info()
    sixteen = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return (f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, {sixteen}, "
            f"CUDA {torch.version.cuda}")
