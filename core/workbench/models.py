"""The one model that requests share, and the settings under which a checkpoint wants to be used."""

from __future__ import annotations

import gc
from collections.abc import Generator
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from core.contract.config import Config, HardwareSettings, InferenceSettings
from core.contract.workbench import AnyReply, Working

if TYPE_CHECKING:
    from core.model.checkpoint import Checkpoint
    from core.model.loading import LoadedModel


class Models:
    """Keeps the model that was asked for last; another one lives on only while a request uses it."""

    def __init__(self) -> None:
        self._kept: LoadedModel | None = None
        self._in_memory: WeakValueDictionary[tuple[object, ...], LoadedModel] = WeakValueDictionary()

    def loaded(self, number: int, config: Config) -> Generator[AnyReply | None, None, LoadedModel]:
        """The model of these settings, for request `number`; Working is told before it is loaded.

        Raises:
            ModelError: as `load_model`.
        """
        import torch

        from core.model.loading import choose_precision, load_model

        model, precision = config.model, choose_precision(config)
        key = (model.name, model.gguf_file, str(precision.device), precision.weights)
        loaded = self._in_memory.get(key)
        if loaded is None:
            yield Working(request=number, what=f"loading {model.name}")
            self._kept = None
            gc.collect()  # two models at once may be too many
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            # Its width is compared with the checkpoint's, not with what the configuration says of another model.
            any_width = config.soft_prompts.model_copy(update={"embedding_dim": None})
            loaded = load_model(config.model_copy(update={"soft_prompts": any_width}))
            self._in_memory[key] = loaded
        self._kept = loaded
        return loaded


def settings_of(checkpoint: Checkpoint, config: Config) -> Config:
    """`config` with the model, the prompt style and the text prompt that a checkpoint was trained with.

    Raises:
        CheckpointError: what the checkpoint says of them is not to be read.
    """
    from core.jobs import with_model_of

    trained = checkpoint.settings(InferenceSettings, "inference")
    config = with_model_of(checkpoint, config, [])
    style = {key: getattr(trained, key) for key in ("prompt_style", "text_prompt", "text_prompt_position")}
    return config.model_copy(update={"inference": config.inference.model_copy(update=style)})


def own_settings_of(checkpoint: Checkpoint) -> Config:
    """The settings of a checkpoint for a request that brings none: model, prompt style and hardware."""
    config = settings_of(checkpoint, Config())
    return config.model_copy(update={"hardware": checkpoint.settings(HardwareSettings, "hardware")})
