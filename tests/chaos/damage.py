"""Damaged and hostile files: told by name and with a remedy, nothing executed, and where there is a way on, taken."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from core.contract.errors import CheckpointError
from core.model.checkpoint import load_checkpoint
from tests.chaos.engines import Engine, command
from tests.chaos.kills import RESUME, Job, finish, played
from tests.chaos.locks import crash
from tests.chaos.operations import Operation
from tests.chaos.survival import Broken, Keepsake, Outcome, run_in
from tests.headless import settings

MARKER = "executed"
DEEP = b"[" * 200_000

Change = Callable[[bytes, random.Random], bytes]
Content = dict[str, Any]
Due = Literal["same", "refused", "either", "no crash"]


class Payload:
    """What a hostile pickle does when it is opened: it leaves a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {MARKER}",)


def late(job: Job) -> int:
    """An operation of the second epoch, after which there are last.pt, the one before it, and the first epoch's."""
    saved = [at for at, operation in enumerate(job.operations, 1)
             if operation.startswith("rename") and operation.endswith("/checkpoints/last.pt")]
    return saved[2] + 3


# What is done to a file


def cut(content: bytes, chance: random.Random) -> bytes:
    """Cut off somewhere."""
    return content[: chance.randrange(len(content))]


def flipped(content: bytes, chance: random.Random) -> bytes:
    """One bit flipped."""
    position = chance.randrange(len(content))
    return content[:position] + bytes([content[position] ^ 1 << chance.randrange(8)]) + content[position + 1 :]


def noise(content: bytes, chance: random.Random) -> bytes:
    """Random bytes in the middle."""
    length = min(len(content), 200)
    begin = chance.randrange(len(content) - length + 1)
    return content[:begin] + chance.randbytes(length) + content[begin + length :]


def empty(content: bytes, chance: random.Random) -> bytes:
    """Nothing left."""
    return b""


def changed(change: Callable[[Content], object]) -> Change:
    """A checkpoint with another content, whole as a file."""

    def rewritten(before: bytes, chance: random.Random) -> bytes:
        content = torch.load(io.BytesIO(before), weights_only=True)
        return saved(change(content) or content)

    return rewritten


def saved(content: object, *, legacy: bool = False) -> bytes:
    """What torch.save makes of it."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def compressed(content: bytes, chance: random.Random) -> bytes:
    """The archive compressed, as one that unpacks to gigabytes would be."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    return file.getvalue()


def _put(key: str, value: object) -> Change:
    return changed(lambda content: content.update({key: value}))


HOSTILE: dict[str, Change] = {
    "is empty": empty,
    "is text": lambda content, chance: b"import os\n" * 100,
    "is noise": lambda content, chance: chance.randbytes(20_000),
    "is another archive": lambda content, chance: compressed(saved([1, 2, 3]), chance),
    "is a pickle that executes": lambda content, chance: pickle.dumps(Payload()),
    "holds an object that executes": changed(lambda content: content.update({"config": Payload()})),
    "executes, in torch's old format": lambda content, chance: saved({"soft_prompt": Payload()}, legacy=True),
    "is one tensor": lambda content, chance: saved(torch.zeros(20, 64)),
    "is compressed": compressed,
    "is of a newer format": _put("format_version", 999),
    "has no format": _put("format_version", "one"),
    "is too narrow for the model": _put("soft_prompt", torch.ones(20, 32)),
    "has a prompt of no rows": _put("soft_prompt", torch.ones(0, 64)),
    "has a prompt that is not finite": _put("soft_prompt", torch.full((20, 64), torch.nan)),
    "has a prompt of three dimensions": _put("soft_prompt", torch.ones(2, 10, 64)),
    "has a prompt of integers": _put("soft_prompt", torch.ones(20, 64, dtype=torch.long)),
    "lacks its split": changed(lambda content: content.pop("split") and None),
    "has a split of numbers": _put("split", {"train": 5, "heldout": 6}),
    "has a model of another kind": _put("config", {"model": 5}),
    "has a model's name of another kind": _put("config", {"model": {"name": [1]}}),
    "has settings of another kind": _put("config", {"inference": ["x"], "training": 1}),
    "is of a run elsewhere": _put("run_id", "../../../etc"),
}
"""Checkpoints that nobody should give us, by what is wrong with them."""
NOT_LOOKED_AT = {
    "is of a run elsewhere": ("infer", "export"), "has a model of another kind": ("infer",),
    "has a model's name of another kind": ("infer",),
}
"""What a command has no need to look at; for infer, the model is given by a setting."""


