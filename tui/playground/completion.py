"""One completion in the Playground: what the workbench's replies make of it, and how it is told. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from textual.content import Content

from core.contract.workbench import AnyReply, Cancelled, Ended, PromptCompleted, Refused, TextAdded, Working
from tui.formatting import counted
from tui.visible import visible, visible_line


class Phase(StrEnum):
    """How far a completion is."""

    IDLE = "idle"
    ASKED = "asked"
    LOADING = "loading"
    WRITING = "completing"
    DONE = "done"
    STOPPED = "stopped"
    REFUSED = "refused"


ENDINGS = {"stop": "ended at a stop sequence", "eos": "ended by itself", "length": "cut off at the token limit"}
UNDERWAY = frozenset({Phase.ASKED, Phase.LOADING, Phase.WRITING})


@dataclass(frozen=True)
class Completion:
    """A prompt's completion so far."""

    phase: Phase = Phase.IDLE
    prompt: str = ""
    text: str = ""
    doing: str = ""
    """What is done before the first token, in the workbench's words."""
    tokens: int = 0
    seconds: float = 0.0
    """Of the model's work, once it is done; of all the waiting, when it was stopped."""
    finish_reason: str = ""
    what: str = ""
    remedy: str = ""
    began: float = 0.0
    """On the monotonic clock."""

    @property
    def underway(self) -> bool:
        """Whether more is to come."""
        return self.phase in UNDERWAY


def asked(prompt: str, now: float) -> Completion:
    """A completion that was just asked for."""
    return Completion(Phase.ASKED, prompt, began=now)


def heard(completion: Completion, reply: AnyReply, now: float) -> Completion:
    """The completion after one more reply."""
    match reply:
        case Working():
            return replace(completion, phase=Phase.LOADING, doing=reply.what)
        case TextAdded():
            return replace(completion, phase=Phase.WRITING, text=completion.text + reply.text)
        case PromptCompleted():
            return replace(completion, phase=Phase.DONE, text=reply.text, tokens=reply.tokens, seconds=reply.seconds,
                           finish_reason=reply.finish_reason)
        case Refused():
            return replace(completion, phase=Phase.REFUSED, what=reply.what, remedy=reply.remedy)
        case Cancelled() | Ended() if completion.underway:
            return stopped(completion, now)
    return completion


def stopped(completion: Completion, now: float) -> Completion:
    """The completion as the user left it; one that is over stays as it is."""
    if not completion.underway:
        return completion
    return replace(completion, phase=Phase.STOPPED, seconds=now - completion.began)


def footer(completion: Completion, now: float) -> Content:
    """How it stands, or how it ended and how fast it was."""
    waited = f"{max(0.0, now - completion.began):.0f} s"
    match completion.phase:
        case Phase.ASKED:
            return Content.styled(f"○ waiting for the workbench, {waited}", "$text-muted")
        case Phase.LOADING:
            return Content.styled(f"○ loading, {waited}", "$text-muted")
        case Phase.WRITING:
            return Content.styled(f"● completing, {waited}", "$text-success")
        case Phase.STOPPED:
            return Content.styled(f"■ stopped after {completion.seconds:.1f} s", "$text-warning")
        case Phase.REFUSED:
            return Content.styled("✗ not completed; g tries again", "$text-error")
        case Phase.DONE:
            return Content.styled(", ".join(_facts(completion)), "$text-muted")
    return Content("")


def _facts(completion: Completion) -> list[str]:
    facts = [counted(completion.tokens, "tokens"), f"{completion.seconds:.1f} s"]
    if completion.seconds > 0:
        facts.append(f"{completion.tokens / completion.seconds:,.1f} tokens/s")
    return [*facts, ENDINGS.get(completion.finish_reason, visible_line(completion.finish_reason))]


def notes(completion: Completion) -> list[Content]:
    """What is told below the text: loading, refusals with their remedy, an empty completion."""
    match completion.phase:
        case Phase.LOADING:
            return [Content.styled(f"{visible_line(completion.doing)} …", "$text-muted italic")]
        case Phase.REFUSED:
            remedy = [Content.styled(f"→ {visible(completion.remedy)}", "italic")] if completion.remedy else []
            return [Content.styled(f"✗ {visible(completion.what)}", "$text-error"), *remedy]
        case Phase.DONE if not completion.text.strip():
            why = "; without stop sequences (o) it would go on" if completion.finish_reason == "stop" else ""
            return [Content.styled(f"the completion is empty{why}", "$text-warning italic")]
    return []
