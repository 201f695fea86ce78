"""Requests in, replies out: several requests take turns, and while they do, new ones are heard."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator

from pydantic import ValidationError

from core.contract.control import Command, ControlInbox, StopRequested
from core.contract.workbench import (
    LAST,
    AnyReply,
    AnyRequest,
    Cancel,
    Cancelled,
    Ended,
    Refused,
    Working,
    parse_request,
)
from core.workbench import Replies
from core.workbench.refusals import refusal

READ_BYTES = 65_536

Answer = Callable[[AnyRequest, ControlInbox], Replies]
"""Makes the replies to a request; the inbox says whether to stop in the middle of a long step."""


class Conversation:
    """Turns: each request gives one reply, then the next request has its turn.

    Args:
        answer: makes the replies; what it raises becomes the request's Refused.
        say: sends one reply.
    """

    def __init__(self, answer: Answer, say: Callable[[AnyReply], None]) -> None:
        self._answer, self._say = answer, say
        self._heard: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._active: OrderedDict[int, Replies] = OrderedDict()
        self._controls: dict[int, ControlInbox] = {}

    def listen(self, descriptor: int) -> None:
        """Take lines from a descriptor until its end; meant for a thread beside the one of `run`.

        What is to be cancelled is told so at once: a turn of it may be long.
        """
        try:
            for line in _lines(descriptor):
                self._stop_what_is_cancelled(line)
                self._heard.put(line)
        finally:
            self._heard.put(None)
            for control in list(self._controls.values()):
                control.request(Command.STOP)

    def run(self) -> None:
        """Answer until the end of what `listen` hears; requests without a last reply are given up then."""
        try:
            while self._hear():
                number, replies = next(iter(self._active.items()))
                reply = self._next_reply(number, replies)
                if isinstance(reply, LAST):
                    self._forget(number)
                elif not isinstance(reply, Working):  # it goes on with that work: others may have use for it
                    self._active.move_to_end(number)
                if reply is not None:
                    self._say(reply)
        finally:
            for replies in self._active.values():
                _close(replies)

    def _hear(self) -> bool:
        """Take in what has arrived, waiting while there is nothing to do; False at the end."""
        while not self._active or not self._heard.empty():
            line = self._heard.get()
            if line is None:
                return False
            self._take(line)
        return True

    def _take(self, line: bytes) -> None:
        try:
            request = parse_request(line)
        except ValidationError as error:
            self._refuse_line(line, error)
            return
        known = request.id in self._active
        if isinstance(request, Cancel):
            if known:
                _close(self._active[request.id])
                self._forget(request.id)
                self._say(Cancelled(request=request.id))
        elif known:
            print(f"request {request.id} is being answered already", file=sys.stderr)
        else:
            self._controls[request.id] = control = ControlInbox()
            self._active[request.id] = self._answer(request, control)

    def _refuse_line(self, line: bytes, error: ValidationError) -> None:
        """Refuse what is no request, where it says who asks."""
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        what = f"this is no request: {place + ': ' if place else ''}{first['msg']}"
        number = _asker(line)
        if number is None or number in self._active:
            print(what, file=sys.stderr)
        else:
            self._say(Refused(request=number, what=what, remedy="start the app again: it may be of another version"))

    def _next_reply(self, number: int, replies: Replies) -> AnyReply | None:
        try:
            return next(replies)
        except StopIteration as end:
            return Ended(request=number, path=end.value or "")
        except StopRequested:
            return Cancelled(request=number)
        except Exception as error:  # whatever it is, the other requests go on
            return refusal(number, error)

    def _stop_what_is_cancelled(self, line: bytes) -> None:
        with contextlib.suppress(ValidationError):
            request = parse_request(line)
            control = self._controls.get(request.id)
            if isinstance(request, Cancel) and control is not None:
                control.request(Command.STOP)

    def _forget(self, number: int) -> None:
        del self._active[number], self._controls[number]


def _lines(descriptor: int) -> Iterator[bytes]:
    """The lines of a descriptor as they come; what stands after the last newline is none."""
    rest = b""
    while data := os.read(descriptor, READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield from (line for line in lines if line.strip())


def _asker(line: bytes) -> int | None:
    """The id in a line that is no request, if it has one."""
    try:
        number = json.loads(line)["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return number if type(number) is int else None


def _close(replies: Replies) -> None:
    try:
        replies.close()
    except Exception as error:  # it is given up: how it went no longer matters to who asked
        traceback.print_exception(error)
