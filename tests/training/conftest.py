"""A trainer on the tiny model, in a folder of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import ControlInbox
from core.contract.runs import RunFolder, create_run
from core.data.dataset import prepare_dataset
from core.model.loading import LoadedModel, Precision
from core.training.loop import Trainer
from core.training.setup import build_trainer

SMALL = [
    "hardware.device=cpu", "dataset.max_samples=24", "training.num_epochs=2", "training.learning_rate=0.05",
    "training.warmup_steps=1", "soft_prompts.num_virtual_tokens=5", "dataset.max_length=2048",
]
MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def loaded(tiny_model: Any, tiny_tokenizer: Any) -> LoadedModel:
    """The tiny model on the CPU, in float32."""
    return LoadedModel(tiny_model, tiny_tokenizer, Precision(torch.device("cpu"), torch.float32, None), "tiny", 0.0)


@pytest.fixture
def make_trainer(loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeTrainer:
    """make_trainer("training.batch_size=2", …, folder=None, last=None): a trainer in a new run, or going on."""
    monkeypatch.chdir(tmp_path)

    def make(*overrides: str, folder: RunFolder | None = None, last: Any = None) -> Trainer:
        config = load_config(overrides=[*SMALL, *overrides]) if folder is None else folder.read_config()
        return _build(config, folder or create_run(config, "test"), last)

    def _build(config: Config, folder: RunFolder, last: Any) -> Trainer:
        control = ControlInbox(folder.control_file)
        return build_trainer(config, loaded, prepare_dataset(config, folder), folder, control, last)

    return make
