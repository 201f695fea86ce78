"""An OpenAI-compatible server of a few lines, for tests: what it answers, and how badly, is a function's to say."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SOON = {"retry-after-ms": "1"}
"""Makes the client try again at once."""


class StandIn:
    """What was asked, and how it is answered.

    Args:
        answer: gives (status, body, headers) for the body of a completion request; a status of 0 hangs up, and a body
            that is an iterator comes piece by piece, for as long as the client listens.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], tuple[int, Any, dict[str, str]]]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.models: tuple[int, Any] = (200, {"object": "list", "data": [{"id": "tuned", "object": "model"}]})
        self.headers: dict[str, str] = {}
        """Of the answer that gives the models."""
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""

    @property
    def prompts(self) -> list[str]:
        """What was asked for, without the tries."""
        return list(dict.fromkeys(body["prompt"] for body in self.asked))

    def completion(self, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        """Answer, and count how many are answered at one time."""
        with self.lock:
            self.asked.append(body)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.answer(body)
        finally:
            with self.lock:
                self.at_once -= 1


def given(text: str, reason: str = "stop", **more: Any) -> tuple[int, Any, dict[str, str]]:
    """A completion as servers give it."""
    return 200, {
        "id": "x", "object": "text_completion", "created": 1, "model": "tuned",
        "choices": [{"index": 0, "text": text, "finish_reason": reason, "logprobs": None, **more}],
        "usage": {"prompt_tokens": 1, "completion_tokens": len(text), "total_tokens": len(text) + 1},
    }, {}


def failed(status: int, message: str) -> tuple[int, Any, dict[str, str]]:
    """An error as OpenAI and vLLM tell it, with leave to try again at once."""
    return status, {"error": {"message": message, "type": "x", "code": None}}, SOON


@contextlib.contextmanager
def serving(answer: Callable[[dict[str, Any]], tuple[int, Any, dict[str, str]]]) -> Iterator[StandIn]:
    """Run one on a free port."""
    stand_in = StandIn(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._give(*stand_in.models, stand_in.headers)

        def do_POST(self) -> None:
            stand_in.keys.add(self.headers.get("Authorization"))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._give(*stand_in.completion(body))

        def _give(self, status: int, body: Any, headers: dict[str, str]) -> None:
            self.close_connection = not status
            if not status:
                return
            kind, length = "text/html" if isinstance(body, bytes) else "application/json", 1 << 30
            if not isinstance(body, Iterator):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                body, length = iter([data]), len(data)
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(length), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # a client that was stopped
                for piece in body:
                    self.wfile.write(piece)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Nothing: clients that are stopped leave in the middle of things."""

    with Server(("127.0.0.1", 0), Handler) as server:
        stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()
