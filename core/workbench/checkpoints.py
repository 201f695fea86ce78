"""What is done with one checkpoint as a whole: scoring it, and writing it in another format."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TypeVar, cast

from core.contract.control import ControlInbox
from core.contract.errors import UsageError
from core.contract.events import Event
from core.contract.runs import RunFolder, summarize
from core.contract.workbench import AnyReply, ExportCheckpoint, ImportAdapter, ScoreCheckpoint, Told, Working
from core.data.dataset import read_dataset
from core.data.humaneval import split_problems
from core.evaluation.permission import refusal_to_run
from core.export.formats import export
from core.export.imports import import_folder, split_of
from core.jobs import complete_and_score
from core.model.checkpoint import load_checkpoint
from core.workbench import Replies
from core.workbench.models import Models

Value = TypeVar("Value")


def score_checkpoint(request: ScoreCheckpoint, models: Models, control: ControlInbox) -> Replies:
    """Complete and score a run's problems with one of its checkpoints; run.json is left as it is.

    Raises:
        SandboxError: the completions could not be executed here; none is made then.
    """
    folder = RunFolder(Path(request.run))
    run = summarize(folder)
    if run.state == "damaged":
        raise UsageError(f"{folder.root} is no run that can be read: {run.reason}", "choose another run")
    if request.checkpoint != Path(request.checkpoint).name:
        raise UsageError(f"{request.checkpoint!r} is no checkpoint's name", 'name one of the run, as "epoch_0003"')
    config = folder.read_config()
    evaluation = config.evaluation.model_copy(update={"allow_weak_sandbox": request.allow_weak_sandbox})
    config = config.model_copy(update={"evaluation": evaluation})
    checkpoint = load_checkpoint(folder.checkpoints / f"{request.checkpoint}.pt")
    imported = run.record is not None and run.record.kind == "import"
    dataset = read_dataset(config, folder, split_of(checkpoint) if imported else split_problems)
    refusal = refusal_to_run(config.evaluation)
    if refusal is not None:
        raise refusal
    loaded = yield from models.loaded(request.id, config)
    checkpoint.check_fits(loaded.embedding_dim, loaded.name)
    for event in complete_and_score(config, loaded, request.checkpoint, checkpoint, dataset, folder, control):
        yield Told(request=request.id, event=event)
    return str(folder.evaluation(request.checkpoint))


def export_checkpoint(request: ExportCheckpoint) -> Replies:
    """Write a checkpoint in another format, with a model of its own; cancelled, it leaves nothing."""
    folder = Path(request.folder).expanduser()
    yield Working(request=request.id, what=f"reading {request.checkpoint}")
    yield from _telling(request.id, export(Path(request.checkpoint), request.format, folder,
                                           auto_prepend=request.auto_prepend, verify=request.verify))
    return str(folder)


def import_adapter(request: ImportAdapter) -> Replies:
    """Make a run of an adapter's folder, or of a merged model's."""
    yield Working(request=request.id, what=f"reading {request.folder}")
    return str((yield from _telling(request.id, import_folder(Path(request.folder).expanduser(), request.name))))


def _telling(number: int, events: Generator[Event, None, Value]) -> Generator[AnyReply | None, None, Value]:
    """Tell a job's events to request `number`; the value is the job's."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                return cast(Value, end.value)
            yield Told(request=number, event=event)
