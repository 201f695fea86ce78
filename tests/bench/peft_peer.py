"""The peer of the training benches: peft's prompt tuning, an ordinary loop around it.

It gets a model as ours does, without a cache of keys and values, which would only cost it, and transformers' own
`num_items_in_batch`, which makes the accumulated loss the mean over the effective batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PromptTuningConfig, TaskType, get_peft_model

from core.contract.config import Config
from core.contract.plan import plan_training
from core.data.batches import Example, supervised_tokens
from core.model.loading import LoadedModel
from core.model.soft_prompt import SoftPrompt
from core.training.schedule import learning_rate_factor
from tests.bench.steps import Step, waited_for

IGNORED = -100
"""A label that counts in no loss."""


class PeftPeer:
    """Steps of peft's prompt tuning on a model that others may use as well: it adds nothing to its modules.

    Args:
        problems: number of them in an epoch; with the settings it makes the schedule of the learning rate, as ours.
        rows: [V, H] to start from.
        pad_to: tokens that each row is padded to; None pads each micro-batch to its longest row.
    """

    def __init__(
        self, loaded: LoadedModel, config: Config, problems: int, rows: torch.Tensor, pad_to: int | None = None
    ) -> None:
        self._settings = settings = config.training
        self._pad_to, self._device = pad_to, loaded.precision.device
        tuning = PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM, num_virtual_tokens=len(rows), prompt_tuning_init="RANDOM",
            token_dim=rows.shape[1],
        )
        self._model: Any = get_peft_model(loaded.model, tuning)  # type: ignore[arg-type]
        (self._weight,) = [weight for weight in self._model.parameters() if weight.requires_grad]
        self._weight.data = SoftPrompt(rows).weight.data.to(self._device)
        self._optimizer = torch.optim.AdamW(
            [self._weight], lr=settings.learning_rate, weight_decay=settings.weight_decay,
            fused=self._device.type == "cuda",
        )
        plan = plan_training(config, problems, 0)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda done: learning_rate_factor(done + 1, plan.total_steps, plan.warmup_steps)
        )

    @property
    def prompt(self) -> torch.Tensor:
        """See `tests.bench.steps.Side`."""
        return self._weight.detach()

    def step(self, examples: Sequence[Example]) -> Step:
        """See `tests.bench.steps.Side`: micro-batches are cut in the order of the examples."""
        size = self._settings.batch_size
        with waited_for(self._device) as seconds:
            self._optimizer.zero_grad()
            supervised = supervised_tokens(examples)
            total = torch.zeros((), device=self._device)
            for start in range(0, len(examples), size):
                inputs = self._collate(examples[start : start + size])
                loss = self._model(**inputs, num_items_in_batch=supervised, use_cache=False).loss
                loss.backward()
                total += loss.detach()
            norm = torch.nn.utils.clip_grad_norm_([self._weight], self._settings.max_grad_norm).item()
            self._optimizer.step()
            self._schedule.step()
            mean = total.item()
        assert self._weight.grad is not None
        return Step(seconds(), mean, norm, self._weight.grad.clone())

    def _collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Token ids, attention mask and labels [B, T], padded on the right."""
        width = self._pad_to or max(example.tokens for example in examples)
        ids = torch.zeros(len(examples), width, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for row, example in enumerate(examples):
            ids[row, : example.tokens] = torch.tensor([*example.context, *example.target])
            mask[row, : example.tokens] = 1
            labels[row, len(example.context) : example.tokens] = torch.tensor(example.target)
        inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {name: tensor.to(self._device, non_blocking=True) for name, tensor in inputs.items()}
