"""run.json: what a run is, and the state in which its engine left it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from core.contract.files import FORMAT_VERSION

State = Literal["queued", "running", "paused", "stopped", "finished", "failed", "crashed", "damaged"]
Kind = Literal["training", "crossvalidation", "sweep", "import"]
ACTIVE: frozenset[str] = frozenset({"queued", "running", "paused"})


class Split(BaseModel):
    """Task ids that train and task ids that are held out."""

    model_config = ConfigDict(frozen=True)
    train: list[str]
    heldout: list[str]

    def kind(self, task_id: str) -> Literal["train", "heldout", ""]:
        """Which side a problem is on; "" for one the split does not know."""
        return "train" if task_id in self.train else "heldout" if task_id in self.heldout else ""


class RunRecord(BaseModel):
    """run.json: the state of a run as its engine last wrote it."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())
    format_version: int = FORMAT_VERSION
    run_id: str
    kind: Kind = "training"
    folds: int | None = None
    """Of a cross-validation."""
    state: State = "queued"
    pid: int | None = None
    pid_started: float | None = None
    """Start time of that process, so that a reused pid is not taken for it."""
    host: str = ""
    boot_id: str = ""
    """The kernel's name for the time since it was booted: after a reboot no process of before is there."""
    pid_namespace: str = ""
    """In another one, such as another container's, the pid means another process."""
    oom_kills: int | None = None
    """Processes that the kernel had killed for want of memory when the engine began."""
    started: float
    """Seconds since the epoch."""
    ended: float | None = None
    model: str = ""
    versions: dict[str, str] = {}
    config_sha256: str = ""
    """Of config.yml as it was written."""
    dataset_sha256: str = ""
    evaluation_sha256: str = ""
    """Of the problems of dataset.evaluation_path; "" where there are none."""
    evaluation_split: Split | None = None
    """Which of those are training problems too, and which are not."""
    split: Split | None = None
    step: int = 0
    total_steps: int = 0
    heldout_loss: float | None = None
    pass_at_1: dict[str, float | None] = {}
    """pass@1 by "all", "train", "heldout", once scored."""
    error: str = ""

    @property
    def scored_split(self) -> Split | None:
        """The kinds of the problems that are completed and scored."""
        return self.evaluation_split or self.split

    @field_validator("format_version")
    @classmethod
    def _is_known(cls, version: int) -> int:
        if version > FORMAT_VERSION:
            raise ValueError(f"its format version {version} is of a newer softtune than this one: update softtune")
        return version
