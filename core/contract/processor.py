"""What kind of processor this machine has, as far as it decides how training on a CPU multiplies."""

from __future__ import annotations

import functools
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
"""What oneDNN's kernels for AVX-512 need at least."""


@functools.cache
def avx2_at_most() -> bool:
    """Whether it has AVX2 but not AVX-512; False where the machine does not tell (only Linux does).

    There numpy's BLAS multiplies faster than oneDNN, without a copy of the weights (`core.training.rows.products`).
    """
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return "avx2" in flags and not flags >= AVX512
