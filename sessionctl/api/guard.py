"""The way into every call but the public ones: who asks, how often, and may they; before the body is read."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from sessionctl.api.problems import status_of
from sessionctl.api.services import Services
from sessionctl.core.admission import Admitted, Credentials
from sessionctl.core.identity import parse_session_id
from sessionctl.errors import (
    ClusterError,
    InsufficientScopeError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    SessionctlError,
    StoreError,
    UnauthenticatedError,
    UnavailableError,
)
from sessionctl.models import Scope, SessionId
from sessionctl.wire import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SCOPE: Final = "x-required-scope"
"""Where a route, and so the OpenAPI document, says what it needs."""

_EVERY_CALL: Final = (
    UnauthenticatedError,
    InsufficientScopeError,
    InvalidRequestError,
    RateLimitedError,
    ClusterError,
    StoreError,
    UnavailableError,
    SessionctlError,
)


class GuardedRoute(APIRoute):
    """A route that nobody passes without a credential; made with ``guarded``."""

    @property
    def scope(self) -> Scope:
        """What it needs."""
        return Scope((self.openapi_extra or {})[SCOPE])

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Put the guard before what FastAPI does, which begins with reading the body."""
        handle, scope = super().get_route_handler(), self.scope
        known = {parameter.alias for parameter in self.dependant.query_params}

        async def guard(request: Request) -> Response:
            request.state.admitted = await admit(request, scope)
            for name in request.query_params:
                # One that is misspelt must not be taken for one that was left out: `purge` decides about files.
                if name not in known:
                    raise InvalidRequestError("there is no such parameter", field=name[:80])
            # Read here, what is too large or too slow is told as such; FastAPI would call it bad syntax.
            await request.body()
            return await handle(request)

        return guard


async def admit(request: Request, scope: Scope) -> Admitted:
    """Admit a request or raise what core says of it."""
    gatekeeper = services_of(request).gatekeeper
    caller = await gatekeeper.identify(_credentials(request))
    request.state.caller = caller.name
    session_id = _session_id(request.path_params["uuid"]) if "uuid" in request.path_params else None
    return await gatekeeper.admit(caller, scope, session_id)


def _credentials(request: Request) -> Credentials:
    keys, authorizations = request.headers.getlist("x-api-key"), request.headers.getlist("authorization")
    if len(keys) > 1 or len(authorizations) > 1:
        raise UnauthenticatedError("send one credential")
    token = None
    if authorizations:
        scheme, _, token = authorizations[0].partition(" ")
        if scheme.lower() != "bearer":
            raise UnauthenticatedError("Authorization takes a session token, as Bearer")
    return Credentials(keys[0] if keys else None, token.strip() if token is not None else None)


def _session_id(text: str) -> SessionId:
    try:
        return parse_session_id(text)
    except InvalidRequestError:
        raise InvalidRequestError("should be a lower-case UUID of version 4", field="uuid") from None


def services_of(request: Request) -> Services:
    """Return what requests are answered with."""
    found = request.app.state.services
    assert isinstance(found, Services)  # noqa: S101 - the application was made with it
    return found


async def _admitted(request: Request) -> Admitted:
    found = request.state.admitted
    assert isinstance(found, Admitted)  # noqa: S101 - only guarded routes ask
    return found


async def _session(uuid: str) -> SessionId:
    """Return the session that the path names, which the guard has seen."""
    return SessionId(uuid)


async def _services(request: Request) -> Services:
    return services_of(request)


Given = Annotated[Services, Depends(_services)]
Who = Annotated[Admitted, Depends(_admitted)]
Session = Annotated[SessionId, Depends(_session)]


def guarded(scope: Scope, *errors: type[SessionctlError], status: HTTPStatus = HTTPStatus.OK) -> dict[str, Any]:
    """Return what a route says of itself: its scope, its status, and the errors it may answer."""
    return {
        "status_code": int(status),
        "openapi_extra": {SCOPE: str(scope)},
        "responses": answers(*_EVERY_CALL, NotFoundError, *errors),
    }


def answers(*errors: type[SessionctlError]) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of error answers."""
    codes: dict[int, list[str]] = {}
    for error in errors:
        found = codes.setdefault(int(status_of(error)), [])
        if error.code not in found:
            found.append(error.code)
    return {status: {"model": Problem, "description": ", ".join(names)} for status, names in sorted(codes.items())}
