"""Sweeps: Optuna chooses settings, populations of soft prompts try them, and what is known survives the process.

Trials that are chosen together train together (`core.population`), each as a member of the run. Optuna's own journal in
the run's folder has every point that was chosen and everything that was found: a sweep that was cut short goes on with
the trials it had begun, each from its last.pt.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from core.contract.config import Config
from core.contract.control import ControlInbox, StopRequested, heed
from core.contract.errors import SandboxError, SofttuneError
from core.contract.events import (
    Event,
    RunFinished,
    RunStarted,
    RunStopped,
    SweepCompleted,
    SweepPlanned,
    TrialCompleted,
)
from core.contract.files import LineFile
from core.contract.runs import RunFolder
from core.contract.sweep_plan import Range, SweepPlan, place
from core.evaluation.permission import refusal_to_run
from core.failure import failure_of_run
from core.jobs import load
from core.model.loading import LoadedModel
from core.population import MemberLogs, population_limit
from core.ray_trials import RayCluster, try_remotely
from core.storage import until_written
from core.trials import Trial, open_trial, try_trials

JOURNAL = "optuna.jsonl"
ROUNDS = 5
"""A sweep chooses its trials in at least this many rounds: what is chosen together knows nothing of each other."""
UNTRIED = 4
"""Trials that end before any is compared with the others' median."""


class _HeldAlready:
    """No lock: the engine holds that of the run. Optuna's own outlive a process that is killed."""

    def acquire(self) -> bool:
        """It is."""
        return True

    def release(self) -> None:
        """The run's is kept."""


class Search:
    """Optuna's study of a sweep, in a journal in the run's folder."""

    def __init__(self, plan: SweepPlan, folder: RunFolder) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        samplers = {"tpe": partial(optuna.samplers.TPESampler, constant_liar=True)}
        sampler = samplers.get(plan.sampler, optuna.samplers.RandomSampler)(seed=plan.seed)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=UNTRIED) if plan.pruning else optuna.pruners.NopPruner()
        self.plan = plan
        self._space = {name: _distribution(values) for name, values in plan.space().items()}
        journal = folder.root / JOURNAL
        LineFile(journal).close()  # cuts off a line that a kill has torn
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal), _HeldAlready())), study_name="sweep",
            load_if_exists=True, sampler=sampler, pruner=pruner,
            direction="maximize" if plan.maximize else "minimize",
        )
        self.trials = plan.trials
        if plan.sampler == "grid":
            points = plan.grid()
            self.trials = len(points)
            for point in points[len(self._study.trials):]:
                self._study.enqueue_trial(point)

    def next(self, most: int) -> list[tuple[int, dict[str, Any]]]:
        """Numbers and points to try next: those that an engine before this one has left, then new ones."""
        left = [(trial.number, trial.params) for trial in self._study.get_trials(states=[TrialState.RUNNING])]
        known = len(self._study.get_trials(states=[s for s in TrialState if s != TrialState.WAITING]))
        for _ in range(min(most - len(left), self.trials - known)):
            trial = self._study.ask(self._space)
            left.append((trial.number, trial.params))
        return left[:max(most, 1)]

    def report(self, trial: Trial, epoch: int, loss: float) -> bool:
        """Note the held-out loss after an epoch; whether the trial is to end there."""
        known = self._frozen(trial)
        asked = optuna.Trial(self._study, known._trial_id)
        if epoch not in known.intermediate_values:
            asked.report(-loss if self.plan.maximize else loss, epoch)
        return bool(self.plan.pruning and asked.should_prune())

    def tell(self, completed: TrialCompleted) -> None:
        """Note what a trial came to."""
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        known = self._study.get_trials(deepcopy=False)[completed.number]
        optuna.Trial(self._study, known._trial_id).set_user_attr("completed", completed.model_dump_json(by_alias=True))
        self._study.tell(completed.number, completed.value if completed.state == "complete" else None,
                         state=states[completed.state])

    def known(self) -> list[TrialCompleted]:
        """What the trials that have ended came to."""
        return [TrialCompleted.model_validate_json(trial.user_attrs["completed"])
                for trial in self._study.get_trials() if trial.state.is_finished()]

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[trial.number]


