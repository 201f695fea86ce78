"""Whether a model is one whose layers are written out right: by its parts, then by trying."""

from __future__ import annotations

import torch
from torch import nn

from core.data.batches import Example, rows_of
from core.model import onednn
from core.model.llama import can_be_written_out, has_known_parts
from core.model.loading import LoadedModel
from core.training.packed.passes import PackedPasses
from core.training.passes import MicroBatchPasses, Passes, result_of
from core.training.rows.passes import RowPasses

TOLERANCES = {torch.float32: 1e-2, torch.float16: 0.05, torch.bfloat16: 0.2}
"""Largest difference of the trial's gradient from autograd's, as a share of its largest number, by the weights' type.

Rounding alone is 1e-5 with AVX-512. With AVX2 it was 1.8e-3 for SmolLM2, of which each of the two had half against the
same in float64. A model that computes otherwise differs by several percent. In 16 bits rounding alone makes as much:
there the trial finds what fails, and the model's kind (`core.model.llama.KINDS`) says what is right.
"""
SCALE = 1024.0
"""Of the trial's losses, so that no gradient is too small for float16."""
TRIAL = (
    Example("trial", before=(), context=(1, 2, 3, 4, 5), target=(6, 7, 8)),
    Example("trial, shorter", before=(), context=(3, 2), target=(7, 5, 1)),
)


def row_passes(loaded: LoadedModel, workers: int, label_smoothing: float = 0.0) -> RowPasses | None:
    """Passes row by row, where the machine and the model allow and a trial gives what autograd gives; else None."""
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


def agrees(passes: Passes, loaded: LoadedModel, label_smoothing: float = 0.0) -> bool:
    """Whether losses and gradient of short sequences behind two virtual tokens are those of autograd."""
    tolerance = TOLERANCES[loaded.precision.weights]
    with torch.no_grad():
        ids = torch.tensor([9, 10], device=loaded.precision.device)
        rows = loaded.model.get_input_embeddings()(ids).float()
    found = [_run(way, rows) for way in (passes, MicroBatchPasses(loaded, 1, label_smoothing))]
    return all(
        bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())
        for ours, theirs in zip(*found, strict=True)
    )


def _run(passes: Passes, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    prompt = nn.Parameter(rows.clone())
    losses = result_of(passes.gradient([prompt], rows_of(TRIAL, scale=SCALE)))
    assert prompt.grad is not None
    return losses.float(), prompt.grad
