"""The tests' process: it executes a problem's tests, calls the candidate over a socket, and proves what came of it.

Nothing of the candidate runs here. The code is the dataset's; what the candidate returns arrives as plain data
(`values.py`). Only when `check()` has returned is the proof, a nonce that the server made after both processes were
there, read from one pipe and sent over the other; the candidate's process has neither.
"""

from __future__ import annotations

import builtins
import json
import os
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from raised import FILE, LONGEST_MESSAGE, LONGEST_NAME, MOST_BASES, facts_of, shortened
from streams import flush
from values import MUTABLE, Malformed, Opaque, RemoteIterator, decode, encode, take_over
from wire import LARGEST, receive, send

PROOF_BYTES = 16
READY = b"."
_OUT_OF_MEMORY = b'{"kind": "memory"}'  # made in advance: there may be no memory left to make it


class Gone(BaseException):
    """The candidate's end of the socket is closed."""


class Tampered(BaseException):
    """What arrived is nothing that `candidate.py` sends."""


class Ended(BaseException):
    """The candidate raised what is no Exception; tests must not catch it."""


def run(job: dict[str, Any], connection: socket.socket, report: int, proof: int) -> NoReturn:
    """Execute the tests; report one JSON object and end the process."""
    try:
        _check(job, _Candidate(connection))
        message = b""
    except Gone:
        message = b'{"kind": "gone"}'
    except Tampered as tampering:
        message = _json({"kind": "tampered", "message": str(tampering)[:200]})
    except MemoryError:
        message = _OUT_OF_MEMORY
    except BaseException as error:
        message = _json(_joined(error))
    flush()
    os.write(report, message or b'{"kind": "returned", "proof": "%s"}' % os.read(proof, PROOF_BYTES).hex().encode())
    os._exit(0)


def _check(job: dict[str, Any], candidate: _Candidate) -> None:
    defined = candidate.load()
    namespace = _helpers(job["prompt"])
    namespace.pop(job["entry_point"], None)
    if defined:
        namespace[job["entry_point"]] = candidate.function(job["entry_point"])
    before = "\n" * job["line"]
    exec(compile(before + job["tests"], FILE, "exec", dont_inherit=True), namespace)
    exec(compile(before + "\n" * job["tests"].count("\n") + job["call"], FILE, "exec", dont_inherit=True), namespace)


def _helpers(prompt: str) -> dict[str, Any]:
    """What the prompt defines: tests may use its functions and imports. A prompt is a whole program but for a body."""
    for text in (prompt, f"{prompt}\n    pass\n"):
        try:
            code = compile(text, "<prompt>", "exec", dont_inherit=True)
        except SyntaxError:
            continue
        namespace: dict[str, Any] = {}
        exec(code, namespace)
        return namespace
    return {}


