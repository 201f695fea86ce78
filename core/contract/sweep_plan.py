"""sweep.yml: which settings a sweep varies, in what ranges, and what it looks for."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.contract.config import Config
from core.contract.config_file import conflict_faults, setting_faults
from core.contract.errors import ConfigError, Fault, UsageError
from core.contract.files import read_regular

VARIANT = "variant"
"""The parameter that chooses among `variants`."""

Value = float | int | str | bool | None
Setting = Value | list[Value]
"""What a variant may set: lists of stop sequences as well, which no sampler could choose among."""


class Range(BaseModel):
    """Numbers from `low` to `high`, both included; whole ones where both are."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    low: int | float
    high: int | float
    log: bool = False
    """Sampled evenly in the logarithm."""

    @model_validator(mode="after")
    def _has_room(self) -> Range:
        if self.low >= self.high:
            raise ValueError("low has to be below high")
        if self.log and self.low <= 0:
            raise ValueError("log needs a low above 0")
        return self

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class SweepPlan(BaseModel):
    """Everything that sweep.yml may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    objective: Literal["heldout_loss", "heldout_pass_at_1"] = "heldout_loss"
    trials: int = Field(20, ge=1, le=100_000)
    """How many are tried; a grid has as many as it has points."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruning: bool = True
    """Whether a trial ends early whose held-out loss is above the median of the others' after as many epochs."""
    folds: int | None = Field(None, ge=2)
    """Cross-validate each trial in so many folds; null: one split, as the settings say."""
    seed: int = Field(42, ge=0, lt=2**32)
    parameters: dict[str, Range | list[Value]] = {}
    """By "section.key": a range, or the values to choose from."""
    variants: dict[str, dict[str, Setting]] = {}
    """Named groups of settings, of which each trial takes one."""

    @model_validator(mode="after")
    def _varies_something(self) -> SweepPlan:
        if not self.parameters and not self.variants:
            raise ValueError("parameters or variants: there is nothing to vary")
        for key, values in self.parameters.items():
            if isinstance(values, list) and not values:
                raise ValueError(f"parameters.{key}: no values to choose from")
            if self.sampler == "grid" and isinstance(values, Range):
                raise ValueError(f"parameters.{key}: a grid needs a list of values, not a range")
        return self

    @property
    def maximize(self) -> bool:
        """Whether more of the objective is better."""
        return self.objective == "heldout_pass_at_1"

    def space(self) -> dict[str, Range | list[Value]]:
        """Every parameter with its range or values, the choice among variants included."""
        named: dict[str, Range | list[Value]] = {VARIANT: list(self.variants)} if self.variants else {}
        return named | self.parameters

    def grid(self) -> list[dict[str, Value]]:
        """Every point of a grid."""
        space = {name: values for name, values in self.space().items() if isinstance(values, list)}
        return [dict(zip(space, point, strict=True)) for point in itertools.product(*space.values())]

    def settings(self, point: Mapping[str, Value]) -> dict[str, Setting]:
        """What a trial at `point` changes, by "section.key"."""
        changes: dict[str, Setting] = dict(self.variants[str(point[VARIANT])]) if VARIANT in point else {}
        return changes | {name: value for name, value in point.items() if name != VARIANT}


RANKS = {"complete": 0, "running": 1, "cut short": 1, "pruned": 2, "failed": 3}
"""Which states of trials come first in a ranking."""


def place(state: str, value: float | None, loss: float | None, number: int, maximize: bool) -> tuple[float, ...]:
    """What trials are ranked by, the least first: state, objective, held-out loss, number."""
    objective = math.inf if value is None else -value if maximize else value
    return RANKS[state], objective, math.inf if loss is None else loss, number


def changed(config: Config, changes: Mapping[str, Setting], source: str = "sweep") -> Config:
    """The configuration with some settings, by "section.key", changed.

    Raises:
        ConfigError: one of them is no setting, or cannot have that value.
    """
    values = config.model_dump()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if name not in values.get(section, {}):
            known = [f"{one}.{other}" for one in values for other in values[one]]
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError([Fault(source, None, key, "no setting of that name",
                                     f"did you mean {near[0]}?" if near else "softtune's settings are section.key")])
        values[section] = {**values[section], name: value}
    faults = setting_faults(values, source=source)
    if not faults:
        result = Config.model_validate(values)
        faults = conflict_faults(result, source=source)
    if faults:
        raise ConfigError(faults)
    return result


def read_sweep(path: Path, config: Config) -> SweepPlan:
    """Read a file, and try each end of each range and each value on the configuration that it varies.

    Raises:
        UsageError: the file cannot be read, or something in it is wrong.
    """
    try:
        content = yaml.safe_load(read_regular(path).decode())
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}", "name the YAML file that says what to vary") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "it has to be a YAML file") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} has no settings of a sweep", "it needs `parameters:` with section.key and a range")
    return parse_sweep(content, config, str(path))


def parse_sweep(content: Mapping[str, Any], config: Config, source: str = "sweep.yml") -> SweepPlan:
    """The plan that a file's content is; raises UsageError as `read_sweep` does."""
    try:
        plan = SweepPlan.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_faults(error.errors(), content, source)) from None
    for key, values in plan.parameters.items():
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            changed(config, {key: value}, source)
    for changes in plan.variants.values():
        changed(config, changes, source)
    return plan


_GIVE = {
    "parameters": (2, "give a range, {low: …, high: …} and log: true if you like, or a list of plain values"),
    "variants": (3, "give the setting one value, or a list of them"),
}
"""By key: how deep its settings stand, and what to give them."""


def _faults(errors: Iterable[Any], content: Mapping[str, Any], source: str) -> list[Fault]:
    """One for each place: of what may be this or that, each has a fault of its own to tell."""
    found: dict[str, Fault] = {}
    for error in errors:
        place, what = [str(part) for part in error["loc"]], repr(error.get("input"))[:80]
        message = str(error["msg"]).removeprefix("Value error, ")
        depth, remedy = _GIVE.get(place[0] if place else "", (len(place), ""))
        if len(place) > depth:
            what = repr(reduce(lambda inside, part: inside[part], error["loc"][:depth], content))[:80]
            message = message if error["type"] == "value_error" else remedy
        elif error["type"] == "extra_forbidden":
            near = difflib.get_close_matches(place[-1], SweepPlan.model_fields, n=1)
            what = "an unknown key"
            message = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(SweepPlan.model_fields)}"
        name = ".".join(place[:depth])
        if name not in found or error["type"] == "value_error":
            found[name] = Fault(source, None, name, what, message)
    return list(found.values())
