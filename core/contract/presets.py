"""Settings to begin with: by the memory of the GPU, for a quick trial, or as the schema has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.contract.config import DEMO, Config

GIB = 2**30


@dataclass(frozen=True)
class Preset:
    """A named group of settings, by "section.key"."""

    name: str
    purpose: str
    changes: Mapping[str, Any]
    least: int = 0
    """Bytes of GPU memory from which it fits; `below` is where the next one does."""
    below: int = 0

    def suits(self, gpu_bytes: int) -> bool:
        """Whether it is the one for a GPU of this size; a card's odd megabytes do not count."""
        return self.below > 0 and self.least <= round(gpu_bytes / GIB) * GIB < self.below


def _batches(name: str, rows: int, passes: int, least: int, below: int) -> Preset:
    """An effective batch of 16, cut so that a micro-batch fits."""
    changes = {"training.batch_size": rows, "training.gradient_accumulation_steps": passes}
    return Preset(name, f"batches of {rows}, {passes} to an optimizer step", changes, least * GIB, below * GIB)


def _defaults(*sections: str) -> dict[str, Any]:
    values = Config().model_dump()
    return {f"{section}.{key}": value for section in sections for key, value in values[section].items()}


PRESETS: tuple[Preset, ...] = (
    _batches("under 8 GB of GPU memory", 2, 8, 0, 8),
    _batches("8–16 GB of GPU memory", 4, 4, 8, 17),
    _batches("over 16 GB of GPU memory", 8, 2, 17, 10**6),
    Preset("as the guides have it", "soft prompt and optimiser as they ship",
           _defaults("soft_prompts", "training") | {
               key: value for key, value in _defaults("evaluation").items() if "patience" in key or "every" in key}),
    Preset("quick trial", "20 problems, 2 epochs: does it run at all", {
        "dataset.max_samples": 20, "training.num_epochs": 2, "training.warmup_steps": 1,
        "inference.max_new_tokens": 128,
    }),
    Preset("the demo", "a small model: no hub, no GPU", {
        f"{section}.{key}": value for section, values in DEMO.items() for key, value in values.items()
    }),
)
