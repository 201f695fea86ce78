"""Whether the tracker that the settings name can be had; talking to it is the engine's (`core.trackers`)."""

from __future__ import annotations

import importlib.util

from core.contract.config import Config
from core.contract.errors import UsageError


def check_tracker(config: Config) -> None:
    """Raise UsageError where `logging.tracker` names a package that is not installed; nothing of it is imported."""
    name = config.logging.tracker
    if name == "none":
        return
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:  # W&B leaves a folder of its own name behind, which is no package
        raise UsageError(f"logging.tracker: {name} is not installed",
                         f"pip install 'softtune[{name}]', or set logging.tracker to none")
