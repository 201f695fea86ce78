"""Whether a model is one whose layers are written out right: by its parts, then by trying."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from core.contract.events import Notice
from core.data.batches import Example, rows_of
from core.model import onednn
from core.model.llama import KINDS, can_be_written_out, has_known_parts
from core.model.loading import LoadedModel
from core.training.packed.passes import PackedPasses
from core.training.passes import MicroBatchPasses, Passes, result_of
from core.training.rows.passes import RowPasses

TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.4}
"""Largest distance of the trial's gradient from autograd's, as a share of its length, by the weights' type.

SmolLM2's were 1e-5, 0.01 and 0.10 apart, by rounding alone. A model that computes otherwise differs by several percent.
In 16 bits the trial finds what fails, and the model's kind (`core.model.llama.KINDS`) says what is right.
"""
LOSS_TOLERANCE = 0.02
"""Likewise of the losses, and no more than of the gradient; SmolLM2's were 1.4e-3 apart in bfloat16."""
SCALE = 1024.0
"""Of the trial's losses, so that no gradient is too small for float16."""
GOLDEN = (math.sqrt(5) - 1) / 2


def row_passes(loaded: LoadedModel, workers: int, label_smoothing: float = 0.0) -> RowPasses | None:
    """Passes of a few rows a core, where machine and model allow and a trial gives what autograd gives; else None."""
    precision = loaded.precision
    plain = precision.device.type == "cpu" and precision.weights == torch.float32 and precision.autocast is None
    if not (plain and onednn.available() and has_known_parts(loaded.model)):
        return None
    passes = RowPasses(loaded, workers, label_smoothing)
    return passes if agrees(passes, loaded, label_smoothing) else None


def packed_passes(loaded: LoadedModel, batch_size: int, label_smoothing: float = 0.0) -> PackedPasses | None:
    """Passes with the rows end to end, where GPU, types and model allow and a trial gives what autograd gives."""
    precision = loaded.precision
    sixteen_bits = precision.weights.itemsize == 2 and precision.autocast in (None, precision.weights)
    if not (precision.device.type == "cuda" and sixteen_bits and can_be_written_out(loaded.model)):
        return None
    passes = PackedPasses(loaded, batch_size, label_smoothing)
    try:
        return passes if agrees(passes, loaded, label_smoothing) else None
    except (RuntimeError, AttributeError):  # a GPU without the kernels, or a torch without the operators
        return None


def why_autograd(loaded: LoadedModel) -> Notice:
    """What the user should know where neither kind of passes fits, and the model's own forward pass trains."""
    precision, cuda = loaded.precision, loaded.precision.device.type == "cuda"
    kind, weights = loaded.model.config.model_type, precision.weights
    setting, remedy = "", ""
    if not has_known_parts(loaded.model):
        reason = f"softtune's own are of plain models of the Llama kind, and this {kind} has other parts"
    elif cuda and kind not in KINDS:
        reason = f"softtune's own are of {', '.join(KINDS)}, and this is {kind}"
    elif (weights.itemsize == 2) != cuda or precision.autocast not in (None, weights):
        taken = "16 bits" if cuda else "float32"
        reason = f"softtune's own take {taken}, and the weights are in {str(weights).removeprefix('torch.')}"
        if cuda and precision.autocast is None:
            setting, remedy = "hardware.mixed_precision", "set hardware.mixed_precision to true"
        else:
            setting, remedy = "model.torch_dtype", "set model.torch_dtype to auto"
    elif not cuda and not onednn.available():
        reason = "softtune's own need oneDNN, which this torch lacks"
    elif cuda and not can_be_written_out(loaded.model):
        reason = "softtune's own need a copy of some weights, for which memory has no room"
    else:
        reason = "softtune's own did not pass a trial here"
    longer = "several times as long" if cuda else "longer"
    return Notice(
        level="info", setting=setting, remedy=remedy,
        what=f"training goes through transformers' layers, and steps take {longer}: {reason}",
    )


def agrees(passes: Passes, loaded: LoadedModel, label_smoothing: float = 0.0) -> bool:
    """Whether losses and gradient of two short sequences behind 20 virtual tokens are those of autograd."""
    table = loaded.model.get_input_embeddings()
    virtual, *trial = _trial(len(table.weight))
    with torch.no_grad():
        rows = table(torch.tensor(virtual, device=loaded.precision.device)).float()
    ours, theirs = (
        _run(way, rows, [Example(f"trial {number}", (), ids[:-16], ids[-16:]) for number, ids in enumerate(trial)])
        for way in (passes, MicroBatchPasses(loaded, 1, label_smoothing))
    )
    of_gradient = TOLERANCES[loaded.precision.weights]
    tolerances = min(of_gradient, LOSS_TOLERANCE), of_gradient
    return all(
        bool((found - exact).norm() <= tolerance * exact.norm())
        for found, exact, tolerance in zip(ours, theirs, tolerances, strict=True)
    )


def _trial(vocabulary: int) -> list[tuple[int, ...]]:
    """Token ids of 20 virtual tokens and of sequences of 32 and 24, from all over the vocabulary but its ends.

    There stand the tokens that no text trained: their embeddings are next to nothing, and a gradient through their
    normalization is rounding alone in 16 bits.
    """
    place = itertools.count(1)
    return [
        tuple(int(vocabulary * (0.05 + 0.85 * (next(place) * GOLDEN % 1))) for _ in range(length))
        for length in (20, 32, 24)
    ]


def _run(passes: Passes, rows: torch.Tensor, trial: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    prompt = nn.Parameter(rows.clone())
    losses = result_of(passes.gradient([prompt], rows_of(trial, scale=SCALE)))
    assert prompt.grad is not None
    return losses.float(), prompt.grad