def sweep(
    config: Config, plan: SweepPlan, folder: RunFolder, control: ControlInbox, *, ray: str | None = None
) -> Iterator[Event]:
    """Try points of a sweep until it has as many as planned; one that was cut short goes on.

    Args:
        ray: the address of a Ray cluster to try them on; None for this process.
    """
    start = time.perf_counter()
    try:
        yield RunStarted(run_id=folder.run_id, model=config.model.name, pid=os.getpid())
        if plan.maximize and (refusal := refusal_to_run(config.evaluation)):
            raise SandboxError(f"objective heldout_pass_at_1 needs programs executed: {refusal.what}", refusal.remedy)
        search = yield from until_written(partial(Search, plan, folder), control)
        yield SweepPlanned(objective=plan.objective, trials=search.trials, folds=plan.folds,
                           parameters=list(plan.space()))
        yield from search.known()
        with MemberLogs(control) as logs:
            if ray is None:
                yield from _try_here(search, config, folder, logs, control)
            else:
                cluster = RayCluster(ray, config)
                yield from try_remotely(search.next, search, config, folder, logs, cluster, control)
        ranked = rank(search.known(), plan.maximize)
        yield SweepCompleted(objective=plan.objective, trials=ranked)
        if not ranked or ranked[0].state != "complete":
            raise SofttuneError("no trial came to an end", "see why in the table above; narrow the ranges")
        best = ranked[0]
        checkpoint = Path(best.config).parent / "checkpoints" / "best.pt"
        yield RunFinished(best_heldout_loss=best.heldout_loss, best_epoch=best.epoch,
                          best_checkpoint=None if plan.folds else str(checkpoint), seconds=time.perf_counter() - start)
    except StopRequested:
        yield RunStopped(step=0)
    except Exception as error:  # the run must say what it died of, whatever that is
        yield failure_of_run(error, folder, "sweep")


def _try_here(
    search: Search, config: Config, folder: RunFolder, logs: MemberLogs, control: ControlInbox
) -> Iterator[Event]:
    """Try trials in this process, in rounds of as many as train together."""
    plan = search.plan
    loaded = yield from load(config, control)
    present = _model_key(config)
    while True:
        yield from heed(control)
        together = config.hardware.max_population or _together(config, loaded, search.trials, plan.folds or 1)
        trials = [open_trial(config, plan, folder, *point) for point in search.next(together)]
        if not trials:
            return
        for key, alike in _by_model(trials).items():
            if key != present:
                loaded, present = (yield from load(alike[0].config, control)), key
            yield from try_trials(alike, search, loaded, logs, control)


def rank(trials: Sequence[TrialCompleted], maximize: bool) -> list[TrialCompleted]:
    """The best first; then those that were pruned, and those that failed."""
    return sorted(trials, key=lambda one: place(one.state, one.value, one.heldout_loss, one.number, maximize))


def _together(config: Config, loaded: LoadedModel, trials: int, folds: int) -> int:
    """How many trials are chosen at once: as many as fit, and not so many that little is learned between them."""
    return max(1, min(population_limit(config, loaded) // folds, math.ceil(trials / ROUNDS)))


def _by_model(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Trials by the model that they need, as they need it loaded."""
    alike: dict[str, list[Trial]] = {}
    for trial in trials:
        alike.setdefault(_model_key(trial.config), []).append(trial)
    return alike


def _model_key(config: Config) -> str:
    return config.model.model_dump_json() + config.hardware.model_dump_json()


def _distribution(values: Range | list[Any]) -> BaseDistribution:
    if isinstance(values, list):
        return CategoricalDistribution(values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
