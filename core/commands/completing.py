"""`softtune infer`, `evaluate` and `matrix`: the commands that complete problems and score completions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from core.commands.common import config_of, delivered, drain, with_torch
from core.contract.config import Config
from core.contract.control import ControlInbox
from core.contract.errors import EXIT_STOPPED, ConfigError, UsageError
from core.contract.events import Event, Notice, RunFailed, RunStopped
from core.contract.exports import MANIFEST
from core.contract.runs import check_outputs
from core.contract.wording import describe
from core.outlet import outlets
from core.signals import stopping

MOST_REQUESTS = 1024


def run_infer(options: argparse.Namespace) -> int:
    """`softtune infer`: on this machine, or by what runs behind --endpoint."""
    config = config_of(options)
    check_outputs(config, options.output)
    control = ControlInbox()
    asked = _endpoint_of(options, config)
    from core.console import captured_libraries, reporter

    def here(jobs: ModuleType) -> Iterator[Event]:
        return jobs.infer(  # type: ignore[no-any-return]
            config, options.checkpoint, control, soft=not options.no_soft_prompt, split=options.split,
            output=options.output, overridden=[text.partition("=")[0].strip() for text in options.overrides],
        )

    def there(jobs: ModuleType) -> Iterator[Event]:
        endpoint, source = asked or (None, None)
        return jobs.infer(  # type: ignore[no-any-return]
            config, endpoint, source, control, split=options.split, output=options.output
        )

    with stopping(control) as signals, captured_libraries(None) as streams, outlets(*streams) as (out, err):
        with reporter(out, err, as_json=options.json) as show:
            name, job = ("core.endpoint", there) if asked else ("core.jobs", here)
            status = drain(with_torch(name, job, control), show, control, signals)
        if asked and status == EXIT_STOPPED:
            print("softtune: stopped\n  the same command goes on with the rest", file=err)
        return delivered(status, (out, err), signals)


def _endpoint_of(options: argparse.Namespace, config: Config) -> tuple[Any, Path | None] | None:
    """The endpoint that is to be asked, and the file or folder that tells of what it serves; None without --endpoint.

    Raises:
        UsageError: the options contradict each other, or too little is said.
    """
    if options.endpoint is None:
        for name in ("model", "concurrency"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} belongs to --endpoint", "name the server too: --endpoint URL")
        if options.checkpoint and (options.checkpoint / MANIFEST).is_file():
            raise UsageError(
                f"{options.checkpoint} is an exported folder, and no checkpoint",
                f"softtune import {options.checkpoint} makes one of it; --endpoint URL asks what serves it",
            )
        return None
    from core.endpoint import check_style, source_of
    from core.generation.endpoint import CONCURRENCY, Endpoint, base_url, check_client

    check_client()
    if options.no_soft_prompt:
        raise UsageError("--no-soft-prompt: what an endpoint completes with is made up there",
                         "leave it out, and ask a server of the base model")
    concurrency = CONCURRENCY if options.concurrency is None else options.concurrency
    if not 1 <= concurrency <= MOST_REQUESTS:
        raise UsageError(f"--concurrency: found {concurrency}", f"it is a number from 1 to {MOST_REQUESTS}")
    folder = options.checkpoint if options.checkpoint and options.checkpoint.is_dir() else None
    model = options.model or (folder and folder.resolve().name)
    if not model:
        raise UsageError("--endpoint needs the name of the model there", "--model NAME, or the exported folder's path")
    source = source_of(options.checkpoint, options.model)
    if source is None:
        check_style(config)
    return Endpoint(base_url(options.endpoint), model, concurrency), source


def run_evaluate(options: argparse.Namespace) -> int:
    """`softtune evaluate`: the table, or with --json one object."""
    config = _evaluate_config(options)
    source = options.input or Path(config.inference.output_path)
    _check_results_path(options.output, source)
    from core.console import reporter
    from core.evaluation.job import evaluate
    from core.evaluation.report import Report

    control, report = ControlInbox(), Report()
    events = evaluate(config, source, control, results=options.output, skip_bad_lines=options.skip_bad_lines)

    with stopping(control) as signals, outlets(sys.stdout, sys.stderr) as (out, err):

        def show_troubles(event: Event) -> None:
            if isinstance(event, RunFailed | Notice):
                print("\n".join(describe(event)), file=err)

        with nullcontext(show_troubles) if options.json else reporter(out, err, as_json=False) as show:

            def tell(event: Event) -> None:
                report.add(event)
                if not isinstance(event, RunStopped):  # its steps are training's
                    show(event)

            status = drain(events, tell, control, signals)
        if report.completed:
            print(json.dumps(report.as_json()) if options.json else "\n".join(report.lines()), file=out)
        if status == EXIT_STOPPED:
            print(f"softtune: stopped{report.progress and f' with {report.progress} executed'}\n"
                  "  the same command goes on with the rest", file=err)
        return delivered(status, (out, err), signals)


def _evaluate_config(options: argparse.Namespace) -> Config:
    """The settings of an evaluation; a fault in what --timeout or --workers set is told as theirs."""
    flags = {"evaluation.timeout_seconds": "timeout", "evaluation.workers": "workers"}
    given = {key: name for key, name in flags.items() if getattr(options, name) is not None}
    options.overrides += [f"{key}={getattr(options, name)}" for key, name in given.items()]
    try:
        return config_of(options)
    except ConfigError as error:
        raise ConfigError([
            replace(fault, source=f"--{given[fault.key]}") if fault.key in given else fault for fault in error.faults
        ]) from None


def _check_results_path(results: Path | None, completions: Path) -> None:
    """Raise UsageError when --output names what must not be written over."""
    if results is None:
        return
    if results.is_dir():
        raise UsageError(f"--output: {results} is a folder", "name a file")
    if results.resolve() == completions.resolve():
        raise UsageError(f"--output: {results} is the completions file", "name another file for the results")


def run_matrix(options: argparse.Namespace) -> int:
    """`softtune matrix`: the grid as a Markdown table, or with --json one object; all else goes to stderr."""
    config = config_of(options)
    check_outputs(config, options.output / "raw.jsonl")
    control = ControlInbox()
    from core.console import captured_libraries, reporter

    grids: list[Any] = []

    def job(module: ModuleType) -> Iterator[Event]:
        grids.append((yield from module.matrix(
            config, options.checkpoint, control, styles=options.styles, split=options.split, folder=options.output,
            overridden=[text.partition("=")[0].strip() for text in options.overrides],
        )))

    with stopping(control) as signals, captured_libraries(None) as streams, outlets(*streams) as (out, err):
        with reporter(err, err, as_json=False) as show:

            def tell(event: Event) -> None:
                if not isinstance(event, RunStopped):  # its steps are training's
                    show(event)

            status = drain(with_torch("core.matrix", job, control), tell, control, signals)
        if status == EXIT_STOPPED:
            print("softtune: stopped\n  the same command goes on with the rest", file=err)
        for grid in filter(None, grids):
            print(json.dumps(grid.as_json()) if options.json else "\n".join(grid.lines()), file=out)
        return delivered(status, (out, err), signals)
