"""What the figures of a bench depend on: the machine, the versions, what else it does."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch


def surroundings(device: torch.device, *packages: str) -> str:
    """One line: the device, the system, the versions of torch and `packages`, and the load now."""
    return ", ".join([
        _gpu(device) if device.type == "cuda" else _processor(), f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in ("torch", *packages)),
        f"load {os.getloadavg()[0]:.1f} at the end",
    ])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{torch.get_num_threads()} threads of {names[0] if names else platform.machine()}"


def _gpu(device: torch.device) -> str:
    shape = torch.cuda.get_device_properties(device)
    memory = f"{shape.total_memory / 2**30:.0f} GiB"
    return f"{shape.name} with {memory}, driver {_driver()}, CUDA {torch.version.cuda}, cuDNN {_cudnn()}"


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.split("\n")[0].strip() or "unknown"


def _cudnn() -> str:
    version = torch.backends.cudnn.version()
    return "none" if version is None else str(version)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
