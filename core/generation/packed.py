"""Linear layers of a float32 model on a CPU that compute with weights laid out once (`core.model.onednn`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from core.model import onednn
from core.model.memory import free_bytes


class PackedLinears:
    """Second copies of the weights of a model's modules, and the time in which its linear layers compute with them."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        """Lay the weights out, 4 bytes each; nothing where that would take half of the memory that is free."""
        layers = _float32_cpu_linears(modules) if onednn.available() else []
        size = sum(layer.weight.nbytes for layer in layers)
        if layers and size > free_bytes(torch.device("cpu")) // 2:
            layers = []
        with torch.inference_mode():
            self._forwards = [(layer, onednn.LaidOut.of(layer)) for layer in layers]

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Within the block these layers compute with the copies; one whose `forward` somebody has replaced does not."""
        chosen = [(layer, forward) for layer, forward in self._forwards if "forward" not in vars(layer)]
        for layer, forward in chosen:
            vars(layer)["forward"] = forward  # past nn.Module's slow __setattr__
        try:
            yield
        finally:
            for layer, _ in chosen:
                del vars(layer)["forward"]


def _float32_cpu_linears(modules: Iterable[nn.Module]) -> list[nn.Linear]:
    """The plain linear layers: no subclass, whose forward may do more."""
    return [
        module for module in modules
        if type(module) is nn.Linear and module.weight.device.type == "cpu" and module.weight.dtype == torch.float32
    ]
