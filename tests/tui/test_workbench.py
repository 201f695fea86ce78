"""The UI's end of the workbench: replies in order, several at a time, cancelling, and a process that dies."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.contract import workbench as wb
from core.contract.config import Config
from tests.tui.fake_workbench import __file__ as fake_workbench
from tests.tui.fake_workbench import allow
from tui.workbench import Workbench, ending


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake workbench's working directory, where it looks for what it may say."""
    monkeypatch.chdir(tmp_path)


@contextlib.asynccontextmanager
async def fake(*options: str) -> AsyncIterator[Workbench]:
    workbench = Workbench([sys.executable, fake_workbench, *options])
    try:
        yield workbench
    finally:
        await workbench.close()


def completion(checkpoint: str = "") -> object:
    return lambda number: wb.Complete(id=number, config=Config(), checkpoint=checkpoint, prompt="def f(xs):\n")


async def test_replies_come_in_order_and_requests_take_turns() -> None:
    async with fake("--allow", "1") as workbench:
        order: list[str] = []

        async def ask(name: str, checkpoint: str) -> list[wb.AnyReply]:
            replies = []
            async for reply in workbench.ask(completion(checkpoint)):
                order.append(name)
                if len(order) == 2:
                    allow(99)
                replies.append(reply)
            return replies

        base, soft = await asyncio.gather(ask("base", ""), ask("soft", "best.pt"))
        assert not workbench.busy
    assert [type(reply) for reply in (base[0], base[-2], base[-1])] == [wb.Working, wb.PromptCompleted, wb.Ended]
    pieces = [reply.text for reply in soft if isinstance(reply, wb.TextAdded)]
    (whole,) = [reply for reply in soft if isinstance(reply, wb.PromptCompleted)]
    assert "".join(pieces) == whole.text != ""
    assert set(order[:2]) == {"base", "soft"}  # neither waits for the other to end


async def test_leaving_the_replies_cancels() -> None:
    async with fake("--allow", "1") as workbench:
        replies = workbench.ask(completion())
        assert isinstance(await anext(replies), wb.Working)
        await replies.aclose()
        assert not workbench.busy
        allow(99)
        again = [reply async for reply in workbench.ask(completion())]
        assert isinstance(again[-1], wb.Ended)


async def test_a_death_is_told_with_its_last_words_and_the_next_request_starts_anew() -> None:
    async with fake("--die", "MapCosines") as workbench:
        (reply,) = [reply async for reply in workbench.ask(lambda n: wb.MapCosines(id=n, a="a.pt", b="b.pt"))]
        assert isinstance(reply, wb.Refused)
        assert "exit status 3" in reply.what
        assert reply.remedy == "CUDA error: out of memory\ntry again: it is started anew"
        assert isinstance([reply async for reply in workbench.ask(completion())][-1], wb.Ended)


async def test_a_kill_is_told_by_its_signal() -> None:
    async with fake("--allow", "1") as workbench:
        replies = workbench.ask(completion())
        await anext(replies)
        assert workbench._process is not None
        workbench._process.kill()
        *_, last = [reply async for reply in replies]
        assert isinstance(last, wb.Refused) and last.what == "the workbench was ended by SIGKILL"
        assert "try again" in last.remedy
        allow(99)
        assert isinstance([reply async for reply in workbench.ask(completion())][-1], wb.Ended)
    assert ending(-64) in ("was ended by SIGRTMAX", "was ended by signal 64") and "exit status 0" in ending(0)


async def test_what_cannot_be_started_is_refused() -> None:
    workbench = Workbench(["/no/such/program"])
    (reply,) = [reply async for reply in workbench.ask(completion())]
    assert isinstance(reply, wb.Refused)
    assert "/no/such/program" in reply.what
    await workbench.close()


@pytest.mark.parametrize("line", [b"", b"{}", b'{"type": "Dance", "id": 1}', b'{"type": "Cancel"}'])
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        wb.parse_request(line)
