"""Completions of a model that runs elsewhere, behind an OpenAI-compatible endpoint (POST /v1/completions). No torch.

Requests that fail in passing (no connection, 408, 409, 429, 5xx) are sent again by the `openai` package, after
0.5 to 8 seconds, twice as long each time, or after what the answer's Retry-After says.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from core.contract.control import Command, ControlInbox, heed
from core.contract.errors import SofttuneError, UsageError
from core.contract.events import Event
from core.generation.requests import DecodingSettings, FinishReason
from core.generation.stopping import cut_at_stop

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

CONCURRENCY = 8
RETRIES = 6
TIMEOUT_SECONDS = 600.0
"""For one answer: a server of one request at a time lets the last of them wait for all the others."""
CONNECT_SECONDS = 15.0
TOKEN_CHARACTERS = 64
"""Most characters that a token of an answer is believed to have, on average: runs of spaces are long ones."""
FEWEST_CHARACTERS = 16_384
"""An answer of up to so many is taken in any case."""
RESPONSE_BYTES = 1 << 20
"""Room in a response beside the text of an answer: for what else servers tell, and for lists of models."""
POLL_SECONDS = 0.1
FEWEST_STOPS = 4
"""Stop sequences that every endpoint takes; some, OpenAI's own among them, take no more."""
KEY_VARIABLE = "OPENAI_API_KEY"
_MESSAGE_CHARACTERS = 300


class EndpointError(SofttuneError):
    """An endpoint cannot be reached, refuses, or gives something that is no completion."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model runs, its name there, and how to ask."""

    url: str
    """The base of its paths, with /v1: see `base_url`."""
    model: str
    concurrency: int = CONCURRENCY
    """Requests that wait for an answer at one time."""
    retries: int = RETRIES
    """How often one is sent again."""


@dataclass(frozen=True)
class Question:
    """A text to complete, and which of its problem's samples that is."""

    task_id: str
    prompt: str
    sample: int

    def seed(self, seed: int) -> int:
        """A number for this sample alone, as the local decoder's random stream is (`core.generation.sampling`)."""
        digest = hashlib.sha256(f"{seed}/{self.task_id}/{self.sample}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1


@dataclass(frozen=True)
class Answer:
    """What an endpoint completed, as it gave it: nothing is cut off."""

    question: Question
    text: str
    tokens: int | None
    """As the endpoint counts; None where it does not."""
    finish_reason: FinishReason
    """"eos" from an endpoint that tells it from "stop" (vLLM); from others an end of text is a "stop" too."""

    def cut(self, stop_sequences: Sequence[str]) -> tuple[str, FinishReason]:
        """The text before the first stop sequence, and why it ends: servers leave a stop sequence in, or out."""
        text = cut_at_stop(self.text, stop_sequences)
        return text, self.finish_reason if len(text) == len(self.text) else "stop"


def base_url(text: str) -> str:
    """What a user calls the endpoint, as the client wants it: http://host:8000 is http://host:8000/v1.

    Raises:
        UsageError: it is no http address, or has a name or a key in it, which is not repeated.
    """
    try:
        parts = urlsplit(text)
        secret = parts.username is not None or parts.query or parts.fragment
        usable = bool(parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
                      and text.isprintable() and " " not in text and (secret or _has_a_name(text)))
    except ValueError:
        usable = False
    if not usable:
        shown = text.rpartition("@")[2].partition("?")[0]
        raise UsageError(f"--endpoint: {shown!r} is no address of a server", "as http://127.0.0.1:8000")
    if secret:
        raise UsageError("--endpoint: an address takes no name, password, ? or #",
                         f"a key goes into the environment: {KEY_VARIABLE}")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _has_a_name(url: str) -> bool:
    """Whether the client takes the host's name, and a resolver its labels."""
    from openai import AsyncOpenAI

    try:
        AsyncOpenAI(base_url=url, api_key="none").base_url.raw_host.decode("ascii").encode("idna")
    except Exception:  # the HTTP package's own, which bears another name in each version of openai
        return False
    return True


def body_of(question: Question, model: str, settings: DecodingSettings) -> dict[str, Any]:
    """The request that asks for a completion: also all that its answer depends on, beside the endpoint."""
    body: dict[str, Any] = {
        "model": model, "prompt": question.prompt, "max_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
    }
    if settings.temperature > 0:
        body |= {"top_p": settings.top_p, "seed": question.seed(settings.seed)}
    if settings.stop_sequences:
        body["stop"] = list(settings.stop_sequences)
    return body


def spans(prompt: str, text: str, stop_sequences: Sequence[str]) -> bool:
    """Whether a stop sequence begins at the end of the prompt and ends in the text behind it."""
    return any(prompt.endswith(stop[:place]) and text.startswith(stop[place:])
               for stop in stop_sequences for place in range(1, len(stop)))


def ask(
    endpoint: Endpoint, questions: Sequence[Question], settings: DecodingSettings, control: ControlInbox
) -> Iterator[Answer | Event | None]:
    """Have every question answered, in the order in which the answers come.

    Yields None several times a second meanwhile. A pause holds back what has not been asked.

    Raises:
        EndpointError: one question has no answer after all its retries; those under way are given up.
        StopRequested: `control` asked for it.
    """
    characters = max(FEWEST_CHARACTERS, TOKEN_CHARACTERS * settings.max_new_tokens)
    client = _client(endpoint, characters)
    left = deque(questions)
    under_way: set[asyncio.Task[Answer]] = set()
    with asyncio.Runner() as runner:
        asking = _Asking(endpoint, client, settings, characters)
        looking = runner.get_loop().create_task(asking.look())
        try:
            while not looking.done():
                runner.run(_some([looking]))
                yield from heed(control)
            looking.result()
            while left or under_way:
                if control.state == Command.STOP or control.state == Command.PAUSE and not under_way:
                    yield from heed(control)
                while left and len(under_way) < endpoint.concurrency and control.state == Command.RESUME:
                    under_way.add(runner.get_loop().create_task(asking.answer(left.popleft())))
                done = runner.run(_some(under_way))
                under_way -= done
                for task in sorted(done, key=lambda task: task.exception() is not None):  # what has come is not lost
                    yield task.result()
                yield None
        finally:
            runner.run(_closed(client, [looking, *under_way]))


async def _some(tasks: Collection[asyncio.Task[T]]) -> set[asyncio.Task[T]]:
    """Those that are done, soon."""
    if not tasks:
        return set()
    return (await asyncio.wait(tasks, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED))[0]


async def _closed(client: AsyncOpenAI, tasks: Collection[asyncio.Task[Any]]) -> None:
    """Give up what is under way, and every connection."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


def check_client() -> None:
    """Raise UsageError where the package that asks is not there, or the key can be none."""
    if importlib.util.find_spec("openai") is None:
        raise UsageError("--endpoint needs the package openai", "pip install 'softtune[endpoint]'")
    _key()


def _key() -> str:
    """The key, without the line break that a file's has; raises UsageError, which does not repeat it."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"{KEY_VARIABLE} has characters that no key has: a line break, or others than ASCII",
                         "set it to the key alone")
    return key or "none"


