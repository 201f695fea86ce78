"""Checkpoints of tiny models, and what softtune itself says with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.contract.config_file import load_config
from core.contract.events import Event
from core.contract.record import Split
from core.model.checkpoint import Checkpoint, save_checkpoint

MakeCheckpoint = Callable[..., Path]
METRICS = {"train_loss": 1.0, "heldout_loss": 0.9, "heldout_perplexity": 2.46}
SPLIT = Split(train=["HumanEval/0", "HumanEval/2"], heldout=["HumanEval/1"])


@pytest.fixture
def make_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_folder: Path) -> MakeCheckpoint:
    """Writes x.pt in the test's own folder, which is the current one: random rows for a tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core.export.formats.VERIFIED_PROBLEMS", 3)  # a third of the time

    def make(model: Path = tiny_model_folder, virtual_tokens: int = 5, *settings: str, scale: float = 0.2) -> Path:
        config = load_config(overrides=[f"model.name={model}", "hardware.device=cpu", *settings])
        rows = torch.randn(virtual_tokens, 64, generator=torch.Generator().manual_seed(virtual_tokens)) * scale
        made = Checkpoint(rows, config.model.name, 2, 9, METRICS, config.model_dump(), SPLIT, "r")
        save_checkpoint(made, tmp_path / "x.pt")
        return tmp_path / "x.pt"

    return make


@pytest.fixture
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    """5 rows for the tiny Qwen2, whose vocabulary has spare rows and is tied."""
    return make_checkpoint()


def outcome(events: Iterator[Event]) -> Any:
    """The value of a job, and its events."""
    told: list[Event] = []
    while True:
        try:
            told.append(next(events))
        except StopIteration as end:
            return end.value, told
