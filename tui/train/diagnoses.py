"""What the curves and notices of a run say in words, with the setting to change. Pure functions of the view.

Each looks at means over many steps, or at validations alone, so that the noise of single steps neither raises nor
hides it; `settled` keeps one on the screen that comes and goes at its threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from core.contract.config import Config
from core.contract.errors import WeakSandboxError
from tui.formatting import counted, figure
from tui.log_lines import GOES_ON_BY_ITSELF
from tui.run_view import RunView
from tui.train.curves import Curve, smoothing_window
from tui.train.hardware import Reading

Kind = Literal["waiting", "divergence", "memory", "overfitting", "no decrease", "scoring", "warm-up", "early stopping"]

RISE = 0.005
"""Share of the best held-out loss by which a later one has to exceed it before that counts as rising. The held-out
problems are always the same, so that smaller differences come from the prompt's wandering about its best place."""

FALL = 0.02
"""Share by which the loss has to have fallen to count as falling."""

FIRST_STEPS = 30
"""Steps after the warm-up, or a third of the run where that is less, by which a fall should show."""

CLIMB = 0.2
"""Share of its minimum by which the smoothed loss has to exceed it to count as diverging,"""

NOISE = 5.0
"""and by how many standard deviations of the smoothed curve."""

REPEATED = 3
"""Losses that were no numbers before that counts as diverging: a single one is skipped, and is a line in the log."""

FULL = 0.92
"""Share of the memory at which it is nearly full."""

HELD_SECONDS = 20.0
"""How long a diagnosis stays after it has ceased to hold,"""

TOLD: frozenset[Kind] = frozenset({"waiting"})
"""but for those that an event begins and another one ends."""


@dataclass(frozen=True)
class Diagnosis:
    """What is the matter, what to do, and the setting that does it, where one does."""

    kind: Kind
    what: str
    remedy: str
    setting: str


def diagnoses(
    view: RunView, config: Config | None = None, reading: Reading | None = None, active: bool = True
) -> tuple[Diagnosis, ...]:
    """All that is the matter with a run, the most pressing first.

    Args:
        view: the run.
        config: its settings, where they are known: early stopping has its patience there.
        reading: the machine's state, where it is known.
        active: whether an engine is at work; memory, scoring and early stopping are no matter afterwards.
    """
    found = (
        _waiting(view) if active else None,
        _divergence(view), _memory(view, reading) if active else None, _overfitting(view), _no_decrease(view),
        _unscored(view, config) if active else None, _warmup(view), _early_stopping(view, config) if active else None,
    )
    kinds = {one.kind for one in found if one}
    dropped = {"no decrease", "overfitting"} if "divergence" in kinds else set()  # its consequences
    return tuple(one for one in found if one and one.kind not in dropped)


def _waiting(view: RunView) -> Diagnosis | None:
    return Diagnosis("waiting", view.waits_for, GOES_ON_BY_ITSELF, "") if view.waits_for else None


