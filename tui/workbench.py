"""The UI's end of the workbench: an engine process for what a user does by hand, started when it is first needed.

It ends with the app: its stdin closes, whatever the app died of.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import IO

from pydantic import ValidationError

from core.contract.workbench import LAST, AnyReply, AnyRequest, Cancel, Refused, message_line, parse_reply
from tui.visible import visible

LONGEST_LINE = 64_000_000
"""Bytes that one reply may have."""

LAST_LINES = 3
_END_SECONDS = 3.0

RequestMaker = Callable[[int], AnyRequest]
"""Makes a request with the id that the workbench chose for it."""


def workbench_command() -> list[str]:
    """The real workbench. `-P` keeps a folder named `core` in the user's directory from being imported instead."""
    return [sys.executable, "-P", "-m", "core.workbench"]


class Workbench:
    """Asks and hears; any number of requests at a time.

    Args:
        command: the process to start; tests give their own.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = list(command or workbench_command())
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[AnyReply]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """Whether some request has not had its last reply."""
        return bool(self._waiting)

    async def ask(self, make: RequestMaker) -> AsyncGenerator[AnyReply, None]:
        """Send a request and give its replies; the last one is Ended, Refused or Cancelled.

        Leaving the iteration early (closing it) cancels the request. A workbench that cannot be started, or dies, is
        told as Refused.
        """
        number = next(self._numbers)
        replies = self._waiting[number] = asyncio.Queue()
        reply: AnyReply | None = None
        try:
            await self._send(make(number))
            while not isinstance(reply, LAST):
                reply = await replies.get()
                yield reply
        finally:
            del self._waiting[number]
            if not isinstance(reply, LAST):
                self._send_soon(Cancel(id=number))

    async def close(self) -> None:
        """End the process: it is asked by closing its stdin, and killed where it does not listen."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _END_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader

    async def _send(self, request: AnyRequest) -> None:
        try:
            process = await self._started()
            assert process.stdin is not None
            process.stdin.write(message_line(request))
            await process.stdin.drain()
        except OSError as error:
            self._refuse([request.id], f"the workbench cannot be reached: {error}")

    def _send_soon(self, request: AnyRequest) -> None:
        """Write without waiting: also from an iteration that is being closed."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(message_line(request))

    async def _started(self) -> asyncio.subprocess.Process:
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                log = tempfile.TemporaryFile()  # noqa: SIM115 - the reader closes it
                try:
                    self._process = await asyncio.create_subprocess_exec(
                        *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                        start_new_session=True, limit=LONGEST_LINE,
                    )
                except OSError:
                    log.close()
                    raise
                self._reader = asyncio.create_task(self._hear(self._process, log))
            return self._process

    async def _hear(self, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        """Hand out replies until the process ends; then what is still asked is refused."""
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                reply = parse_reply(line)
            except ValidationError:
                continue  # what a library printed, or a reply of a newer version
            if reply.request in self._waiting:
                self._waiting[reply.request].put_nowait(reply)
        status = await process.wait()
        with log:
            words = _last_words(log)
        self._refuse(list(self._waiting), f"the workbench {ending(status)}", words)

    def _refuse(self, numbers: Sequence[int], what: str, words: str = "") -> None:
        remedy = "\n".join(filter(None, [words, "try again: it is started anew"]))
        for number in numbers:
            if number in self._waiting:
                self._waiting[number].put_nowait(Refused(request=number, what=what, remedy=remedy))


def ending(status: int) -> str:
    """How a process ended, from its exit status; below 0 it is that of a signal, as where memory was short."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _last_words(log: IO[bytes]) -> str:
    """The end of what it wrote to stderr, made safe to show."""
    try:
        size = log.seek(0, 2)
        log.seek(max(0, size - 16_384))
        text = log.read().decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
    return visible("\n".join([line for line in text.splitlines() if line.strip()][-LAST_LINES:]))

