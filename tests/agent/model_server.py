"""An endpoint that speaks the OpenAI API, on loopback, whose answers a test writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Say = Callable[[bytes], None]


def chunk(content: str | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    """One event of a stream."""
    delta = {} if content is None else {"content": content}
    event = {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }
    return b"data: " + json.dumps(event).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def words(say: Say) -> None:
    """A usual answer."""
    say(b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n: a comment\n\n')
    for word in ("Hel", "lo", "!"):
        say(chunk(word))
    say(chunk(finish="stop") + b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n' + DONE)


class ModelServer:
    """``answer`` writes the body of a 200; ``refusal`` takes its place with a status, headers and a body."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answer: Callable[[Say], None] = words
        self.refusal: tuple[int, dict[str, str], bytes] | None = None
        self.left = threading.Event()
        """Set when the other side went away in the middle."""
        self.may_end = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def messages(self) -> list[tuple[str, str]]:
        """The conversation that the last request told."""
        return [(message["role"], message["content"]) for message in self.requests[-1][2]["messages"]]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                model.requests.append((self.path, dict(self.headers), body))
                status, headers, refusal = model.refusal or (200, {"Content-Type": "text/event-stream"}, None)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    if refusal is None:
                        model.answer(self._say)
                    else:
                        self._say(refusal)
                except OSError:
                    model.left.set()

            def _say(self, data: bytes) -> None:
                self.wfile.write(data)
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    @contextmanager
    def serving(self) -> Iterator[ModelServer]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.may_end.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()
