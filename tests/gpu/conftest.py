"""The device that these tests run on: CUDA, unless SOFTTUNE_TEST_DEVICE=cpu checks the tests themselves."""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The CUDA device; its absence is a failure, not a pass."""
    name = os.environ.get("SOFTTUNE_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.fail("there is no CUDA device here; run these on a machine with one, or set SOFTTUNE_TEST_DEVICE=cpu")
    if name == "cuda":
        print(f"\ndevice: {torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    return torch.device(name)
