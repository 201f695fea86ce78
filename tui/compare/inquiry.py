"""One question to the workbench as a screen shows it: what is being done, the answer, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from textual.content import Content

from core.contract.workbench import LAST, AnyReply, AnyRequest, Refused, Working
from tui.visible import visible, visible_line

if TYPE_CHECKING:
    from tui.workbench import Workbench


@dataclass(frozen=True)
class Inquiry:
    """What has come back so far."""

    what: str = "asking the workbench"
    """What is being done until the answer comes."""
    answer: AnyReply | None = None
    refusal: Refused | None = None

    def after(self, reply: AnyReply) -> Inquiry:
        """The inquiry after one more reply; one that ends without an answer counts as refused."""
        if isinstance(reply, Working):
            return replace(self, what=reply.what)
        if isinstance(reply, Refused):
            return replace(self, refusal=reply)
        if not isinstance(reply, LAST):
            return replace(self, answer=reply)
        if self.answer is None:
            return replace(self, refusal=Refused(request=reply.request, what="the workbench gave no answer"))
        return self

    @property
    def refused(self) -> bool:
        """Whether it may be asked again."""
        return self.refusal is not None

    def words(self) -> Content:
        """What to show instead of the answer: what is being done, or what is wrong, its remedy, and the key."""
        if self.refusal is None:
            return Content.styled(f"{visible_line(self.what)} …", "$text-muted italic")
        lines = [Content.styled(f"✗ {visible(self.refusal.what)}", "bold $text-error")]
        if self.refusal.remedy:
            lines.append(Content.assemble("→ ", (visible(self.refusal.remedy), "italic")))
        lines += [Content(""), Content.assemble(("r", "bold $accent"), " tries again")]
        return Content("\n").join(lines)


async def inquire(
    workbench: Workbench, make: Callable[[int], AnyRequest], tell: Callable[[Inquiry], None],
) -> None:
    """Ask, and tell of every change. Being cancelled cancels the request too."""
    inquiry = Inquiry()
    tell(inquiry)
    async with aclosing(workbench.ask(make)) as replies:
        async for reply in replies:
            changed = inquiry.after(reply)
            if changed is not inquiry:
                inquiry = changed
                tell(inquiry)
