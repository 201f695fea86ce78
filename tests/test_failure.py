"""Errors in words; which of them mean that there was no memory left."""

import pytest
import torch

from core.contract.errors import DataError
from core.failure import failure, is_out_of_memory


@pytest.mark.parametrize("error", [
    MemoryError(), torch.OutOfMemoryError("x"),
    RuntimeError("CUDA error: out of memory"), RuntimeError("std::bad_alloc"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
])
def test_the_forms_that_a_lack_of_memory_takes(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert failure(error, "").what == "out of memory"


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), DataError("std::bad_alloc"), ValueError("x")])
def test_other_errors_are_others(error: Exception) -> None:
    assert not is_out_of_memory(error)