@dataclass(frozen=True)
class Damage:
    """Something done to a file of a crashed run before it is resumed."""

    file: str
    """Below the run's folder."""
    what: str
    change: Change
    due: Due
    """Resuming comes to the same bits; is refused with words; one of both; or ends in any way but a crash or hang."""


def _payload_config(content: bytes, chance: random.Random) -> bytes:
    return content + f'\nmodel: !!python/object/apply:os.system ["touch {MARKER}"]\n'.encode()


def _newer_record(content: bytes, chance: random.Random) -> bytes:
    return json.dumps(json.loads(content) | {"format_version": 999}).encode()


LAST, PREVIOUS = "checkpoints/last.pt", "checkpoints/last.pt.previous"
DAMAGES: list[Damage] = [
    *[Damage(LAST, what, change, "same") for what, change in
      (("cut", cut), ("cut elsewhere", cut), ("with a bit flipped", flipped), ("with another bit flipped", flipped),
       ("with noise in it", noise), ("empty", empty))],
    *[Damage(LAST, f"that {what}", change, "refused" if "narrow" in what else "either")
      for what, change in HOSTILE.items()],
    Damage(PREVIOUS, "cut", cut, "same"),
    Damage("checkpoints/best.pt", "cut", cut, "same"),
    Damage("checkpoints/best.pt", "with a bit flipped", flipped, "same"),
    Damage("checkpoints/epoch_0001.pt", "cut", cut, "no crash"),
    *[Damage("run.json", what, change, "same") for what, change in (
        ("cut", cut), ("with noise in it", noise), ("empty", empty),
        ("nested without end", lambda content, chance: DEEP))],
    Damage("run.json", "of a newer format", _newer_record, "refused"),
    *[Damage("run.json", f"with {which} bit flipped", flipped, "either") for which in ("a", "another")],
    *[Damage("config.yml", what, change, "either") for what, change in (
        ("cut", cut), ("cut elsewhere", cut), ("with noise in it", noise), ("empty", empty))],
    *[Damage("config.yml", what, change, "refused") for what, change in (
        ("with a payload", _payload_config), ("nested without end", lambda content, chance: DEEP))],
    *[Damage("events.jsonl", what, change, "same") for what, change in (
        ("cut", cut), ("with noise in it", noise), ("with a bit flipped", flipped), ("empty", empty),
        ("with a line nested without end", lambda content, chance: content + DEEP + b"\n"),
        ("with a line of ten megabytes", lambda content, chance: content + b'"' + b"x" * 10_000_000 + b'"\n'))],
    Damage("control.jsonl", "of noise", lambda content, chance: chance.randbytes(5000) + b"\n", "same"),
    Damage("problems.jsonl", "cut", cut, "same"),
    Damage("engine.lock", "of noise", lambda content, chance: chance.randbytes(50), "same"),
]


def resumed(job: Job, number: int, seed: int) -> Outcome:
    """Damage a file of a crashed run; then list the runs and resume this one."""
    damage = DAMAGES[number]

    def play(work: Path, kept: list[Keepsake]) -> None:
        run = crash(job, work, late(job))
        file = run.root / damage.file
        before = file.read_bytes() if file.exists() else b""
        file.unlink(missing_ok=True)  # it may have another name
        file.write_bytes(damage.change(before, random.Random(seed)))
        kept.append(Keepsake(run, damaged=True))
        listed = _tidy(command(["runs", "--json"], work))
        if listed.status or len(json.loads(listed.stdout)) != 1:
            raise Broken(f"`runs --json` ends with {listed.status}: {listed.stderr[-200:]}")
        unusable = file.suffix == ".pt" and _is_unusable(file)
        engine = _tidy(command(RESUME, work))
        if (work / MARKER).exists():
            raise Broken("what the file holds was executed")
        if engine.status:
            if damage.due == "same":
                raise Broken(f"it ended with {engine.status}: {engine.stderr[-400:]}")
            _check_words(engine, file.name)
            raise _Refused
        if damage.due == "refused":
            raise Broken("it was taken for whole")
        if unusable and damage.file == LAST and f"{file.name}" not in engine.stderr:
            raise Broken("it went on from the checkpoint before, and told nobody")
        if damage.due == "no crash":
            raise _Refused

    name = f"{damage.file} {damage.what}"
    try:
        return played(name, job, play, log_damaged=damage.file == "events.jsonl")
    except _Refused:
        return Outcome(name, True)


class _Refused(Exception):
    """It was refused as it should be: there is no finished run to compare."""


def _is_unusable(file: Path) -> bool:
    try:
        load_checkpoint(file)
    except CheckpointError:
        return True
    return False


