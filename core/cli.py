"""The headless commands. Parsing and checking come first and import no torch: a wrong command fails at once."""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from core.contract.config import DEFAULT_CONFIG_FILE, Config
from core.contract.config_file import load_config
from core.contract.control import Command, ControlInbox, StopRequested
from core.contract.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, ConfigError, SofttuneError, UsageError
from core.contract.events import Event, Notice, RunFailed, RunStarted, RunStopped
from core.contract.files import write_whole
from core.contract.liveness import at_work, identity, judge
from core.contract.plan import check_folds
from core.contract.record import ACTIVE, Kind, RunRecord
from core.contract.runs import RunFolder, check_outputs, create_run, find_run, list_runs, summarize
from core.contract.sweep_plan import read_sweep
from core.contract.wording import describe, score_table
from core.outlet import Outlet, last_words, outlets
from core.signals import StopSignals, stopping

STOPPED_SECONDS = 2.0
"""A stalled reader of the output does not keep a process that was told to stop for longer."""

COMMANDS = (
    "train", "crossvalidate", "sweep", "infer", "evaluate", "matrix", "compare", "runs", "export", "import", "doctor",
)

MODULES: dict[Kind, str] = {"training": "core.jobs", "crossvalidation": "core.crossvalidation", "sweep": "core.sweep"}
"""Where the job of a kind of run is."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 failed, 2 wrong command or configuration, 130 stopped)."""
    argv = sys.argv[1:] if arguments is None else arguments
    # OpenMP's threads spin while they wait for each other. Where something else wants the same cores, that something is
    # what they wait for: two matrix loops on two cores took 22 s spinning and 9 s sleeping, one alone 4.7 s either way.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # the older name of the same
        # Micro-batches differ in length. Segments that grow fit all of them; others stay behind, one for each length.
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    _mend_streams()
    try:
        options = build_parser().parse_args(_with_command(argv))
        return int(options.run(options))
    except SofttuneError as error:
        last_words(f"softtune: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        last_words("softtune: ended at once")
        return EXIT_STOPPED
    except BrokenPipeError:  # the reader of our output went away (| head)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or the interpreter complains when it flushes at exit
        return EXIT_FAILED
    except OSError as error:
        last_words(f"softtune: {error.filename or 'output'}: {error.strerror}\n  check permissions and free space")
        return EXIT_FAILED


def _mend_streams() -> None:
    """Standard streams that can be written to: closed ones lead nowhere, and no terminal is too old for our signs."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 - lives as long as the program
        getattr(sys, name).reconfigure(errors="replace")


def _with_command(argv: list[str]) -> list[str]:
    """The arguments with a command in front: `train` where only CONFIG or options are given."""
    first = argv[0] if argv else ""
    if first in COMMANDS or first in ("-h", "--help", "--version"):
        return argv
    is_config = first.startswith("-") or first.endswith((".yml", ".yaml")) or "/" in first or Path(first).exists()
    if first and not is_config:
        near = difflib.get_close_matches(first, COMMANDS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        raise UsageError(f"there is no command and no file {first!r}", remedy)
    return ["train", *argv]


def build_parser() -> argparse.ArgumentParser:
    """The command line, as design section 3.1 promises it."""
    parser = argparse.ArgumentParser(
        prog="softtune", description="Teach a frozen code model a soft prompt and know whether it helped.",
        epilog="`softtune [CONFIG] [--demo]` opens the terminal app; without a terminal on stdout it trains headless.",
    )
    parser.add_argument("--version", action="version", version=f"softtune {importlib.metadata.version('softtune')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = _command(commands, "train", run_train, "train a soft prompt, then complete and score the problems")
    _run_options(train, "training", "train, or demo")
    train.add_argument("--profile", action="store_true",
                       help="tell where the time went, and trace the first steps into runs/RUN/profile")

    folds = _command(commands, "crossvalidate", run_crossvalidate,
                     "hold every problem out once, and score it with the soft prompt that has not seen it")
    folds.add_argument("--folds", type=_whole_number, default=5, metavar="N", help="parts of the problems (default: 5)")
    _run_options(folds, "crossvalidation", "crossvalidation")

    sweeping = _command(commands, "sweep", run_sweep, "try settings and rank them: Optuna chooses what to try")
    sweeping.add_argument("sweep", nargs="?", type=Path, metavar="SWEEP", help="a YAML file: what to vary, and how far")
    sweeping.add_argument("--ray", metavar="ADDRESS", help="try them on a Ray cluster, one a GPU; auto: this machine's")
    _run_options(sweeping, "sweep", "sweep")

    infer = _command(commands, "infer", run_infer, "complete the problems with a checkpoint")
    infer.add_argument("checkpoint", nargs="?", type=Path, metavar="CHECKPOINT",
                       help="default: inference.checkpoint_path")
    infer.add_argument("--no-soft-prompt", action="store_true", help="the baseline: the model alone")
    infer.add_argument("--split", choices=("all", "train", "heldout"), default="all", help="which problems")
    infer.add_argument("--output", type=Path, metavar="FILE", help="default: inference.output_path")
    _config_options(infer, positional=False)

    evaluate = _command(commands, "evaluate", run_evaluate, "run completions against their tests")
    evaluate.add_argument("--input", type=Path, metavar="FILE", help="completions (default: inference.output_path)")
    evaluate.add_argument("--output", type=Path, metavar="FILE", help="results (default: INPUT_results.jsonl)")
    evaluate.add_argument("--timeout", metavar="S", help="seconds for one program: evaluation.timeout_seconds")
    evaluate.add_argument("--workers", metavar="N", help="programs at once: evaluation.workers")
    evaluate.add_argument("--skip-bad-lines", action="store_true", help="leave malformed lines of the input out")
    _config_options(evaluate, positional=False)

    grid = _command(commands, "matrix", run_matrix,
                    "complete and score in every prompt style, with a soft prompt and without, under every processing")
    grid.add_argument("checkpoint", nargs="?", type=Path, metavar="CHECKPOINT",
                      help="default: inference.checkpoint_path, where there is one")
    grid.add_argument("--styles", type=_styles, metavar="A,B", help="of plain, text, infilling (default: all)")
    grid.add_argument("--split", choices=("all", "train", "heldout"), default="all", help="which problems")
    grid.add_argument("--output", type=Path, metavar="FOLDER", default=Path("results/matrix"),
                      help="where everything is kept (default: results/matrix)")
    _config_options(grid, positional=False)

    comparing = _command(commands, "compare", run_compare, "two checkpoints or two result files, problem by problem")
    comparing.add_argument("a", type=Path, metavar="A", help="a results file, or a checkpoint that its run has scored")
    comparing.add_argument("b", type=Path, metavar="B")

    _command(commands, "runs", run_runs, "list runs with their state")
    exporting = _command(commands, "export", run_export, "write a soft prompt as a peft adapter or a merged model")
    exporting.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    exporting.add_argument("--format", choices=("peft", "merged"), required=True)
    exporting.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder")
    importing = _command(commands, "import", run_import, "make a checkpoint of a peft prompt-tuning adapter")
    importing.add_argument("folder", type=Path, metavar="DIR")

    _command(commands, "doctor", run_doctor, "terminal, GPU, sandbox, versions, disk")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str,
    run: Callable[[argparse.Namespace], int], text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    parser.set_defaults(run=run)
    return parser


def _run_options(parser: argparse.ArgumentParser, kind: Kind, name: str) -> None:
    """The options of a command that makes a run, or goes on with one."""
    _config_options(parser)
    parser.add_argument("--name", metavar="RUN", help=f"the end of the run's id (default: {name})")
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was cut short: id, name, or last")
    parser.add_argument("--queued", metavar="RUN", help=argparse.SUPPRESS)  # what the terminal app spawns
    parser.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)  # no terminal's closing ends it
    parser.set_defaults(kind=kind, profile=False)


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def _config_options(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    name = "config" if positional else "--config"
    parser.add_argument(name, **({"nargs": "?"} if positional else {}), type=Path, metavar="CONFIG",  # type: ignore[arg-type]
                        help=f"settings (default: {DEFAULT_CONFIG_FILE} in this folder)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                        help="change one setting, as training.num_epochs=5; may be repeated")
    parser.add_argument("--demo", action="store_true", help="SmolLM2-135M on two CPU cores; needs no hub")


def _config(options: argparse.Namespace) -> Config:
    return load_config(options.config, options.overrides, demo=options.demo)


def _styles(text: str) -> list[str]:
    known = ("plain", "text", "infilling")
    styles = [style.strip() for style in text.split(",")]
    wrong = [style for style in styles if style not in known]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no prompt style: they are {', '.join(known)}")
    return styles


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
    config = _config(options)
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

            events = _told_early(_with_torch(MODULES[known.kind], job, control, folder), notices)
            events = record(events, folder, control)
            with captured_libraries(folder.engine_log) as streams, outlets(*streams) as (out, err):
                with reporter(out, err, as_json=options.json) as show:
                    status = _drain(events, show, control, signals)
                return _delivered(status, (out, err), signals)


def _run_folder(options: argparse.Namespace, name: str, **fields: Any) -> RunFolder:
    """A new run's folder, that of one which the app has queued, or of one to go on with.

    Args:
        name: of a new run, where none is given; `fields` are further ones of its record.
    """
    if options.queued is None and options.resume is None:
        config = _config(options)
        check_outputs(config)
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
    if found:
        folder.restore_record(record)
    folder.write_record(record.model_copy(update={**identity(), "state": "queued", "ended": None, "error": ""}))
    return config, [Notice(what=f"{folder.record_file} was damaged or missing", remedy=how)] if found else []


def check_unfinished(folder: RunFolder, config: Config, record: RunRecord) -> None:
    """Raise UsageError where a run has come to its end, with the scores that it wants and that it can have here."""
    from core.evaluation.permission import refusal_to_run

    if record.state != "finished":
        return
    if config.evaluation.score_after_training and not record.pass_at_1 and not refusal_to_run(config.evaluation):
        return
    best = folder.checkpoints / "best.pt"
    use = f"its best checkpoint is {best}: softtune infer {best} completes problems with it; " if best.exists() else ""
    raise UsageError(f"{folder.run_id} is finished", f"{use}softtune train starts a new run")


def run_infer(options: argparse.Namespace) -> int:
    """`softtune infer`."""
    config = _config(options)
    check_outputs(config, options.output)
    control = ControlInbox()
    from core.console import captured_libraries, reporter

    def job(jobs: ModuleType) -> Iterator[Event]:
        return jobs.infer(  # type: ignore[no-any-return]
            config, options.checkpoint, control, soft=not options.no_soft_prompt, split=options.split,
            output=options.output, overridden=[text.partition("=")[0].strip() for text in options.overrides],
        )

    with stopping(control) as signals, captured_libraries(None) as streams, outlets(*streams) as (out, err):
        with reporter(out, err, as_json=options.json) as show:
            status = _drain(_with_torch("core.jobs", job, control), show, control, signals)
        return _delivered(status, (out, err), signals)


def _with_torch(
    name: str, job: Callable[[ModuleType], Iterator[Event]], control: ControlInbox, folder: RunFolder | None = None
) -> Iterator[Event]:
    """Import a module of jobs, torch with it, and pass on the events of one; a stop meanwhile is obeyed at once."""
    try:
        with control.interruptible():
            module = importlib.import_module(name)
    except StopRequested:
        yield _stopped(folder) if folder else RunStopped(step=0)
    else:
        yield from job(module)


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

            status = _drain(events, tell, control, signals)
        if report.completed:
            print(json.dumps(report.as_json()) if options.json else "\n".join(report.lines()), file=out)
        if status == EXIT_STOPPED:
            print(f"softtune: stopped{report.progress and f' with {report.progress} executed'}\n"
                  "  the same command goes on with the rest", file=err)
        return _delivered(status, (out, err), signals)


def _evaluate_config(options: argparse.Namespace) -> Config:
    """The settings of an evaluation; a fault in what --timeout or --workers set is told as theirs."""
    flags = {"evaluation.timeout_seconds": "timeout", "evaluation.workers": "workers"}
    given = {key: name for key, name in flags.items() if getattr(options, name) is not None}
    options.overrides += [f"{key}={getattr(options, name)}" for key, name in given.items()]
    try:
        return _config(options)
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
    config = _config(options)
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

            status = _drain(_with_torch("core.matrix", job, control), tell, control, signals)
        if status == EXIT_STOPPED:
            print("softtune: stopped\n  the same command goes on with the rest", file=err)
        for grid in filter(None, grids):
            print(json.dumps(grid.as_json()) if options.json else "\n".join(grid.lines()), file=out)
        return _delivered(status, (out, err), signals)


def run_compare(options: argparse.Namespace) -> int:
    """`softtune compare`."""
    from core.comparison import compare

    found = compare(options.a, options.b)
    every = found.paired["all"]
    if options.json:
        sides = (found.a, found.b)
        scores = [{kind: score.counts() for kind, score in side.items()}
                  | {"intervals": {kind: score.intervals for kind, score in side.items()}} for side in sides]
        print(json.dumps({
            "a": {"path": str(options.a), **scores[0]}, "b": {"path": str(options.b), **scores[1]},
            "gained": every.gained, "lost": every.lost, "mixed": found.mixed, "only_in_one": found.only_in_one,
            "paired": {kind: {"total": pair.total, "gained": len(pair.gained), "lost": len(pair.lost), "p": pair.p,
                              "difference": pair.difference, "interval": pair.interval, "verdict": pair.sentence()}
                       for kind, pair in found.paired.items()},
        }))
        return EXIT_DONE
    for name, path, side in (("A", options.a, found.a), ("B", options.b, found.b)):
        print("\n".join([f"{name}: {path}", *score_table(side), ""]))
    for word, tasks in (("gained", every.gained), ("lost", every.lost), ("mixed", found.mixed),
                        ("left out", found.only_in_one)):
        if tasks or word in ("gained", "lost"):
            print(f"{word:<9}{len(tasks):>4}  {', '.join(tasks)}".rstrip())
    if found.mixed:
        print("mixed: trained on by one and held out by the other; they count in \"all\" only")
    trained = f" ({found.paired['train'].total} of them training data)" if found.paired["train"].total else ""
    for kind, words in (("heldout", "held-out"), ("all", f"all{trained}")):
        if found.paired[kind].total:
            print(f"{found.paired[kind].total} {words}: {found.paired[kind].sentence()}")
    return EXIT_DONE


def run_runs(options: argparse.Namespace) -> int:
    """`softtune runs`."""
    rows = []
    for run in list_runs():
        record = run.record.model_dump() if run.record else {}
        kept = {key: record.get(key) for key in ("model", "started", "ended", "step", "total_steps", "heldout_loss",
                                                 "pass_at_1")}
        rows.append({"run_id": run.folder.run_id, "state": run.state, **kept, "reason": run.reason})
    if options.json:
        print(json.dumps(rows, indent=1))
        return EXIT_DONE
    if not rows:
        print("no runs here yet: softtune train, or softtune --demo")
    for row in rows:
        loss = "–" if row["heldout_loss"] is None else f"{row['heldout_loss']:.4f}"
        print(f"{row['run_id']:<40} {row['state']:<9} held-out loss {loss:<8} {row['reason']}".rstrip())
    return EXIT_DONE


def run_export(options: argparse.Namespace) -> int:
    """`softtune export`."""
    from core.console import captured_libraries
    from core.export.formats import export

    with captured_libraries(None) as (out, _):
        export(options.checkpoint, options.format, options.folder)
        print(json.dumps({"path": str(options.folder)}) if options.json else f"exported to {options.folder}", file=out)
    return EXIT_DONE


def run_import(options: argparse.Namespace) -> int:
    """`softtune import`."""
    from core.export.formats import import_adapter

    path = import_adapter(options.folder)
    print(json.dumps({"path": str(path)}) if options.json else f"soft prompt: {path}")
    return EXIT_DONE


def run_doctor(options: argparse.Namespace) -> int:
    """`softtune doctor`."""
    from core.doctor import examine, finding_lines

    findings = examine()
    if options.json:
        print(json.dumps(findings, indent=1))
    else:
        print("\n".join(finding_lines(findings)))
    return EXIT_DONE


def _drain(
    events: Iterator[Event], show: Callable[[Event], None], control: ControlInbox, signals: StopSignals
) -> int:
    """Show every event; the exit status is what the last one means.

    When nobody can read us any more (| head, a full disk) the job is asked to stop and save.
    """
    status, heard = EXIT_DONE, True
    try:
        for event in events:
            try:
                if heard:
                    show(event)
            except OSError:
                heard = False
                control.request(Command.STOP)
            if isinstance(event, RunFailed):
                status = EXIT_FAILED
            elif isinstance(event, RunStopped):
                status = EXIT_STOPPED
    except KeyboardInterrupt as interrupt:
        if isinstance(events, Generator):
            events.throw(interrupt)  # it came while an event was shown, and the job has to write it down
        raise
    return status if heard or signals.asked else EXIT_FAILED


def _delivered(status: int, streams: Iterable[Outlet], signals: StopSignals) -> int:
    """The exit status, once the reader of the output has taken everything.

    That may take as long as it wants to, until a signal says otherwise.
    """
    try:
        with signals.at_once():
            taken = [stream.wait(STOPPED_SECONDS if signals.asked else None) for stream in streams]
    except OSError:
        if not signals.asked:  # a terminal that has closed is no failure of the work
            raise
        return status
    return status if all(taken) else EXIT_STOPPED
