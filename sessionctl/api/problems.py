"""Errors as HTTP answers: one table, one shape (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from sessionctl.errors import (
    ClusterError,
    ConfigurationError,
    ConflictError,
    DeadlineExceededError,
    DependencyError,
    ForbiddenError,
    InProgressError,
    InsufficientScopeError,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknownError,
    QuotaExceededError,
    RateLimitedError,
    SessionctlError,
    StoreError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from sessionctl.wire import FieldProblem, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI
    from starlette.requests import Request

PROBLEM_JSON: Final = "application/problem+json"

STATUSES: Final[dict[type[SessionctlError], HTTPStatus]] = {
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    InsufficientScopeError: HTTPStatus.FORBIDDEN,
    QuotaExceededError: HTTPStatus.FORBIDDEN,
    ForbiddenError: HTTPStatus.BAD_GATEWAY,  # said by the Kubernetes API, to us
    RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    ClusterError: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    DependencyError: HTTPStatus.BAD_GATEWAY,
    DeadlineExceededError: HTTPStatus.GATEWAY_TIMEOUT,
    SessionctlError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""A subclass has the status of its nearest ancestor here."""

_PUBLIC: Final[dict[type[SessionctlError], str | None]] = {
    UnauthenticatedError: None,
    InsufficientScopeError: None,
    QuotaExceededError: None,
    ForbiddenError: "the platform may not do this in its cluster; its log says why",
    OutcomeUnknownError: "Redis was lost while it was asked to write: it may have. Send the same request again",
    StoreError: "Redis does not answer: nothing was done. Try again",
    ClusterError: "the Kubernetes API does not answer or refused. Try again",
    UnavailableError: "this cannot be done at the moment. Try again",
    DependencyError: "something that the platform needs failed; its log says why",
    ConfigurationError: "the platform is not configured well; its log says why",
}
"""What callers are told of failures of ours (None: what the error says): addresses and names are for the log."""

_RETRY_AFTER: Final = {HTTPStatus.SERVICE_UNAVAILABLE: 1, HTTPStatus.GATEWAY_TIMEOUT: 1}
_IN_PROGRESS_SECONDS: Final = 2

_CODES: Final = {
    HTTPStatus.NOT_FOUND: "no_such_route",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
}

_log = logging.getLogger(__name__)


def status_of(kind: type[SessionctlError]) -> HTTPStatus:
    """Return the HTTP status of an error's kind."""
    return next(STATUSES[ancestor] for ancestor in kind.__mro__ if ancestor in STATUSES)


def problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error answer."""
    body = Problem(title=status.phrase, status=status, code=code, detail=detail, errors=tuple(errors))
    return Response(body.model_dump_json(), status, headers, media_type=PROBLEM_JSON)


def detail_of(error: SessionctlError) -> str:
    """Return what callers are told of an error of core; where that is less than it says, the rest is logged."""
    public = next((_PUBLIC[kind] for kind in type(error).__mro__ if kind in _PUBLIC), None)
    if public is not None:
        _log.warning("%s: %s", error.code, error.message)
    return public or (error.message if error.hint is None else f"{error.message.rstrip('.')}. {error.hint}")


def of_error(error: SessionctlError) -> Response:
    """Translate an error of core."""
    status = status_of(type(error))
    detail = detail_of(error)
    field = error.field if isinstance(error, InvalidRequestError) else None
    errors = [FieldProblem(field=field, message=error.message)] if field is not None else []
    return problem(status, error.code, detail, errors=errors, headers=_headers(error, status))


def _headers(error: SessionctlError, status: HTTPStatus) -> dict[str, str]:
    headers = {}
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(int(error.retry_after))
    elif isinstance(error, InProgressError):
        headers["Retry-After"] = str(_IN_PROGRESS_SECONDS)
    elif status in _RETRY_AFTER:
        headers["Retry-After"] = str(_RETRY_AFTER[status])
    return headers


def unexpected() -> Response:
    """Return what a bug looks like from outside."""
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, SessionctlError.code, "this is a bug; the log says more")


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(SessionctlError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SessionctlError)  # noqa: S101 - Starlette's signature knows only Exception
    return of_error(error)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    # Never the input itself: it may be somebody's secret in the wrong place.
    found = [FieldProblem(field=_path(each["loc"]), message=str(each["msg"])) for each in error.errors()]
    detail = "; ".join(f"{each.field or 'the request'}: {each.message}" for each in found[:5])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, InvalidRequestError.code, detail, errors=found[:50])


def _path(place: Sequence[str | int]) -> str:
    # The first part says where it was (body, query, path, header); a position in broken JSON is no field.
    return ".".join(part[:80] for part in place[1:] if isinstance(part, str))


async def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.BAD_REQUEST:
        # FastAPI's word for a body that is not even text.
        wrong = FieldProblem(field="", message="the body is not JSON in UTF-8")
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, InvalidRequestError.code, wrong.message, errors=[wrong])
    code = _CODES.get(status, status.name.lower())
    return problem(status, code, str(error.detail), headers=error.headers)
