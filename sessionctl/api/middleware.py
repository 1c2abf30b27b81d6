"""Around every request: its id, its size and time limits, one line in the log, one measurement."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from sessionctl.api.problems import of_error, problem, unexpected
from sessionctl.errors import TooLargeError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sessionctl.ports import Metrics

REQUEST_ID: Final = "x-request-id"
BODY_SECONDS: Final = 30.0
"""A body that takes longer is not waited for."""
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")
GONE: Final = 499
"""In log and metrics, of a request whose sender went away before it was complete."""
_UNMATCHED: Final = "unmatched"

_log = logging.getLogger("sessionctl.access")


class SlowBodyError(Exception):
    """The body did not come in time."""


class RequestMiddleware:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body: int, body_seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body = max_body
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(scope, receive, send, self._max_body, self._body_seconds).run(self._app, self._metrics)


class _Exchange:
    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body: int, body_seconds: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._max_body = max_body
        self._body_ends_at = time.monotonic() + body_seconds
        self._body_complete = False
        self._received = 0
        self._status = 0
        given = dict(scope["headers"]).get(REQUEST_ID.encode(), b"").decode("latin-1")
        self._request_id = given if _SANE_ID.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = self._request_id

    async def run(self, app: ASGIApp, metrics: Metrics) -> None:
        started = time.monotonic()
        try:
            await self._answer(app)
        finally:
            seconds = time.monotonic() - started
            route = getattr(self._scope.get("route"), "path", _UNMATCHED)
            metrics.observe_request(self._scope["method"], route, self._status, seconds)
            self._log(route, seconds)

    async def _answer(self, app: ASGIApp) -> None:
        try:
            self._refuse_large()
            await app(self._scope, self.receive, self.send)
        except TooLargeError as error:
            response = of_error(error)
        except SlowBodyError:
            response = problem(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "the body did not come in time")
        except ClientDisconnect:
            self._status = GONE
            return
        except Exception:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            _log.exception("a bug", extra={"request_id": self._request_id})
            response = unexpected()
        else:
            return
        if not self._status:
            # Whatever is left of the body is not read: the connection is of no further use.
            response.headers["Connection"] = "close"
            await response(self._scope, self._receive, self.send)

    def _refuse_large(self) -> None:
        declared = dict(self._scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body:
            raise self._too_large()

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the body is larger than {self._max_body} bytes")

    async def receive(self) -> Message:
        if self._body_complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._body_ends_at - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise SlowBodyError from None
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._max_body:
                raise self._too_large()
            self._body_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [*message["headers"], (REQUEST_ID.encode(), self._request_id.encode())]
            message = {**message, "headers": headers}
        await self._send(message)

    def _log(self, route: str, seconds: float) -> None:
        # Never the path or the query: codes and user ids may be in them. The session is named by itself.
        state = self._scope["state"]
        fields = {
            "request_id": self._request_id,
            "method": self._scope["method"],
            "route": route,
            "status": self._status,
            "ms": round(seconds * 1000, 1),
            "caller": state.get("caller"),
            "session": self._session(),
        }
        level = logging.DEBUG if "admitted" not in state and self._status < HTTPStatus.BAD_REQUEST else logging.INFO
        _log.log(level, "request", extra={name: value for name, value in fields.items() if value is not None})

    def _session(self) -> str | None:
        admitted = self._scope["state"].get("admitted")
        return admitted.session_id if admitted is not None else None
