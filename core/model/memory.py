"""Memory of the device and of this process, from torch and the kernel."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import torch

from core.contract.events import Memory


def measure_memory(device: torch.device) -> Memory:
    """Bytes in use now: torch's allocator on a GPU, the engine's resident memory on a CPU."""
    process = _resident_bytes()
    if device.type == "cuda":
        figures = torch.cuda.memory_stats(device)  # once: torch's functions for single figures collect all of them, too
        return Memory(
            device="cuda",
            allocated=figures.get("allocated_bytes.all.current", 0),
            reserved=figures.get("reserved_bytes.all.current", 0),
            peak=figures.get("allocated_bytes.all.peak", 0),
            total=torch.cuda.get_device_properties(device).total_memory,
            process=process,
        )
    return Memory(
        device="cpu", allocated=process, reserved=process, peak=max(_peak_bytes(), process), total=_machine_bytes(),
        process=process,
    )


def free_bytes(device: torch.device) -> int:
    """Bytes that new tensors can take on the device."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except FileNotFoundError:
        return _machine_bytes()  # a system that does not tell what is available
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return _peak_bytes()
