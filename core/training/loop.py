"""The training loop: one soft prompt, a frozen model, events out.

`Trainer.fit` is the loop. Definitions are in its parts: the loss of a step is the mean over all supervised tokens of
the effective batch, however it was cut into micro-batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from core.contract.config import Config
from core.contract.control import ControlInbox, StopRequested, heed
from core.contract.errors import SofttuneError
from core.contract.events import (
    CheckpointSaved,
    EpochCompleted,
    Event,
    Notice,
    Progress,
    StepCompleted,
    ValidationCompleted,
)
from core.contract.plan import TrainingPlan
from core.data.batches import Example, MicroBatch, effective_batches, epoch_order, micro_batches, pad_token
from core.model.loading import LoadedModel
from core.model.memory import measure_memory
from core.model.soft_prompt import SoftPrompt
from core.training.checkpoints import CheckpointWriter
from core.training.loss import mean_loss, perplexity, summed_loss
from core.training.schedule import learning_rate_factor
from core.training.standing import Standing

SKIPPED_STEPS_LIMIT = 10
"""Steps in a row without a finite gradient after which a run ends."""


class Trainer:
    """Trains one soft prompt.

    Args:
        loaded: the frozen model.
        soft_prompt: the rows that learn; on the model's device.
        train, heldout: tokenized problems.
        control: where pause and stop arrive.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        soft_prompt: SoftPrompt,
        train: Sequence[Example],
        heldout: Sequence[Example],
        config: Config,
        plan: TrainingPlan,
        checkpoints: CheckpointWriter,
        control: ControlInbox,
    ) -> None:
        self.loaded, self.soft_prompt, self.config, self.plan = loaded, soft_prompt, config, plan
        self.train, self.heldout, self.checkpoints, self.control = train, heldout, checkpoints, control
        self.precision = loaded.precision
        self.pad = pad_token(loaded.tokenizer)
        self.standing = Standing()
        self.optimizer = torch.optim.AdamW(
            soft_prompt.parameters(), lr=config.training.learning_rate, weight_decay=config.training.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.precision.device.type, enabled=self.precision.scaled)

    def fit(self) -> Iterator[Event]:
        """Train from where `standing` is to the end; raises StopRequested after saving when asked to stop."""
        settings, standing = self.config.training, self.standing
        try:
            if standing.step == 0:
                yield from self.validate(epoch=0)
            while standing.epoch <= settings.num_epochs and not self.out_of_patience():
                yield from self.train_epoch()
                if self.validation_is_due():
                    yield from self.validate(epoch=standing.epoch)
                yield from self.finish_epoch()
            if standing.epoch <= settings.num_epochs:
                yield self.early_stopping_notice()
        except StopRequested:
            yield self.save_last()
            raise

    def train_epoch(self) -> Iterator[Event]:
        """The remaining optimizer steps of the present epoch."""
        standing, start = self.standing, time.perf_counter()
        order = epoch_order(self.train, standing.epoch, self.config.dataset.seed)
        steps = list(effective_batches(order, self.plan.effective_batch))
        yield Progress(stage="training", done=standing.step, total=self.plan.total_steps, unit="steps")
        for examples in steps[standing.step_in_epoch :]:
            yield from self.train_step(examples)
        if standing.train_loss is not None:
            yield EpochCompleted(
                epoch=standing.epoch, num_epochs=self.config.training.num_epochs, train_loss=standing.train_loss,
                seconds=time.perf_counter() - start,
            )

    def train_step(self, examples: Sequence[Example]) -> Iterator[Event]:
        """One optimizer step. A stop between its micro-batches leaves it undone; a resumed run does it again."""
        start = time.perf_counter()
        batches = micro_batches(examples, self.config.training.batch_size, self.pad)
        supervised = sum(batch.supervised for batch in batches)
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum = torch.zeros((), device=self.precision.device)
        for batch in batches:
            yield from heed(self.control)
            loss_sum += self.backward(batch, supervised)
        loss = loss_sum.item() / supervised
        rate, grad_norm = self.update()
        yield from self.watch_numbers(loss, grad_norm)
        standing = self.standing
        standing.step += 1
        standing.step_in_epoch += 1
        if math.isfinite(loss):
            standing.epoch_loss += loss * supervised
            standing.epoch_tokens += supervised
        tokens = sum(batch.tokens for batch in batches) + len(examples) * self.soft_prompt.num_virtual_tokens
        yield StepCompleted(
            step=standing.step, total_steps=self.plan.total_steps, epoch=standing.epoch, loss=loss,
            learning_rate=rate, grad_norm=grad_norm, tokens_per_second=tokens / (time.perf_counter() - start),
            memory=measure_memory(self.precision.device),
        )

    def backward(self, batch: MicroBatch, supervised: int) -> torch.Tensor:
        """Add the gradient of one micro-batch's share of the mean over `supervised` tokens; return its summed loss."""
        with self.precision.autocasting():
            loss = summed_loss(self.loaded.model, self.soft_prompt, batch.to(self.precision.device))
        self.scaler.scale(loss / supervised).backward()
        return loss.detach()

    def update(self) -> tuple[float, float]:
        """Clip and apply the gradient; returns (learning rate, gradient norm before clipping)."""
        settings = self.config.training
        step = self.standing.step + 1
        rate = settings.learning_rate * learning_rate_factor(step, self.plan.total_steps, self.plan.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.soft_prompt.parameters(), settings.max_grad_norm).item()
        if self.precision.scaled or math.isfinite(norm):  # the scaler skips by itself, and lowers its scale
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return rate, norm

    def watch_numbers(self, loss: float, grad_norm: float) -> Iterator[Event]:
        """Tell of a step that was skipped because its numbers were not finite; end the run after many in a row."""
        standing = self.standing
        if math.isfinite(loss) and math.isfinite(grad_norm):
            standing.skipped_in_a_row = 0
            return
        standing.skipped_in_a_row += 1
        what = f"step {standing.step + 1} was skipped: loss {loss:.4g}, gradient norm {grad_norm:.4g}"
        remedy = "lower training.learning_rate"
        if self.precision.scaled:
            remedy = "the first few are normal in float16; else set model.torch_dtype to bfloat16, or " + remedy
        if standing.skipped_in_a_row >= SKIPPED_STEPS_LIMIT:
            yield self.save_last()
            raise SofttuneError(f"{SKIPPED_STEPS_LIMIT} steps in a row had no finite gradient; {what}", remedy)
        yield Notice(what=what, remedy=remedy, setting="training.learning_rate")

    def validation_is_due(self) -> bool:
        """Every n epochs, and after the last one, so that there always is a best checkpoint."""
        epoch = self.standing.epoch
        return epoch % self.config.evaluation.eval_every_n_epochs == 0 or epoch == self.config.training.num_epochs

    def validate(self, epoch: int) -> Iterator[Event]:
        """Mean token loss on the held-out problems; epoch 0 measures the untrained prompt and is never the best."""
        start, standing = time.perf_counter(), self.standing
        batch_size = self.config.training.batch_size
        loss = yield from mean_loss(self.loaded, self.soft_prompt, self.heldout, batch_size, self.control)
        previous = standing.best_loss
        is_best = epoch > 0 and math.isfinite(loss) and (previous is None or loss < previous)
        if epoch > 0:
            standing.heldout_loss = loss
            standing.validations_without_best = 0 if is_best else standing.validations_without_best + 1
        if is_best:
            standing.best_loss, standing.best_epoch = loss, epoch
        yield ValidationCompleted(
            epoch=epoch, step=standing.step, loss=loss, perplexity=perplexity(loss), is_best=is_best,
            previous_best=previous, seconds=time.perf_counter() - start,
        )

    def finish_epoch(self) -> Iterator[Event]:
        """Write the epoch's checkpoints and step to the next epoch."""
        standing, validated = self.standing, self.validation_is_due()
        is_best = validated and standing.best_epoch == standing.epoch
        heldout_loss = standing.heldout_loss if validated else None
        events: list[CheckpointSaved] = []
        if not self.config.evaluation.save_best_only:
            events.append(self.checkpoints.save_epoch(self.soft_prompt, standing, heldout_loss))
        if is_best:
            events.append(self.checkpoints.save_best(self.soft_prompt, standing, heldout_loss))
        standing.last_train_loss = standing.train_loss
        standing.epoch, standing.step_in_epoch = standing.epoch + 1, 0
        standing.epoch_loss, standing.epoch_tokens = 0.0, 0
        yield from [*events, self.save_last()]

    def out_of_patience(self) -> bool:
        """Early stopping: too many validations in a row without a new best."""
        patience = self.config.evaluation.early_stopping_patience
        return patience is not None and self.standing.validations_without_best >= patience

    def early_stopping_notice(self) -> Notice:
        """Why training ended before its last epoch."""
        standing = self.standing
        best = "any" if standing.best_loss is None else f"{standing.best_loss:.4f} of epoch {standing.best_epoch}"
        return Notice(
            level="info", setting="evaluation.early_stopping_patience",
            what=f"stopped early: {standing.validations_without_best} validations without a held-out loss below {best}",
            remedy="the best checkpoint is kept; raise evaluation.early_stopping_patience to go on longer",
        )

    def save_last(self) -> CheckpointSaved:
        """Write last.pt, from which training can go on exactly here."""
        return self.checkpoints.save_last(self.soft_prompt, self.standing, self.state())

    def state(self) -> dict[str, Any]:
        """Optimizer, scaler and standing, as plain data."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "standing": asdict(self.standing),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned. Data order comes from seed and epoch, and nothing else is random."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.standing = Standing(**state["standing"])
