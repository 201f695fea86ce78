"""`softtune compare`, `runs`, `export`, `import` and `doctor`: the commands about what is there already."""

from __future__ import annotations

import argparse
import json

from core.contract.errors import EXIT_DONE
from core.contract.runs import list_runs
from core.contract.wording import score_table


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
