"""The agent's HTTP interface: who may ask, what they may send, and what errors look like."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sessionctl.agent import activity
from sessionctl.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    SessionctlError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from sessionctl.agent.activity import Activity
    from sessionctl.agent.editor_control import Editor
    from sessionctl.agent.runner import Runner

STATUSES: Final[dict[type[SessionctlError], HTTPStatus]] = {
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    SessionctlError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""A subclass has the status of its nearest ancestor here. 503 means: send the very same request again."""
HEADERS: Final = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "1"},
}
MAX_BODY_BYTES: Final = 1024 * 1024


class Phase(StrEnum):
    """The life of the process."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass
class Agent:
    """What the endpoints know."""

    token: str
    runner: Runner
    work: Activity
    editor: Editor
    phase: Phase = Phase.STARTING

    async def healthz(self, _request: Request) -> Response:
        """Answer whether messages are taken."""
        self._require_ready()
        return Response("ok\n", media_type="text/plain")

    async def activity(self, request: Request) -> Response:
        """Answer what goes on here; before the workspace is ours that would be a guess, and so it is refused."""
        self._authenticate(request)
        self._require_workspace()
        from sessionctl.agent import protocol

        answer = protocol.activity(message_running=self.runner.is_running, ages=self.work.ages())
        return Response(answer, media_type="application/json")

    async def messages(self, request: Request) -> Response:
        """Stream the answer to a message."""
        self._authenticate(request)
        self._require_ready()
        from sessionctl.agent import protocol

        seen = protocol.parse_resume(request.query_params)
        message = protocol.parse_message(await _body(request))
        return StreamingResponse(await self.runner.answer(message, seen), media_type="application/x-ndjson")

    async def cancel(self, request: Request) -> Response:
        """End a message, and answer with its outcome once that is recorded; also while the agent stops."""
        self._authenticate(request)
        self._require_workspace()
        from sessionctl.agent import protocol

        cancelled = protocol.parse_cancel(request.path_params["id"])
        return _json(protocol.ended(await self.runner.cancel(cancelled.id)))

    async def conversation(self, request: Request) -> Response:
        """Answer with some of the conversation."""
        self._authenticate(request)
        self._require_workspace()
        from sessionctl.agent import protocol

        wanted = protocol.parse_page(request.query_params)
        return _json(protocol.conversation(await self.runner.converse(wanted.before, wanted.limit)))

    async def end_connections(self, request: Request) -> Response:
        """End the connections to the editor, whatever the phase: who may not be in it any more need not wait."""
        self._authenticate(request)
        await self.editor.hang_up()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def openapi(self, _request: Request) -> Response:
        """Answer with the description of all this."""
        from sessionctl.agent import openapi

        return _json(json.dumps(openapi.document()))

    async def docs(self, _request: Request) -> Response:
        """Answer with the same for people."""
        from sessionctl.agent import openapi

        return Response(openapi.page(), media_type="text/html")

    def _authenticate(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        matches = hmac.compare_digest(given.strip().encode(), self.token.encode())
        if scheme.lower() != "bearer" or not matches:
            raise UnauthenticatedError("the bearer token of this session is missing or wrong")

    def _require_workspace(self) -> None:
        if self.phase is Phase.STARTING:
            self._require_ready()

    def _require_ready(self) -> None:
        match self.phase:
            case Phase.STARTING:
                raise UnavailableError("another process still has the workspace, or it is being recovered")
            case Phase.STOPPING:
                raise UnavailableError("the workspace is going to sleep")
            case Phase.READY:
                pass


def build_app(agent: Agent) -> Starlette:
    """Return the application for an agent."""
    return Starlette(
        routes=[
            Route("/healthz", agent.healthz, methods=["GET"]),
            Route("/v1/activity", agent.activity, methods=["GET"]),
            Route("/v1/messages", agent.messages, methods=["POST"]),
            Route("/v1/messages/{id}", agent.cancel, methods=["DELETE"]),
            Route("/v1/conversation", agent.conversation, methods=["GET"]),
            Route("/v1/editor/connections", agent.end_connections, methods=["DELETE"]),
            *activity.routes(agent.work),
            Route("/openapi.json", agent.openapi, methods=["GET"]),
            Route("/docs", agent.docs, methods=["GET"]),
        ],
        exception_handlers={
            SessionctlError: _on_error,
            HTTPException: _on_http,
            ClientDisconnect: _on_disconnect,
            Exception: _on_bug,
        },
    )


def _json(body: str) -> Response:
    return Response(body, media_type="application/json")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLargeError(f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _on_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SessionctlError)  # noqa: S101 - Starlette's signature knows only Exception
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    detail = error.message if error.hint is None else f"{error.message}. {error.hint}"
    return _problem(status, error.code, detail, error)


def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    status = HTTPStatus(error.status_code)
    answer = _problem(status, status.name.lower(), error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it


def _on_bug(_request: Request, _error: Exception) -> Response:
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, SessionctlError.code, "the agent failed; its log says why")


def _problem(status: HTTPStatus, code: str, detail: str, error: Exception | None = None) -> Response:
    from sessionctl.agent import protocol

    body = protocol.problem(status, code, detail, error)
    return Response(body, status, HEADERS.get(status), media_type="application/problem+json")
