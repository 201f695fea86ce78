"""Every error that softtune raises on purpose.

    SofttuneError              something a user can act on; says what and how to mend it
    ├── UsageError             the command or its configuration is wrong; nothing was written (exit 2)
    │   └── ConfigError        one or more faults in a configuration, all listed
    ├── ModelError             the base model cannot be loaded or does not fit
    ├── OutOfMemory            the device or the machine has too little memory for it
    ├── DataError              the problems or completions cannot be used
    ├── CheckpointError        a checkpoint file cannot be used
    │   └── NewerFormat        … by this version
    └── SandboxError           programs cannot be run in isolation here
        └── WeakSandboxError   only the weak sandbox is to be had, and the user has not allowed it
"""

from __future__ import annotations

from dataclasses import dataclass

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 130


class SofttuneError(Exception):
    """A failure told in the user's terms.

    Args:
        what: what went wrong, naming the setting, file or value.
        remedy: what to do about it.
    """

    exit_status = EXIT_FAILED
    setting = ""
    """The setting that mends it, as section.key, where there is one."""

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}\n  {remedy}" if remedy else what)


class UsageError(SofttuneError):
    """The command line or a configuration is wrong; nothing was written."""

    exit_status = EXIT_USAGE


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a configuration: where it stands, what is there, what may be there."""

    source: str
    line: int | None
    key: str
    found: str
    allowed: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        key = f"{self.key}: " if self.key else ""
        return f"{place}: {key}found {self.found}; {self.allowed}"


class ConfigError(UsageError):
    """A configuration with one or more faults, all of which are listed."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f"the configuration has {count}; nothing was started:", "\n  ".join(map(str, faults)))


class ModelError(SofttuneError):
    """The base model cannot be found, read or held in memory."""


class OutOfMemory(SofttuneError):
    """There is not enough memory for the smallest piece of the work; says what would fit."""


class DataError(SofttuneError):
    """A problems or completions file cannot be used."""


class CheckpointError(SofttuneError):
    """A checkpoint file is missing, not ours, damaged, or does not fit the model."""


class NewerFormat(CheckpointError):
    """A checkpoint is whole, and of a format that only a newer softtune reads."""


class SandboxError(SofttuneError):
    """Programs cannot be executed in isolation on this machine."""


class WeakSandboxError(SandboxError):
    """This machine grants limits alone, and the user has not said that they are enough."""

    setting = "evaluation.allow_weak_sandbox"

    def __init__(self) -> None:
        super().__init__(
            "this machine grants only the weak sandbox, in which programs can read your files, write and delete where "
            "you can, and use the network",
            f"{self.setting}: true runs them all the same; softtune doctor tells what is missing for a stronger one",
        )