def _client(endpoint: Endpoint, characters: int) -> AsyncOpenAI:
    """A client that reads no more than an answer of so many characters needs, and waits for the whole of a response.

    Timeouts of the package are for one read each: a server that gives a byte now and then would never meet them.
    """
    from openai import APITimeoutError, AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

    most = RESPONSE_BYTES + 6 * characters  # JSON writes a character as \uXXXX at the longest, or as two of those

    async def bounded(response: Any) -> None:
        """Have the body end in an error where it is too long; it counts as unpacked."""
        whole = response.aiter_bytes

        async def parts(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            size = 0
            async for part in whole(chunk_size):
                size += len(part)
                if size > most:
                    raise _too_long(endpoint, f"more than {most:,} bytes")
                yield part

        response.aiter_bytes = parts

    class Client(DefaultAsyncHttpxClient):
        async def send(self, request: Any, **options: Any) -> Any:
            limits = request.extensions["timeout"]
            try:
                async with asyncio.timeout(limits["connect"] + limits["read"]):
                    return await super().send(request, **options)
            except TimeoutError:
                raise APITimeoutError(request=request) from None

    return AsyncOpenAI(
        base_url=endpoint.url, api_key=_key(), max_retries=endpoint.retries,
        timeout=Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
        http_client=Client(event_hooks={"response": [bounded]}),
    )


def _too_long(endpoint: Endpoint, found: str) -> EndpointError:
    return EndpointError(f"--endpoint {endpoint.url} gives {found}, far more than inference.max_new_tokens asks for",
                         "look into the server's log: it does not heed max_tokens, or is no model")


class _Asking:
    """One endpoint, and what it has turned out to serve and take."""

    def __init__(
        self, endpoint: Endpoint, client: AsyncOpenAI, settings: DecodingSettings, characters: int
    ) -> None:
        self.endpoint = endpoint
        self.client = client
        self.settings = settings
        self.characters = characters
        """Most that an answer may have."""
        self.served: list[str] = []
        """The names that GET /v1/models gives, for messages: a server may serve more, or not tell."""
        self.fewer_stops = False

    async def look(self) -> None:
        """See at once, and not after all retries, whether anybody is there who takes the key."""
        import openai

        try:
            page = await self.client.with_options(max_retries=0).models.list(timeout=CONNECT_SECONDS)
            self.served = [_line(model.id) for model in page.data if isinstance(model.id, str)]
        except (openai.APIConnectionError, openai.AuthenticationError, openai.PermissionDeniedError) as error:
            if not isinstance(error, openai.APITimeoutError) or _connecting(error):
                raise self._in_words(error) from None
        except (openai.OpenAIError, EndpointError, ValueError, AttributeError, TypeError, RecursionError):
            pass  # it has no such list, or another one

    async def answer(self, question: Question) -> Answer:
        """Ask one question; raises EndpointError.

        A server that looks for stop sequences in prompt and completion together (transformers serve) ends at a "def"
        behind a prompt's last line break. Such a question is asked again without them: they are cut at here anyway.
        """
        body = body_of(question, self.endpoint.model, self.settings)
        answer = self._read(await self._completion(body), question)
        if answer.finish_reason == "stop" and spans(question.prompt, answer.text, body.pop("stop", ())):
            answer = self._read(await self._completion(body), question)
        return answer

    async def _completion(self, body: dict[str, Any]) -> Any:
        import openai

        stops = body.get("stop", ())[:FEWEST_STOPS if self.fewer_stops else None]
        try:
            return await self.client.completions.create(**body | ({"stop": stops} if stops else {}))
        except openai.BadRequestError as error:
            if "stop" not in _message(error) or len(stops) <= FEWEST_STOPS:
                raise self._in_words(error) from None
            self.fewer_stops = True  # the rest of them is cut at here all the same, and the text is that of all
            return await self._completion(body)
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            raise self._in_words(error) from None

    def _read(self, given: Any, question: Question) -> Answer:
        choices = getattr(given, "choices", None)
        text = getattr(choices[0], "text", None) if isinstance(choices, list) and choices else None
        if not isinstance(choices, list) or not isinstance(text, str):
            raise self._no_completion()
        if len(text) > self.characters:
            raise _too_long(self.endpoint, f"{len(text):,} characters")
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # JSON can say half a character
        tokens = getattr(getattr(given, "usage", None), "completion_tokens", None)
        return Answer(question, text, tokens if isinstance(tokens, int) else None, _reason(choices[0]))

    def _no_completion(self) -> EndpointError:
        return EndpointError(f"--endpoint {self.endpoint.url} gives something that is no completion",
                             "name the address of an OpenAI-compatible server, as http://127.0.0.1:8000")

    def _in_words(self, error: Exception) -> EndpointError:
        """What the package raised, in the user's terms."""
        import openai

        url, models = f"--endpoint {self.endpoint.url}", f"--model {self.endpoint.model}"
        serves = f"; it serves {', '.join(self.served[:10])}" if self.served else ""
        match error:
            case openai.APITimeoutError() if not _connecting(error):
                return EndpointError(f"{url} gave no answer within {TIMEOUT_SECONDS:.0f} s",
                                     "lower --concurrency or inference.max_new_tokens, or look into the server's log")
            case openai.APIConnectionError():
                cause = _cause(error)
                if type(cause).__name__ == "TooManyRedirects":
                    return EndpointError(f"{url} redirects without end",
                                         "name the address that the server itself listens at")
                return EndpointError(f"{url} cannot be reached: {getattr(cause, 'strerror', None) or cause}",
                                     "start the server (softtune deploy DIR tells how), or name where it listens")
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return EndpointError(f"{url} refuses the key: {_message(error)}",
                                     f"set {KEY_VARIABLE} to the one that the server was started with")
            case openai.NotFoundError():
                return EndpointError(f"{url} has no model or path of that name ({models}): {_message(error)}",
                                     f"name the model as the server does{serves}")
            case openai.RateLimitError():
                return EndpointError(f"{url} takes no more requests (429), after {self.endpoint.retries} retries: "
                                     f"{_message(error)}", "lower --concurrency, or wait")
            case openai.InternalServerError():
                return EndpointError(f"{url} fails ({error.status_code}), after {self.endpoint.retries} retries: "
                                     f"{_message(error)}", "look into the server's log")
            case openai.APIStatusError():
                return EndpointError(f"{url} refuses the request ({error.status_code}, {models}): {_message(error)}",
                                     f"mend what it says{serves}")
        return self._no_completion()


def _reason(choice: Any) -> FinishReason:
    if getattr(choice, "finish_reason", None) == "length":
        return "length"
    told = (choice.model_extra or {}).get("stop_reason", "")  # vLLM's: the stop sequence, or null
    return "stop" if isinstance(told, str) else "eos"


def _connecting(error: BaseException) -> bool:
    return "Connect" in type(error.__cause__).__name__


def _cause(error: BaseException) -> BaseException:
    """What lies at the bottom of an error, of several the first."""
    deeper = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
    return _cause(deeper) if deeper else error


def _message(error: Any) -> str:
    """What the server said: in `error.message` (OpenAI, vLLM) or `detail` (FastAPI), or as it stands."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return _line(str(body or error.message))


def _line(text: str) -> str:
    """What a server said, for a terminal: no more than a line, and no control characters."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:_MESSAGE_CHARACTERS]