def _divergence(view: RunView) -> Diagnosis | None:
    lower = "lower training.learning_rate, or raise training.warmup_steps"
    if view.train_loss.dropped + view.heldout_loss.dropped >= REPEATED:
        return Diagnosis("divergence", "the loss keeps being no number", lower, "training.learning_rate")
    smooth = view.smooth_loss.ys
    span = max(4, len(smooth) // 10)
    if len(smooth) < 3 * span:
        return None
    lowest = min(smooth)
    at = smooth.index(lowest)
    noise = _noise(view.train_loss.ys[max(0, at - 200):at + 1]) * _damping(smoothing_window(view.total_steps))
    if smooth[-1] < lowest + max(CLIMB * abs(lowest), NOISE * noise) or smooth[-1] < smooth[-1 - span]:
        return None
    where = f"{view.smooth_loss.xs[at]:,.0f}"
    return Diagnosis("divergence", f"the loss climbs; it was {figure(lowest)} at step {where}", lower,
                     "training.learning_rate")


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation of single steps, from their differences, which a slow trend does not change."""
    if len(losses) < 3:
        return 0.0
    squares = sum((b - a) ** 2 for a, b in zip(losses, losses[1:], strict=False))
    return math.sqrt(squares / (2 * (len(losses) - 1)))


def _damping(window: int) -> float:
    """How much of a step's deviation an exponential mean over `window` steps keeps."""
    share = 2 / (window + 1)
    return math.sqrt(share / (2 - share))


def _memory(view: RunView, reading: Reading | None) -> Diagnosis | None:
    if view.step is None:
        return None
    memory = view.step.memory
    on_gpu = memory.device == "cuda"
    taken = max(memory.allocated, memory.reserved) / memory.total if memory.total > 0 else 0.0
    everybody = (reading.gpu_memory if on_gpu else reading.machine_memory) if reading is not None else None
    if max(taken, everybody or 0.0) < FULL:
        return None
    name = "GPU" if on_gpu else "machine's"
    others = ", much of it with other programs" if on_gpu and taken < FULL else ""
    then = "; then model.torch_dtype float16" if on_gpu else ""
    return Diagnosis(
        "memory", f"the {name} memory is nearly full{others}",
        f"halve training.batch_size and double training.gradient_accumulation_steps{then}",
        "training.batch_size",
    )


def _overfitting(view: RunView) -> Diagnosis | None:
    heldout = view.heldout_loss
    if len(heldout) < 3:
        return None
    best = min(heldout.ys)
    at = heldout.ys.index(best)
    after = heldout.ys[at + 1:]
    if len(after) < 2 or after[-1] < best * (1 + RISE) or after[-1] < after[-2]:
        return None
    step, now = heldout.xs[at], heldout.xs[-1]
    span = (now - step) / 2
    before, since = view.train_loss.mean(step - span, step), view.train_loss.mean(now - span, now)
    if step <= 0 or before is None or since is None or since >= before:
        return None
    epoch = f" (epoch {view.best.epoch})" if view.best and view.best.step == step else ""
    return Diagnosis(
        "overfitting", f"held-out loss {figure(best)}{epoch} → {figure(after[-1])}, training loss falls",
        "lower training.num_epochs or soft_prompts.num_virtual_tokens", "training.num_epochs",
    )


def _no_decrease(view: RunView) -> Diagnosis | None:
    losses, total = view.train_loss.ys, view.total_steps
    warmup = view.plan.warmup_steps if view.plan else 0
    enough = warmup + max(8, min(FIRST_STEPS, math.ceil(total / 3)))
    if len(losses) < enough or _fell(view.heldout_loss):
        return None
    span = max(4, len(losses) // 5)
    first, last = sum(losses[:span]) / span, sum(losses[-span:]) / span
    chance = 2 * _noise(losses[-200:]) * math.sqrt(2 / span)  # two standard deviations of such a difference
    if last < first - max(FALL * abs(first), chance):
        return None
    return Diagnosis(
        "no decrease", f"the training loss has not fallen in {counted(_rounded(len(losses)), 'steps')}",
        "raise training.learning_rate (0.05 is fast), or training.warmup_steps; check soft_prompts.init_from_vocab",
        "training.learning_rate",
    )


def _fell(curve: Curve) -> bool:
    return len(curve) > 1 and min(curve.ys) < curve.ys[0] - FALL / 2 * abs(curve.ys[0])


def _rounded(steps: int) -> int:
    """A number of steps that does not change with each one."""
    unit = 10 ** max(1, len(str(steps)) - 2)
    return steps // unit * unit if steps >= 10 else steps


def _unscored(view: RunView, config: Config | None) -> Diagnosis | None:
    """The engine says it once, at the start; what is lost by it shows only at the end."""
    setting = WeakSandboxError.setting
    if all(notice.setting != setting for notice in view.notices):
        return None
    if config is not None and config.evaluation.allow_weak_sandbox:  # the notice is that it is used
        return None
    return Diagnosis("scoring", "it will have no scores: only the weak sandbox is granted here",
                     f"score it later, or stop it and set {setting} to true", setting)


def _warmup(view: RunView) -> Diagnosis | None:
    said = next((notice for notice in view.notices if notice.setting == "training.warmup_steps"), None)
    plan = view.plan
    if said is None and not (plan and plan.warmup_steps >= plan.total_steps > 1):
        return None
    used = f"; {plan.warmup_steps} are used" if said and plan else ""
    remedy = (said.remedy if said else "") or "lower training.warmup_steps, or raise training.num_epochs"
    return Diagnosis("warm-up", f"the warm-up is longer than the run{used}", remedy, "training.warmup_steps")


def _early_stopping(view: RunView, config: Config | None) -> Diagnosis | None:
    patience = config.evaluation.early_stopping_patience if config else None
    if not patience or view.best is None or view.phase not in ("training", "validating"):
        return None
    without = sum(step > view.best.step for step in view.heldout_loss.xs)
    if patience - without != 1 or not without:
        return None
    return Diagnosis(
        "early stopping", f"the next validation ends training, unless it beats {figure(view.best.loss)}",
        "raise evaluation.early_stopping_patience to go on longer", "evaluation.early_stopping_patience",
    )


@dataclass(frozen=True)
class Shown:
    """A diagnosis on the screen, and when it last held (monotonic seconds)."""

    diagnosis: Diagnosis
    held: float


_ORDER: dict[str, int] = {kind: number for number, kind in enumerate(get_args(Kind))}


def settled(shown: Sequence[Shown], found: Sequence[Diagnosis], now: float) -> tuple[Shown, ...]:
    """What to show by now: all that holds, and for a while what held before."""
    kinds = {diagnosis.kind for diagnosis in found}
    lingering = [one for one in shown
                 if one.diagnosis.kind not in kinds | TOLD and now - one.held < HELD_SECONDS]
    fresh = [Shown(diagnosis, now) for diagnosis in found]
    return tuple(sorted((*fresh, *lingering), key=lambda one: _ORDER[one.diagnosis.kind]))
