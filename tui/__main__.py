"""`softtune`: opens the app in a terminal, and hands everything else to the engine's command line.

Nothing heavy is imported here before it is known what is wanted: no torch ever, Textual only for the app.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path

SUBCOMMANDS = frozenset({
    "train", "crossvalidate", "sweep", "infer", "evaluate", "matrix", "compare", "runs", "export", "import", "deploy",
    "doctor",
})
_ASIDE = frozenset({"-h", "--help", "--version"})

SSH_FRAMES = "15"
"""Frames a second over SSH."""


def main() -> None:
    """The console script."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        from tui.serve import serve

        sys.exit(serve(arguments[1:]))
    if not wants_app(arguments, sys.stdout.isatty() or bool(os.environ.get("TEXTUAL_DRIVER"))):
        os.execv(sys.executable, [sys.executable, "-P", "-m", "core", *arguments])
    status = open_app(arguments)
    from tui.leaving import end

    end(status)


def wants_app(arguments: Sequence[str], terminal: bool) -> bool:
    """Whether the app is meant: a terminal (or a browser), no subcommand, no request for help."""
    return terminal and not (arguments and arguments[0] in SUBCOMMANDS) and not _ASIDE.intersection(arguments)


def prepare_terminal(environ: MutableMapping[str, str]) -> None:
    """Over SSH: fewer frames and no animation. Textual reads these when it is imported."""
    if environ.get("SSH_CONNECTION"):
        environ.setdefault("TEXTUAL_FPS", SSH_FRAMES)
        environ.setdefault("TEXTUAL_ANIMATIONS", "none")


def open_app(arguments: Sequence[str]) -> int:
    """Check the configuration, run the app, and give the exit status."""
    parser = argparse.ArgumentParser(
        "softtune", usage="softtune [CONFIG] [--demo]",
        epilog="options such as --set belong to a subcommand: softtune train --help",
    )
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG")
    parser.add_argument("--demo", action="store_true")
    wanted = parser.parse_args(arguments)
    prepare_terminal(os.environ)

    from core.contract.errors import SofttuneError
    from tui.engine import active_run, newest_run
    from tui.plan_words import Plan

    plan = Plan(wanted.config, wanted.demo)
    try:
        if wanted.config is not None or (active_run() if wanted.demo else newest_run()) is None:
            plan.load()  # but a broken ./prompt_tuning.yml does not bar the way to a run that is there to look at
    except SofttuneError as error:
        print(f"softtune: {error}", file=sys.stderr)
        return error.exit_status

    from tui.app import SofttuneApp, parting_words
    from tui.leaving import leaving_on_signals

    app = SofttuneApp(plan, start=wanted.demo)
    with leaving_on_signals(app.leave_on_signal):
        words = parting_words(app.run())
    if words and sys.stdout.isatty():
        print(words)
    return app.return_code or 0


if __name__ == "__main__":
    main()
