"""The passes of `core.training.passes`, rows end to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from core.data.batches import Row
from core.model.graphs import Recorder, recorder
from core.model.kernels import CrossEntropy
from core.model.llama import LlamaModel
from core.model.loading import LoadedModel
from core.training.loss import summed
from core.training.packed.pack import Pack, Shape, attend, pack
from core.training.passes import MicroBatchPasses
from core.training.profile import untimed

MOST = 32
"""Shapes that are recorded: HumanEval's in effective batches of 16 come to about ten."""
Key = tuple[int, Shape]
"""How many prompts a pass has, and its pack's shape."""
Result = tuple[torch.Tensor, torch.Tensor]
"""Weighted losses [K] and gradient [K, V, H]."""


@dataclass
class _Recording:
    """A pass over a pack of one shape, and the tensors that it takes its numbers from."""

    prompts: torch.Tensor
    batch: Pack
    replay: Callable[[], Result]


class PackedPasses(MicroBatchPasses):
    """Micro-batches without padding; how many rows they take, and what happens without memory, is as there.

    On a GPU a shape that comes a second time is recorded, and replayed from then on. Where somebody looks at the time
    of the sections nothing is.
    """

    def __init__(self, loaded: LoadedModel, batch_size: int, label_smoothing: float = 0.0) -> None:
        super().__init__(loaded, batch_size, label_smoothing)
        self._llama = LlamaModel(loaded.model)
        self._record: Recorder[Result] | None = recorder(loaded.precision.device)
        self._seen: set[Key] = set()
        self._recordings: dict[Key, _Recording] = {}

    def _give_back(self) -> bool:
        self._record = None
        kept = bool(self._recordings)
        self._recordings.clear()
        return kept

    def _collated(self, rows: Sequence[Row], virtual_tokens: int) -> Pack:
        return pack(rows, virtual_tokens, filled=self._record is not None)

    def _losses(self, prompts: torch.Tensor, batch: Pack, label_smoothing: float) -> torch.Tensor:
        return self._losses_of(prompts, batch.to(self._precision.device), label_smoothing)

    def _losses_of(self, prompts: torch.Tensor, batch: Pack, label_smoothing: float) -> torch.Tensor:
        section = self.section if torch.is_grad_enabled() else untimed
        with section("forward"):
            x, bounds = self._llama.embed(batch.ids), batch.starts.int()
            rows = batch.shape.rows
            # Each row's own copy, so that the gradients of the rows are added up in float32.
            chosen = prompts.expand(rows, -1, -1) if len(prompts) == 1 else prompts.index_select(0, batch.prompts)
            x = x.index_copy(0, batch.virtual, chosen.to(x.dtype).flatten(0, 1))
            hidden = self._llama.hidden(
                x, batch.positions, lambda _, *parts: attend(batch, bounds, *parts), batch.places
            )
        with section("head"):
            scores = self._llama.scores(hidden)
            losses: torch.Tensor = CrossEntropy.apply(  # type: ignore[no-untyped-call]
                scores, batch.targets, label_smoothing
            )
            return summed(losses * batch.weights, batch.owners, len(prompts))

    def _add_gradient(self, prompts: Sequence[nn.Parameter], batch: Pack) -> torch.Tensor:
        losses, gradient = self._recorded(torch.stack([prompt.detach() for prompt in prompts]), batch)
        for prompt, of_prompt in zip(prompts, gradient, strict=True):
            prompt.grad = of_prompt.clone() if prompt.grad is None else prompt.grad + of_prompt
        return losses

    def _recorded(self, prompts: torch.Tensor, batch: Pack) -> Result:
        """Losses and gradient, good until the next call."""
        key = len(prompts), batch.shape
        if self._record is None or self.section is not untimed:
            return self._result(prompts, batch.to(self._precision.device))
        recording = self._recordings.get(key)
        if recording is None:
            if key not in self._seen or len(self._recordings) == MOST:
                self._seen.add(key)
                return self._result(prompts, batch.to(self._precision.device))
            recording = self._recordings[key] = self._recording(prompts, batch)
        recording.prompts.copy_(prompts)
        recording.batch.copy(batch)
        return recording.replay()

    def _recording(self, prompts: torch.Tensor, batch: Pack) -> _Recording:
        """A recording of such passes, or where there cannot be one the passes themselves."""
        assert self._record is not None
        prompts, batch = prompts.clone(), batch.to(self._precision.device)

        def step() -> Result:
            return self._result(prompts, batch)

        try:
            return _Recording(prompts, batch, self._record(step))
        except RuntimeError:  # a driver without graphs, or too little memory for one
            return _Recording(prompts, batch, step)

    def _result(self, prompts: torch.Tensor, batch: Pack) -> Result:
        leaf = prompts.detach().requires_grad_()
        losses = self._losses_of(leaf, batch, self._label_smoothing)
        with self.section("backward"):
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), gradient