def control_noise(job: Job, at: int) -> Outcome:
    """Write what is no command into control.jsonl while the engine reads it."""
    lines = (b"\x00\xff\xfe\n", b"null\n", b"[]\n", b'{"command": "fly"}\n', b'{"command": ["stop"]}\n',
             b'{"command": {}}\n', DEEP + b"\n", b"1" * 10_000 + b"\n", b'{"command": "st')

    def play(work: Path, kept: list[Keepsake]) -> None:
        count = 0

        def watch(operation: Operation) -> None:
            nonlocal count
            count += 1
            if count == at:
                with open(run_in(work).control_file, "ab") as file:
                    file.write(b"".join(lines))

        with Engine(job.arguments, work, watch) as engine:
            if _tidy(engine, wait=True).status:
                raise Broken(f"it ended with {engine.status}: {engine.stderr[-400:]}")
        kept.append(Keepsake(run_in(work), engine.stdout))

    return played(f"control.jsonl with noise, from operation {at}", job, play)


def given(job: Job, what: str, seed: int) -> Outcome:
    """Give a hostile checkpoint to infer, export and compare."""

    def play(work: Path, kept: list[Keepsake]) -> None:
        run = crash(job, work, late(job))
        good = (run.checkpoints / "best.pt").read_bytes()
        (work / "hostile.pt").write_bytes(HOSTILE[what](good, random.Random(seed)))
        for arguments in _commands(job, "hostile.pt"):
            _check_refusal(arguments, work, may_take=arguments[0] in NOT_LOOKED_AT.get(what, ()))
        finish(work, RESUME)

    return played(f"a checkpoint that {what}, given to infer, export, compare", job, play)


PLACES: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}
"""What may be where a file should be."""
MISPLACED = ("hostile.pt", LAST, "run.json", "config.yml", "engine.lock", "events.jsonl")
"""Files in whose place it is put: one that is given to commands, and those of a crashed run."""


def misplaced(job: Job, what: str, place: str) -> Outcome:
    """Let something else be where a checkpoint or a run's file should be."""

    def play(work: Path, kept: list[Keepsake]) -> None:
        run = crash(job, work, late(job))
        if place == "hostile.pt":
            PLACES[what](work / place)
            for arguments in _commands(job, place):
                _check_refusal(arguments, work)
            finish(work, RESUME)
            return
        file = run.root / place
        kept_aside = file.read_bytes()
        file.unlink()
        PLACES[what](file)
        for arguments in (["runs", "--json"], RESUME):
            engine = _tidy(command(arguments, work, 20))
            if engine.status:
                _check_words(engine, file.name)
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        elif not file.is_file():
            file.unlink()
        if not file.exists():
            file.write_bytes(kept_aside)
        finish(work, RESUME)

    return played(f"{what} in place of {place}", job, play, log_damaged=place == "events.jsonl")


def _commands(job: Job, file: str) -> list[list[str]]:
    return [
        ["infer", file, *settings(job.place / "model")], ["export", file, "--format", "peft", "exported"],
        ["compare", file, file],
    ]


def _check_refusal(arguments: list[str], work: Path, *, may_take: bool = False) -> None:
    """Raise Broken unless a command refuses its file with words; `may_take` says that there may be no reason to."""
    engine = _tidy(command(arguments, work, 20))
    if (work / MARKER).exists():
        raise Broken(f"{arguments[0]} executed what the file holds")
    if engine.status == 0 and may_take:
        return
    if engine.status == 0:
        raise Broken(f"{arguments[0]} takes it")
    _check_words(engine, arguments[1], arguments[0])
    if arguments[0] == "export" and (work / "exported").exists():
        raise Broken("export left a folder behind")


def _check_words(engine: Engine, file: str, name: str = "it") -> None:
    """Raise Broken unless a command that was refused says which file is wrong, and what to do, in two lines or more."""
    if engine.status not in (1, 2):
        raise Broken(f"{name} ended with {engine.status}: {engine.stderr[-400:]}")
    words = engine.stderr.strip()
    if file not in words and "is damaged:" not in words:  # a run is, by its run.json
        raise Broken(f"{name} does not name the file: {words[-400:]}")
    if "unexpected" in words or len(words.splitlines()) < 2:
        raise Broken(f"{name} has no remedy: {words[-400:]}")


def _tidy(engine: Engine, *, wait: bool = False) -> Engine:
    """An engine that ended without a traceback; raises Broken otherwise."""
    if wait:
        engine.wait()
    if "Traceback" in engine.stderr or "Traceback" in engine.stdout:
        raise Broken(f"{engine.arguments[0]} shows a traceback: {engine.stderr[-300:]}")
    return engine