class _Candidate:
    """The candidate, seen from its tests."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def load(self) -> bool:
        """Wait until its program was executed; whether the entry point is defined. Raises what it raised."""
        answer = self._receive()
        if not isinstance(answer.get("loaded"), bool):
            raise Tampered("an answer before it was asked")
        return bool(answer["loaded"])

    def function(self, name: str) -> Callable[..., Any]:
        """The entry point as a function."""

        def entry_point(*arguments: Any, **named: Any) -> Any:
            answer = self._ask({
                "arguments": [encode(argument, _refuse) for argument in arguments],
                "named": {key: encode(value, _refuse) for key, value in named.items()},
            })
            for place, now in answer["changed"].items():
                self._change({**named, **{str(at): value for at, value in enumerate(arguments)}}, place, now)
            return self._decode(answer["value"])

        entry_point.__name__ = entry_point.__qualname__ = name
        return entry_point

    def _change(self, arguments: dict[str, Any], place: str, now: Any) -> None:
        if place not in arguments:
            raise Tampered("a change to no argument")
        argument, content = arguments[place], self._decode(now)
        if not any(isinstance(argument, kind) and isinstance(content, kind) for kind in MUTABLE):
            raise Tampered("a change to what cannot change so")
        take_over(argument, content)

    def _next(self, handle: int) -> Any:
        answer = self._ask({"next": handle})
        if "exhausted" in answer:
            raise StopIteration
        return self._decode(answer["value"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            send(self._connection, request)
        except OSError:
            raise Gone from None
        answer = self._receive()
        if "exhausted" in answer and "next" in request:
            return answer
        if not ("value" in answer and isinstance(answer.get("changed"), dict)):
            raise Tampered("an answer without a value")
        return answer

    def _receive(self) -> dict[str, Any]:
        try:
            answer = receive(self._connection)
        except OSError:
            raise Gone from None
        except ValueError as error:
            raise Tampered(str(error)) from None
        if answer is None:
            raise Gone
        if "raised" in answer:
            raise _exception(answer["raised"])
        return answer

    def _decode(self, data: Any) -> Any:
        try:
            return decode(data, self._resolve)
        except Malformed as error:
            raise Tampered(f"a value of no known form: {error}") from None

    def _resolve(self, kind: str, content: Any) -> Any:
        handle, name = int(content[0]), str(content[1])
        if kind == "iterator":
            return RemoteIterator(handle, self._next)
        if kind == "opaque":
            return Opaque(handle, name)
        raise Malformed(kind)


def _refuse(value: Any) -> int:
    raise TypeError(f"tests cannot pass a {type(value).__name__} to a candidate, which runs in a process of its own")


def _exception(told: Any) -> BaseException:
    """The candidate's exception as one of the same built-in class, which tests may catch."""
    facts = _checked(told)
    if facts["kind"] == "memory":
        return MemoryError()
    error = next(filter(None, map(_instance, facts.pop("bases"))), None) or Ended()
    error.args = (facts["message"],)
    error.told = facts  # type: ignore[attr-defined]
    return error


def _instance(name: str) -> Exception | None:
    """An exception of a built-in class, without what it says; None where there is no such class."""
    base = getattr(builtins, name, None)
    if not (isinstance(base, type) and issubclass(base, Exception)):
        return None
    if issubclass(base, StopIteration | StopAsyncIteration):
        return RuntimeError()  # it would end the loop around the call and not the tests (PEP 479)
    try:
        return base.__new__(base)
    except TypeError:
        return None  # a class that wants more, as ExceptionGroup does: its own base will do


def _checked(told: Any) -> dict[str, Any]:
    """What a candidate tells of an exception, in the right shape; raises Tampered."""
    try:
        frames = [(str(file)[:LONGEST_NAME], int(first), int(last), str(name)[:LONGEST_NAME])
                  for file, first, last, name in told.get("frames", [])]
        frames = [frame for frame in frames if 0 <= frame[1] <= frame[2] <= LARGEST]  # no program has more lines
        facts = {
            "kind": str(told["kind"]), "assertion": told.get("assertion") is True,
            "name": str(told.get("name", ""))[:LONGEST_NAME],
            "message": str(told.get("message", ""))[:LONGEST_MESSAGE],
            "bases": [str(base) for base in told.get("bases", [])][:MOST_BASES],
            **shortened(frames, int(told.get("cut", 0))),
        }
        if facts["kind"] not in ("raised", "memory", "exit"):
            raise ValueError(facts["kind"])
        return facts
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError):
        raise Tampered("an exception of no known form") from None


def _joined(error: BaseException) -> dict[str, Any]:
    """The facts of an exception: where the tests were, then where the candidate was when it raised it."""
    ours = facts_of(error)
    told = getattr(error, "told", None)
    if told is None:
        return ours
    if told["kind"] != "raised" or ours["kind"] != "raised":
        return told
    return {**told, **shortened([*ours["frames"], *told["frames"]], told["cut"])}


def _json(facts: dict[str, Any]) -> bytes:
    try:
        return json.dumps(facts).encode("ascii")
    except MemoryError:
        return _OUT_OF_MEMORY
