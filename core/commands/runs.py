"""`softtune train`, `crossvalidate` and `sweep`: the commands that make a run, or go on with one."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

from core.commands.common import config_of, delivered, drain, with_torch
from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.errors import UsageError
from core.contract.events import Event, Notice, RunStarted, RunStopped
from core.contract.files import write_whole
from core.contract.liveness import at_work, identity, judge
from core.contract.plan import check_folds
from core.contract.record import ACTIVE, Kind, RunRecord
from core.contract.runs import RunFolder, check_outputs, create_run, find_run, summarize
from core.contract.sweep_plan import read_sweep
from core.contract.tracking import check_tracker
from core.outlet import outlets
from core.signals import stopping

MODULES: dict[Kind, str] = {"training": "core.jobs", "crossvalidation": "core.crossvalidation", "sweep": "core.sweep"}
"""Where the job of a kind of run is."""


def run_train(options: argparse.Namespace) -> int:
    """`softtune train`."""
    return _work(_run_folder(options, "demo" if options.demo else "train"), options)


def run_crossvalidate(options: argparse.Namespace) -> int:
    """`softtune crossvalidate`."""
    return _work(_run_folder(options, "crossvalidation", folds=options.folds), options)


def run_sweep(options: argparse.Namespace) -> int:
    """`softtune sweep`."""
    if options.resume is not None:
        if options.sweep is not None:
            raise UsageError("--resume takes the sweep's own file", "leave SWEEP out")
        return _work(_run_folder(options, ""), options)
    if options.sweep is None:
        raise UsageError("sweep: which settings?", "name a YAML file: softtune sweep sweep.yml")
    config = config_of(options)
    plan = read_sweep(options.sweep, config)
    if plan.folds:
        check_folds(config, plan.folds)
    folder = _run_folder(options, "sweep")
    write_whole(folder.sweep_file, plan.model_dump_json(indent=1) + "\n")
    return _work(folder, options)


def _work(folder: RunFolder, options: argparse.Namespace) -> int:
    """Do the job of a run in the foreground: its kind says which."""
    from core.console import captured_libraries, reporter
    from core.recorder import record
    from core.trackers.tracking import tracked

    with at_work(folder.lock_file) as heartbeat:
        control = ControlInbox(folder.control_file)

        def left_behind() -> None:
            if folder.read_record().state in ACTIVE:
                list(record(iter([_stopped(folder)]), folder, control))

        with stopping(control, left_behind, detached=options.queued is not None or options.detached) as signals:
            config, notices = _taken_up(folder, heartbeat, options)
            known = folder.read_record()

            def job(module: ModuleType) -> Iterator[Event]:
                if known.kind == "crossvalidation":
                    return module.crossvalidate(config, folder, known.folds, control)  # type: ignore[no-any-return]
                if known.kind == "sweep":
                    plan = read_sweep(folder.sweep_file, config)
                    ray = getattr(options, "ray", None)
                    return module.sweep(config, plan, folder, control, ray=ray)  # type: ignore[no-any-return]
                resume = options.resume is not None
                return module.train(config, folder, control, resume=resume, profile=options.profile)  # type: ignore[no-any-return]

            events = _told_early(with_torch(MODULES[known.kind], job, control, partial(_stopped, folder)), notices)
            events = record(tracked(events, config, folder), folder, control)
            with captured_libraries(folder.engine_log) as streams, outlets(*streams) as (out, err):
                with reporter(out, err, as_json=options.json) as show:
                    status = drain(events, show, control, signals)
                return delivered(status, (out, err), signals)


def _run_folder(options: argparse.Namespace, name: str, **fields: Any) -> RunFolder:
    """A new run's folder, that of one which the app has queued, or of one to go on with.

    Args:
        name: of a new run, where none is given; `fields` are further ones of its record.
    """
    if options.queued is None and options.resume is None:
        config = config_of(options)
        check_outputs(config)
        check_tracker(config)
        if options.kind == "crossvalidation":
            check_folds(config, options.folds)
        return create_run(config, options.name or name, kind=options.kind, **fields)
    if options.overrides or options.config or options.demo or options.name:
        raise UsageError("--resume takes the run's own configuration", "leave CONFIG, --set, --demo and --name out")
    return find_run(options.resume if options.queued is None else options.queued)


def _taken_up(
    folder: RunFolder, heartbeat: float | None, options: argparse.Namespace
) -> tuple[Config, Iterable[Notice]]:
    """The configuration of a run that this process holds the lock of, and that from now on is known to be its.

    And what to tell of that: a damaged record is put right where a run is to go on.

    Args:
        heartbeat: the last sign of life of an engine before this one.
    """
    run = summarize(folder, heartbeat)
    found = folder.recovered_record() if options.resume is not None else None
    if run.state == "damaged" and not found:
        raise UsageError(f"{folder.run_id} is damaged: {run.reason}", "start a new run")
    record, how = found or (folder.read_record(), "")
    state = judge(record, heartbeat).state
    if options.resume is not None and state in ACTIVE:
        raise UsageError(f"{folder.run_id} is {state}", "it needs no resuming; `softtune` attaches to it")
    if options.queued is not None and state != "queued":
        raise UsageError(f"{folder.run_id} is {state}, not queued", "softtune train --resume goes on with a run")
    config = folder.read_config()
    folder.check_config_unchanged(record)
    if options.resume is not None:
        check_unfinished(folder, config, record)
        check_outputs(config)
        check_tracker(config)
    if found:
        folder.restore_record(record)
    folder.write_record(record.model_copy(update={**identity(), "state": "queued", "ended": None, "error": ""}))
    return config, [Notice(what=f"{folder.record_file} was damaged or missing", remedy=how)] if found else []


def check_unfinished(folder: RunFolder, config: Config, record: RunRecord) -> None:
    """Raise UsageError where a run has come to its end, with the scores that it wants and that it can have here."""
    from core.evaluation.permission import refusal_to_run

    if record.kind == "import":
        raise UsageError(f"{folder.run_id} was imported, and has no training to go on with",
                         "softtune runs lists the others: name one")
    if record.state != "finished":
        return
    if config.evaluation.score_after_training and not record.pass_at_1 and not refusal_to_run(config.evaluation):
        return
    best = folder.checkpoints / "best.pt"
    use = f"its best checkpoint is {best}: softtune infer {best} completes problems with it; " if best.exists() else ""
    raise UsageError(f"{folder.run_id} is finished", f"{use}softtune train starts a new run")


def _told_early(events: Iterator[Event], notices: Iterable[Notice]) -> Iterator[Event]:
    """A job's events, with these notices after its beginning."""
    for event in events:
        yield event
        if isinstance(event, RunStarted):
            yield from notices


def _stopped(folder: RunFolder) -> RunStopped:
    """What to tell of a run that was stopped, going by its folder."""
    last = folder.checkpoints / "last.pt"
    return RunStopped(step=folder.read_record().step, checkpoint=str(last) if last.exists() else None)
