"""The headless commands. Parsing and checking come first and import no torch: a wrong command fails at once."""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path

from core.commands import completing, files, runs, serving
from core.contract.config import DEFAULT_CONFIG_FILE
from core.contract.deployment import ENGINES, HOST, PORT
from core.contract.errors import EXIT_FAILED, EXIT_STOPPED, SofttuneError, UsageError
from core.contract.record import Kind
from core.outlet import last_words

COMMANDS = (
    "train", "crossvalidate", "sweep", "infer", "evaluate", "matrix", "compare", "runs", "export", "import",
    "deploy", "doctor",
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 failed, 2 wrong command or configuration, 130 stopped)."""
    argv = sys.argv[1:] if arguments is None else arguments
    # OpenMP's threads spin while they wait for each other. Where something else wants the same cores, that something is
    # what they wait for: two matrix loops on two cores took 22 s spinning and 9 s sleeping, one alone 4.7 s either way.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Threads that train on a CPU multiply side by side, each by itself (`core.training.rows.products`).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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


def _version() -> str:
    """The installed version; a checkout's commands work without one."""
    try:
        return importlib.metadata.version("softtune")
    except importlib.metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def build_parser() -> argparse.ArgumentParser:
    """The command line, as design section 3.1 promises it."""
    parser = argparse.ArgumentParser(
        prog="softtune", description="Teach a frozen code model a soft prompt and know whether it helped.",
        epilog="`softtune [CONFIG] [--demo]` opens the terminal app; without a terminal on stdout it trains headless.",
    )
    parser.add_argument("--version", action="version", version=f"softtune {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = _command(commands, "train", runs.run_train, "train a soft prompt, then complete and score the problems")
    _run_options(train, "training", "train, or demo")
    train.add_argument("--profile", action="store_true",
                       help="tell where the time went, and trace the first steps into runs/RUN/profile")

    folds = _command(commands, "crossvalidate", runs.run_crossvalidate,
                     "hold every problem out once, and score it with the soft prompt that has not seen it")
    folds.add_argument("--folds", type=_whole_number, default=5, metavar="N", help="parts of the problems (default: 5)")
    _run_options(folds, "crossvalidation", "crossvalidation")

    sweeping = _command(commands, "sweep", runs.run_sweep, "try settings and rank them: Optuna chooses what to try")
    sweeping.add_argument("sweep", nargs="?", type=Path, metavar="SWEEP", help="a YAML file: what to vary, and how far")
    sweeping.add_argument("--ray", metavar="ADDRESS", help="try them on a Ray cluster, one a GPU; auto: this machine's")
    _run_options(sweeping, "sweep", "sweep")

    infer = _command(commands, "infer", completing.run_infer, "complete the problems with a checkpoint")
    infer.add_argument("checkpoint", nargs="?", type=Path, metavar="CHECKPOINT",
                       help="default: inference.checkpoint_path; with --endpoint, what is served there, for its split: "
                            "a checkpoint or an exported folder")
    infer.add_argument("--no-soft-prompt", action="store_true", help="the baseline: the model alone")
    infer.add_argument("--split", choices=("all", "train", "heldout"), default="all", help="which problems")
    infer.add_argument("--output", type=Path, metavar="FILE",
                       help="default: inference.output_path; with --endpoint, completions_endpoint.jsonl beside it")
    infer.add_argument("--endpoint", metavar="URL",
                       help="ask an OpenAI-compatible server, as http://127.0.0.1:8000; its key: OPENAI_API_KEY")
    infer.add_argument("--model", metavar="NAME", help="the model's name there (default: the exported folder's name)")
    infer.add_argument("--concurrency", type=_whole_number, metavar="N",
                       help="requests to the endpoint at one time (default: 8)")
    _config_options(infer, positional=False)

    evaluate = _command(commands, "evaluate", completing.run_evaluate, "run completions against their tests")
    evaluate.add_argument("--input", type=Path, metavar="FILE", help="completions (default: inference.output_path)")
    evaluate.add_argument("--output", type=Path, metavar="FILE", help="results (default: INPUT_results.jsonl)")
    evaluate.add_argument("--timeout", metavar="S", help="seconds for one program: evaluation.timeout_seconds")
    evaluate.add_argument("--workers", metavar="N", help="programs at once: evaluation.workers")
    evaluate.add_argument("--skip-bad-lines", action="store_true", help="leave malformed lines of the input out")
    _config_options(evaluate, positional=False)

    grid = _command(commands, "matrix", completing.run_matrix,
                    "complete and score in every prompt style, with a soft prompt and without, under every processing")
    grid.add_argument("checkpoint", nargs="?", type=Path, metavar="CHECKPOINT",
                      help="default: inference.checkpoint_path, where there is one")
    grid.add_argument("--styles", type=_styles, metavar="A,B", help="of plain, text, infilling (default: all)")
    grid.add_argument("--split", choices=("all", "train", "heldout"), default="all", help="which problems")
    grid.add_argument("--output", type=Path, metavar="FOLDER", default=Path("results/matrix"),
                      help="where everything is kept (default: results/matrix)")
    _config_options(grid, positional=False)

    comparing = _command(commands, "compare", files.run_compare,
                         "two checkpoints or two result files, problem by problem")
    comparing.add_argument("a", type=Path, metavar="A", help="a results file, or a checkpoint that its run has scored")
    comparing.add_argument("b", type=Path, metavar="B")

    _command(commands, "runs", files.run_runs, "list runs with their state")
    exporting = _command(commands, "export", files.run_export,
                         "write a soft prompt as a peft adapter or a merged model, or a run's curves as CSV")
    exporting.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="csv: RUN, by its id, its name, or last")
    exporting.add_argument("--format", choices=("peft", "merged", "csv"), required=True)
    exporting.add_argument("folder", type=Path, metavar="DIR",
                           help="a new or empty folder; csv: a new file, or - for stdout")
    exporting.add_argument("--no-auto-prepend", action="store_false", dest="auto_prepend",
                           help="merged, for GGUF conversion: the text has to begin with the soft tokens' names")
    exporting.add_argument("--no-verify", action="store_false", dest="verify",
                           help="merged, for models larger than memory: do not load it again and compare")
    exporting.add_argument("--push", metavar="REPO", help="then upload it to the Hugging Face Hub, as OWNER/NAME")
    exporting.add_argument("--private", action="store_true", help="make that repository a private one")
    importing = _command(commands, "import", files.run_import,
                         "make a run of a peft prompt-tuning adapter, or of a merged model that softtune exported")
    importing.add_argument("folder", type=Path, metavar="DIR")
    importing.add_argument("--name", metavar="RUN", help="the end of the run's id (default: the folder's name)")

    deploying = _command(commands, "deploy", serving.run_deploy,
                         "how an exported folder is served: vLLM, its container image, transformers serve")
    deploying.add_argument("folder", type=Path, metavar="DIR", help="a merged model: softtune export --format merged")
    deploying.add_argument("--engine", choices=ENGINES, help="one of them alone")
    deploying.add_argument("--host", default=HOST, metavar="H", help=f"address to listen on (default: {HOST})")
    deploying.add_argument("--port", type=_whole_number, default=PORT, metavar="P", help=f"default: {PORT}")
    deploying.add_argument("--write", action="store_true", help="make DIR/serve/ with a file for each")

    _command(commands, "doctor", files.run_doctor, "terminal, GPU, sandbox, versions, disk")
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


def _styles(text: str) -> list[str]:
    known = ("plain", "text", "infilling")
    styles = [style.strip() for style in text.split(",")]
    wrong = [style for style in styles if style not in known]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no prompt style: they are {', '.join(known)}")
    return styles
