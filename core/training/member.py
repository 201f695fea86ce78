"""One soft prompt in training: its data, its optimizer, how far it is, and when it has had enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from core.contract.config import Config
from core.contract.errors import SofttuneError
from core.contract.events import CheckpointSaved, EpochCompleted, Event, Notice, ValidationCompleted
from core.contract.plan import TrainingPlan
from core.data.batches import Example, effective_batches, epoch_order
from core.model.loading import Precision
from core.model.soft_prompt import SoftPrompt
from core.training.checkpoints import CheckpointWriter
from core.training.loss import perplexity
from core.training.optimizer import build_optimizer
from core.training.schedule import learning_rate_factor
from core.training.standing import Standing

SKIPPED_STEPS_LIMIT = 10
"""Steps in a row without a finite gradient after which a run ends."""


class Member:
    """A soft prompt among those that a `Trainer` trains together; alone where there is one.

    Args:
        soft_prompt: the rows that learn; on the model's device.
        train, heldout: tokenized problems.
        number: its place among the members, which its events tell.
    """

    def __init__(
        self, soft_prompt: SoftPrompt, train: Sequence[Example], heldout: Sequence[Example], config: Config,
        plan: TrainingPlan, checkpoints: CheckpointWriter, precision: Precision, number: int = 0,
    ) -> None:
        self.soft_prompt, self.train, self.heldout = soft_prompt, train, heldout
        self.config, self.plan, self.checkpoints, self.number = config, plan, checkpoints, number
        self.standing = Standing()
        self.optimizer = build_optimizer(soft_prompt.trained, config.training, precision.device)
        self.scaler = torch.amp.GradScaler(precision.device.type, enabled=precision.scaled)
        self.scaler.scale(torch.zeros((), device=precision.device))  # it makes its state at the first call of this
        self.failure: SofttuneError | None = None
        """Why it was given up."""
        self.pruned = False
        """Whether somebody found that it is not worth more steps; it may be set between two of them."""
        self._epoch_began = time.perf_counter()

    @property
    def trainable_parameters(self) -> int:
        """How many numbers learn."""
        return sum(parameter.numel() for parameter in self.soft_prompt.trained)

    # What comes next

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train: all epochs are over, or patience is, or it was pruned or given up."""
        ended = self.standing.epoch > self.config.training.num_epochs
        return ended or self.is_out_of_patience or self.pruned or self.failure is not None

    @property
    def is_out_of_patience(self) -> bool:
        """Early stopping: too many validations in a row without a new best."""
        patience = self.config.evaluation.early_stopping_patience
        return patience is not None and self.standing.validations_without_best >= patience

    @property
    def epoch_is_over(self) -> bool:
        """Whether all steps of the present epoch are taken."""
        return self.standing.step_in_epoch >= self.plan.steps_per_epoch

    @property
    def validation_is_due(self) -> bool:
        """Every n epochs, and after the last one, so that there always is a best checkpoint."""
        epoch = self.standing.epoch
        return epoch % self.config.evaluation.eval_every_n_epochs == 0 or epoch == self.config.training.num_epochs

    def next_batch(self) -> Sequence[Example]:
        """The examples of the next optimizer step."""
        if self.standing.step_in_epoch == 0:
            self._epoch_began = time.perf_counter()
        order = epoch_order(self.train, self.standing.epoch, self.config.dataset.seed)
        return list(effective_batches(order, self.plan.effective_batch))[self.standing.step_in_epoch]

    # One step

    def update(self, loss: float) -> tuple[float, float]:
        """Clip and apply the gradient; returns (learning rate, norm of the whole gradient before clipping).

        A step whose loss or gradient is not finite changes neither the prompt nor the optimizer.
        """
        settings, plan = self.config.training, self.plan
        step = self.standing.step + 1
        rate = settings.learning_rate * learning_rate_factor(
            step, plan.total_steps, plan.warmup_steps, settings.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.soft_prompt.pull_back()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.soft_prompt.trained, settings.max_grad_norm).item()
        if math.isfinite(loss) and math.isfinite(norm):
            self.scaler.step(self.optimizer)
            self.soft_prompt.renew()
        self.scaler.update()  # lowers its scale where the gradient is not finite
        return rate, norm

    def watch(self, loss: float, grad_norm: float) -> Iterator[Event]:
        """Tell of a step that was skipped because its numbers are not finite; give up after many in a row."""
        standing = self.standing
        if math.isfinite(loss) and math.isfinite(grad_norm):
            standing.skipped_in_a_row = 0
            return
        standing.skipped += 1
        standing.skipped_in_a_row += 1
        what = f"step {standing.step + 1} was skipped: loss {loss:.4g}, gradient norm {grad_norm:.4g}"
        remedy = "lower training.learning_rate"
        if self.scaler.is_enabled():
            remedy = "the first few are normal in float16; else set model.torch_dtype to bfloat16, or " + remedy
        if standing.skipped_in_a_row < SKIPPED_STEPS_LIMIT:
            yield Notice(what=what, remedy=remedy, setting="training.learning_rate", member=self.number)
            return
        what = f"{SKIPPED_STEPS_LIMIT} steps in a row had no finite gradient; {what}"
        self.failure = SofttuneError(what, remedy)

    def count_step(self, loss: float, supervised: int) -> None:
        """Note a step whose mean loss over so many supervised tokens was `loss`."""
        standing = self.standing
        standing.step += 1
        standing.step_in_epoch += 1
        if math.isfinite(loss):
            standing.epoch_loss += loss * supervised
            standing.epoch_tokens += supervised

    @property
    def save_is_due(self) -> bool:
        """Whether last.pt is to be written in the middle of an epoch."""
        return not self.epoch_is_over and self.standing.step % self.config.training.save_every_n_steps == 0

    # The end of an epoch

    def tell_epoch(self) -> Iterator[Event]:
        """The epoch's training loss, if any of its steps had one."""
        standing = self.standing
        if standing.train_loss is not None:
            yield EpochCompleted(
                epoch=standing.epoch, num_epochs=self.config.training.num_epochs, train_loss=standing.train_loss,
                seconds=time.perf_counter() - self._epoch_began, member=self.number,
            )

    def validated(self, epoch: int, loss: float, seconds: float) -> ValidationCompleted:
        """Take in the held-out loss after an epoch; epoch 0 measures the untrained prompt and is never the best."""
        standing = self.standing
        previous = standing.best_loss
        is_best = epoch > 0 and math.isfinite(loss) and (previous is None or loss < previous)
        if epoch > 0:
            standing.heldout_loss, standing.validated_epoch = loss, epoch
            standing.validations_without_best = 0 if is_best else standing.validations_without_best + 1
        if is_best:
            standing.best_loss, standing.best_epoch = loss, epoch
        return ValidationCompleted(
            epoch=epoch, step=standing.step, loss=loss, perplexity=perplexity(loss), is_best=is_best,
            previous_best=previous, seconds=seconds, member=self.number,
        )

    def epoch_writes(self) -> Iterator[Callable[[], CheckpointSaved]]:
        """The writes at the end of an epoch, each whole or not at all; before the last one comes the next epoch."""
        standing, validated = self.standing, self.validation_is_due
        is_best = validated and standing.best_epoch == standing.epoch
        heldout_loss = standing.heldout_loss if validated else None
        if not self.config.evaluation.save_best_only:
            yield lambda: self._signed(self.checkpoints.save_epoch(self.soft_prompt, standing, heldout_loss))
        if is_best:
            yield lambda: self._signed(self.checkpoints.save_best(self.soft_prompt, standing, heldout_loss))
        standing.last_train_loss = standing.train_loss
        standing.epoch, standing.step_in_epoch = standing.epoch + 1, 0
        standing.epoch_loss, standing.epoch_tokens = 0.0, 0
        yield self.save_last

    def tell_early_end(self) -> Iterator[Event]:
        """Why training ended before its last epoch, if it did."""
        standing = self.standing
        if self.failure:
            yield Notice(what=self.failure.what, remedy=self.failure.remedy, setting="training.learning_rate",
                         member=self.number)
        elif standing.epoch <= self.config.training.num_epochs and not self.pruned:
            best = "any" if standing.best_loss is None else f"{standing.best_loss:.4f} of epoch {standing.best_epoch}"
            count = standing.validations_without_best
            yield Notice(
                level="info", setting="evaluation.early_stopping_patience", member=self.number,
                what=f"stopped early: {count} validations without a held-out loss below {best}",
                remedy="the best checkpoint is kept; raise evaluation.early_stopping_patience to go on longer",
            )

    # Going on later

    def save_last(self) -> CheckpointSaved:
        """Write last.pt, from which training can go on exactly here."""
        return self._signed(self.checkpoints.save_last(self.soft_prompt, self.standing, self.state()))

    def state(self) -> dict[str, Any]:
        """Optimizer, scaler, standing and the state of torch's random numbers, as plain data and tensors.

        With them what the rows are trained through, where they are.
        """
        beside = self.soft_prompt.beside_weight()
        return {
            **({"reparameterisation": beside} if beside else {}),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "standing": asdict(self.standing),
            "rng": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned; the order of the data comes from seed and epoch.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: it is not that.
        """
        self.soft_prompt.take_beside_weight(state.get("reparameterisation", {}))
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.standing = Standing(**state["standing"])
        self.standing.skipped_in_a_row = 0  # where it was given up, it gets another try
        if "rng" in state:
            torch.set_rng_state(state["rng"]["cpu"])
            if len(state["rng"]["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(state["rng"]["cuda"])

    def _signed(self, event: CheckpointSaved) -> CheckpointSaved:
        return event.model_copy(update={"member": self.number})
