"""Memory of tensors on a CPU, kept from one pass to the next.

glibc gives large blocks back to the system when they are freed, and the next pass faults the same pages in again, one
by one and zeroed. Encoding 900 tokens of prompts with SmolLM2-135M takes 11 % more processor time that way.
"""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt's numbers, malloc.h
KEPT, ALL = 256 << 20, (1 << 31) - 1
"""Bytes at the end of the heap that may stay unused: between batches of completions, and between optimizer steps."""
LARGEST = 32 << 20
"""Blocks up to this size come from the heap: the most that glibc takes. Larger ones go back when they are freed."""


def keep_freed_memory(kept: int = KEPT) -> None:
    """Give back what is free, and let this process keep so much of what it frees from now on.

    Where the C library knows no such setting, nothing changes.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, LARGEST)
        library.mallopt(_TRIM_THRESHOLD, kept)
        library.malloc_trim(0)


def share_one_heap() -> None:
    """Let threads that start from now on take memory from one heap, which keeps all that they free, where they can.

    Of heaps of their own each keeps what it has freed: training SmolLM2-135M in two threads took 2.6 GB that way, and
    2.4 GB with one, in the same processor time.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
    keep_freed_memory(ALL)


def give_back_freed_memory() -> None:
    """Return what is free within the heap to the system, where the C library can."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
