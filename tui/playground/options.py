"""How the Playground completes: the settings that can be changed there, checked as the configuration checks them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from core.contract.config import Config, DatasetSettings, InferenceSettings, Section
from core.contract.config_file import allowed_values
from tui.formatting import counted

TEMPERATURES = (0.0, 0.2, 0.5, 0.8, 1.0)
"""What one key steps through; any other is set in the options."""

HELP = {
    "seed": "the same seed draws the same completion again, where the temperature is above 0",
    "stop_sequences": "on: a completion ends before the first of the configured texts; off: it goes on",
}
"""For the options that mean something narrower here than in the configuration."""

SWITCH = {"on": True, "off": False}


@dataclass(frozen=True)
class Options:
    """What a user may change from one completion to the next."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop_sequences: bool = True
    """False: a completion ends only by itself or at the token limit."""

    @classmethod
    def of(cls, config: Config) -> Options:
        """Those of a configuration."""
        inference = config.inference
        return cls(inference.max_new_tokens, inference.temperature, inference.top_p, config.dataset.seed)

    def applied(self, config: Config) -> Config:
        """The configuration with these in place of its own."""
        changes: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens, "temperature": self.temperature, "top_p": self.top_p,
        }
        if not self.stop_sequences:
            changes["stop_sequences"] = []
        return config.model_copy(update={
            "inference": config.inference.model_copy(update=changes),
            "dataset": config.dataset.model_copy(update={"seed": self.seed}),
        })

    @property
    def sampled(self) -> bool:
        """Whether chance plays a part."""
        return self.temperature > 0

    @property
    def warmer(self) -> Options:
        """With the next temperature of the cycle."""
        above = [value for value in TEMPERATURES if value > self.temperature]
        return replace(self, temperature=above[0] if above else TEMPERATURES[0])

    @property
    def reseeded(self) -> Options:
        """With another seed; the next one, so that a good result can be had again."""
        return replace(self, seed=(self.seed + 1) % 2**63)

    def words(self) -> list[str]:
        """The options in short, the important ones first."""
        drawn = [f"temperature {self.temperature:g}", f"top_p {self.top_p:g}", f"seed {self.seed}"]
        return [*(drawn if self.sampled else ["greedy"]), f"at most {counted(self.max_new_tokens, 'tokens')}",
                f"stop sequences {'on' if self.stop_sequences else 'off'}"]


@dataclass(frozen=True)
class Field:
    """One line of the options' form: the option's name, and the section of the configuration that knows its limits."""

    name: str
    section: type[Section]

    @property
    def help(self) -> str:
        """What it does and what it may be."""
        field = self.section.model_fields[self.name]
        return HELP.get(self.name) or f"{field.description}; {allowed_values(field)}"

    def shown(self, options: Options) -> str:
        """The option's value as it is typed."""
        value = getattr(options, self.name)
        return ("on" if value else "off") if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) \
            else str(value)

    def parsed(self, text: str) -> Any:
        """The value that was typed.

        Raises:
            ValueError: it is not one, in words that say what may be there.
        """
        typed = text.strip()
        if self.name == "stop_sequences":
            if typed.casefold() not in SWITCH:
                raise ValueError(f"found {typed!r}; allowed: on, off")
            return SWITCH[typed.casefold()]
        try:
            return getattr(self.section.model_validate({self.name: typed}), self.name)
        except ValidationError:
            allowed = allowed_values(self.section.model_fields[self.name])
            raise ValueError(f"found {typed!r}; allowed: {allowed}") from None


FIELDS = (
    Field("max_new_tokens", InferenceSettings), Field("temperature", InferenceSettings),
    Field("top_p", InferenceSettings), Field("seed", DatasetSettings), Field("stop_sequences", InferenceSettings),
)
