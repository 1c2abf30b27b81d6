"""From an error answer to the error tree, so that a caller sees what it would see without the API between."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from sessionctl.errors import (
    ApiError,
    ConflictError,
    DeadlineExceededError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    SessionctlError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from sessionctl.wire import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

MOST_DETAIL: Final = 500
"""Characters of an answer that an error quotes."""
NO_SUCH_CALL: Final = frozenset({"no_such_route", "method_not_allowed"})
_KINDS_OF_STATUS: Final[dict[int, type[SessionctlError]]] = {
    HTTPStatus.UNAUTHORIZED: UnauthenticatedError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLargeError,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidRequestError,
    HTTPStatus.SERVICE_UNAVAILABLE: UnavailableError,
    HTTPStatus.GATEWAY_TIMEOUT: DeadlineExceededError,
}
"""For a code that only a newer server knows."""


def error_of(response: httpx.Response, address: str) -> SessionctlError:
    """Return the error that an answer stands for; its body must have been read."""
    problem = problem_of(response)
    if problem is None:
        msg = f"{address} answered {response.status_code} {response.reason_phrase}, and not as the Session API does"
        return ApiError(msg.strip(), hint="See whether the URL is that of the Session API, and what stands before it.")
    if problem.code in NO_SUCH_CALL:
        return ApiError(f"{address} does not offer this call", hint="Upgrade the platform release to this version.")
    kind = _KINDS_OF_CODE.get(problem.code) or _KINDS_OF_STATUS.get(response.status_code) or _general(response)
    # The server's detail ends with the next step, if there is one.
    message, hint = _message(problem), None
    told = response.status_code == HTTPStatus.GATEWAY_TIMEOUT
    if response.is_server_error and not told and (request_id := response.headers.get("x-request-id")):
        hint = f"The manager's log has it under the request id {request_id[:80]}."
    if issubclass(kind, RateLimitedError):
        return kind(message, retry_after=retry_after(response) or 1.0)
    return kind(message, hint=hint)


def problem_of(response: httpx.Response) -> Problem | None:
    """Return the problem that an answer describes (RFC 9457); None when somebody else than the API answered."""
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        return Problem.model_validate(json.loads(response.content), extra="ignore")
    except (ValidationError, ValueError):
        return None


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks to wait; None when it does not say."""
    given = response.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdigit() else None


def _message(problem: Problem) -> str:
    fields = "; ".join(f"{item.field}: {item.message}" if item.field else item.message for item in problem.errors)
    whole = problem.detail if not fields or fields in problem.detail else f"{problem.detail.rstrip('.')}: {fields}"
    return whole[:MOST_DETAIL]


def _general(response: httpx.Response) -> type[SessionctlError]:
    return ApiError if response.is_server_error else InvalidRequestError


def _subclasses(kind: type[SessionctlError]) -> Iterator[type[SessionctlError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _subclasses(child)


_KINDS_OF_CODE: Final = {kind.code: kind for kind in _subclasses(SessionctlError)}
