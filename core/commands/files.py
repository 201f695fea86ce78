"""`softtune compare`, `runs`, `export`, `import` and `doctor`: the commands about what is there already."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

from core.commands.common import delivered, drain
from core.contract.control import ControlInbox, StopRequested
from core.contract.errors import EXIT_DONE, EXIT_STOPPED, UsageError
from core.contract.estimate import gigabytes
from core.contract.events import Event
from core.contract.files import write_whole
from core.contract.run_csv import run_csv
from core.contract.runs import find_run, list_runs
from core.contract.wording import score_table, unsplit_warning
from core.outlet import outlets
from core.signals import stopping


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
            "unsplit": found.unsplit,
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
    for name in found.unsplit:
        print(f"! {unsplit_warning(name, 'B' if name == 'A' else 'A')}")
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
    """`softtune export`: a line that says where it is, or with --json one object; all else goes to stderr."""
    if options.format == "csv":
        return _export_csv(options)
    folder = options.folder.expanduser()
    if options.format == "peft" and not (options.auto_prepend and options.verify):
        raise UsageError("--no-auto-prepend and --no-verify are of --format merged", "leave them out")
    if options.private and not options.push:
        raise UsageError("--private is of --push", "give --push REPO, or leave --private out")
    if options.push:
        from core.export.hub import check_repo

        check_repo(options.push)
    done: dict[str, Any] = {}

    def job() -> Iterator[Event]:
        from core.export.formats import export
        from core.export.hub import push

        manifest = yield from export(options.checkpoint, options.format, folder, auto_prepend=options.auto_prepend,
                                     verify=options.verify)
        done.update(path=str(folder), format=manifest.format, bytes=manifest.total_bytes,
                    verified_problems=manifest.verified_problems, pushed=None)
        if options.push:
            done["pushed"] = yield from push(folder, options.push, private=options.private)

    from core.export.folder import remove_unfinished

    status = _show(job(), options, done, left_behind=lambda: remove_unfinished(folder))
    if status == EXIT_STOPPED:
        whole = f"{folder} is whole" if done else "nothing was written"
        print(f"softtune: stopped; {whole}", file=sys.stderr)
    return status


def _export_csv(options: argparse.Namespace) -> int:
    """The curves of a run, into a new file or to stdout."""
    if options.push or options.private or not (options.auto_prepend and options.verify):
        raise UsageError("--format csv takes RUN and FILE alone", "leave the other options out")
    to_stdout = str(options.folder) == "-"
    if to_stdout and options.json:
        raise UsageError("--json: the table itself goes to stdout", "leave it out, or name a file")
    text = run_csv(find_run(str(options.checkpoint)))
    if to_stdout:
        sys.stdout.write(text)
        return EXIT_DONE
    file = options.folder.expanduser()
    if os.path.lexists(file):
        raise UsageError(f"{file} exists already", "name another file, or remove it")
    write_whole(file, text)
    print(json.dumps({"path": str(file), "format": "csv"}) if options.json else f"exported to {file}")
    return EXIT_DONE


def _export_line(done: dict[str, Any]) -> str:
    checked = f", the same as softtune on {done['verified_problems']} problems" if done["verified_problems"] else ""
    pushed = f"\npushed to {done['pushed']}" if done["pushed"] else ""
    size = "" if done["format"] == "peft" else f" ({gigabytes(done['bytes'])}{checked})"
    return f"exported to {done['path']}{size}{pushed}"


def run_import(options: argparse.Namespace) -> int:
    """`softtune import`: the checkpoint's path, or with --json one object; what is not known of it goes to stderr."""
    done: dict[str, Any] = {}

    def job() -> Iterator[Event]:
        from core.export.imports import import_folder

        path = yield from import_folder(options.folder.expanduser(), options.name or "")
        done.update(path=str(path), run_id=path.parent.parent.name)

    return _show(job(), options, done)


def _import_line(done: dict[str, Any]) -> str:
    return f"soft prompt: {done['path']}"


def _show(
    events: Iterator[Event], options: argparse.Namespace, done: dict[str, Any],
    left_behind: Callable[[], None] = lambda: None,
) -> int:
    """Show on stderr how a job goes on, and what it has done on stdout; a signal ends it at once, unwound."""
    from core.console import captured_libraries, reporter

    control = ControlInbox()
    with stopping(control, left_behind) as signals, captured_libraries(None) as streams, \
            outlets(*streams) as (out, err), closing(_interruptible(events, control)) as job:
        with reporter(err, err, as_json=False) as show:
            try:
                status = drain(job, show, control, signals)
            except StopRequested:
                status = EXIT_STOPPED
        if done:
            line = _export_line(done) if "format" in done else _import_line(done)
            print(json.dumps(done) if options.json else line, file=out)
        return delivered(status, (out, err), signals)


def _interruptible(events: Iterator[Event], control: ControlInbox) -> Generator[Event, None, None]:
    """A job's events; while it works on the next one, a signal ends it. Raises StopRequested."""
    with closing(events) as job:  # type: ignore[type-var]
        while True:
            with control.interruptible():
                event = next(job, None)
            if event is None:
                return
            yield event


def run_doctor(options: argparse.Namespace) -> int:
    """`softtune doctor`."""
    from core.doctor import examine, finding_lines

    findings = examine()
    if options.json:
        print(json.dumps(findings, indent=1))
    else:
        print("\n".join(finding_lines(findings)))
    return EXIT_DONE
