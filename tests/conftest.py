"""Fixtures that need no network: a tiny Qwen2 with random weights and a byte-level tokenizer made here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import make_tiny_model

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as core.cli does, and as it must be before torch is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the same
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and so it would be in all that tests start


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """A command leaves signals ignored, as its process would end; here other tests' processes would inherit that."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `from_pretrained` reads: Qwen2, 2 layers, hidden 64, vocabulary padded past the tokenizer's."""
    folder = tmp_path_factory.mktemp("tiny-qwen2")
    make_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path) -> Any:
    """The tiny Qwen2 in float32 on the CPU, in eval mode, frozen. Session-wide: tests must leave it as it is."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype="float32")
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_model_folder: Path) -> Any:
    """The tokenizer of the tiny model: 500 byte-level BPE tokens, end of text = padding."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_folder)
