"""The user's leave to run programs in the weak sandbox: asked for when one is refused, kept while the app is open.

It is the user's own, here and now. What a run's configuration says of it is not heeded: its folder may have come from
elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING, Protocol

from core.contract.errors import SofttuneError, WeakSandboxError
from core.contract.workbench import AnyReply, AnyRequest, Refused
from tui.plan_words import Plan
from tui.screens.dialogs import Confirm
from tui.visible import visible

if TYPE_CHECKING:
    from tui.app import SofttuneApp

QUESTION = "Run programs in the weak sandbox?"
_HOLDS = (f"Yes holds until softtune is closed; {WeakSandboxError.setting}: true in the settings allows it for good. "
          "softtune doctor tells what is missing for a stronger sandbox.")


class MakeRequest(Protocol):
    """Makes a request that runs programs."""

    def __call__(self, number: int, *, allow_weak: bool) -> AnyRequest:
        """The request, with its id and the user's leave."""


class Consent:
    """Asks the workbench for what runs programs, and the user for leave where it is refused without that.

    Args:
        app: whose workbench is asked, and over whose screen the question comes.
    """

    def __init__(self, app: SofttuneApp) -> None:
        self._app = app
        self._given = False
        self._answer: asyncio.Future[bool] | None = None
        """Of the question that is on the screen; whatever else is refused meanwhile waits for it too."""

    async def ask(self, make: MakeRequest) -> AsyncGenerator[AnyReply, None]:
        """The replies to a request; where the user allows what it was refused for, those to a second one."""
        allowed = self._given or await asyncio.to_thread(_settings_allow, self._app.plan)
        again = True
        while again:
            again = False
            async with contextlib.aclosing(self._app.workbench.ask(partial(make, allow_weak=allowed))) as replies:
                async for reply in replies:
                    if not allowed and isinstance(reply, Refused) and await self._lifts(reply):
                        again = allowed = True
                    else:
                        yield reply

    async def _lifts(self, refused: Refused) -> bool:
        """Whether the user allows what a request was refused for."""
        if refused.setting != WeakSandboxError.setting:
            return False
        if self._given:
            return True
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            self._app.push_screen(Confirm(QUESTION, f"{_sentence(refused.what)}\n\n{_HOLDS}"), self._hear)
        return await asyncio.shield(self._answer)

    def _hear(self, yes: bool | None) -> None:
        self._given = bool(yes)
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.set_result(self._given)


def _settings_allow(plan: Plan) -> bool:
    """What the settings of the next run say; no where they cannot be read."""
    try:
        return plan.load().evaluation.allow_weak_sandbox
    except SofttuneError:
        return False


def _sentence(text: str) -> str:
    return f"{visible(text[:1].upper() + text[1:])}."
