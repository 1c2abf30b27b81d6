"""What the router asks, for browsers that open editors (DESIGN 8).

No credential of the API, and none is needed: everything here is decided by the cookie of one session's host, or by a
one-time code. None of it is in the API's document: it is for the router alone.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from sessionctl.api import pages
from sessionctl.api.guard import Given
from sessionctl.api.problems import detail_of, of_error, problem
from sessionctl.api.sse import EventStream
from sessionctl.api.visits import Visit, parameter, read_approach, read_visit
from sessionctl.core.logins import new_state
from sessionctl.core.opening import Phase, Step
from sessionctl.errors import (
    ConflictError,
    NotFoundError,
    SessionctlError,
    UnauthenticatedError,
    UnavailableError,
)
from sessionctl.models import Caller, CodeOutcome, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sessionctl.api.services import Services


class PageRoute(APIRoute):
    """A route whose errors are pages for people, and problems for anything else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Catch what core says."""
        handle = super().get_route_handler()

        async def shown(request: Request) -> Response:
            try:
                return await handle(request)
            except SessionctlError as error:
                told = of_error(error)
                if not read_approach(request).is_page:
                    return told
                said = json.loads(bytes(told.body))["detail"]
                page = pages.message(HTTPStatus(told.status_code), "This does not work at present", said)
                page.headers["Retry-After"] = told.headers.get("Retry-After", str(pages.RETRY_SECONDS))
                return page

        return shown


router = APIRouter(route_class=PageRoute, include_in_schema=False)

SESSION_COOKIE: Final = "__Host-session"
STATE_COOKIE: Final = "__Host-session-state"
STATE_SECONDS: Final = 600
NO_STORE: Final = {"Cache-Control": "no-store"}

_REFUSED: Final = {
    CodeOutcome.OTHER: "It was opened in another browser, or it was made for another one.",
    CodeOutcome.USED: "It has been used already, and each link opens a workspace once.",
    CodeOutcome.UNKNOWN: "It is too old, or it is not of this workspace. A link is good for a minute.",
}
_ASK: Final = "Ask your application for a new one."


@router.get("/router/auth")
async def auth(request: Request, services: Given) -> Response:
    """Say whether a request may pass; one that may is activity."""
    try:
        visit = await _known(request, services)
    except UnavailableError:
        # Told once, not for each request: see the cookies.
        return Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE)
    if visit is None:
        # No header beside it: what a problem carries would reach the browser.
        return Response(status_code=HTTPStatus.UNAUTHORIZED)
    await services.editors.presence.note(visit.session_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get("/router/asleep")
async def asleep(request: Request, services: Given) -> Response:
    """Wake a session whose page somebody opens; wake nothing for anything else that comes to it."""
    visit = await _known(request, services)
    if visit is None:
        return _log_in_again(read_visit(request))
    if not visit.approach.is_navigation:
        headers = NO_STORE | {"Retry-After": str(pages.RETRY_SECONDS)}
        detail = "the workspace is asleep or starting; to open its page wakes it, and nothing else does"
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "asleep", detail, headers=headers)
    return pages.waiting(await _wake(services, visit), pages.local_path(visit.uri))


async def _wake(services: Services, visit: Visit) -> Step:
    session_id = visit.session_id
    try:
        owner = await services.tenancy.find_owner(session_id)
        if owner is None:
            return Step(Phase.GONE)
        # Whoever reloads the page again and again is not more than whoever calls the API.
        caller = Caller(session_id, owner.tenant, frozenset({Scope.WRITE}), session_id)
        await services.throttle.take(caller, owner.user_id, Scope.WRITE)
        stored = await services.demand.wake(session_id)
    except (NotFoundError, ConflictError):
        return Step(Phase.GONE)
    except SessionctlError as error:
        return Step(Phase.FAILED, detail_of(error))
    return Step(Phase.STARTING, "" if stored is None else "the cluster does not answer at present")


@router.api_route("/router/login", methods=["GET", "POST"])
async def login(request: Request, services: Given) -> Response:
    """Turn a one-time code into a cookie, in the browser that it is for."""
    visit = read_visit(request)
    approach, confirmed = visit.approach, visit.approach.method == "POST"
    if not approach.is_page or (confirmed and not approach.is_same_origin):
        # What only looks at links must not use them up, and no other page may press the button.
        return problem(
            HTTPStatus.FORBIDDEN, "not_opened", "a login is for somebody who opens the page", headers=NO_STORE
        )
    code, state = parameter(request, visit, "code"), visit.state or new_state()
    answer = await services.editors.logins.open(visit.session_id, code, state, confirmed=confirmed)
    if answer.login is None:
        said = f"{_REFUSED[answer.outcome]} {_ASK}"
        return pages.message(HTTPStatus.FORBIDDEN, "This link does not open a workspace", said)
    if answer.outcome is CodeOutcome.CONFIRM:
        page = pages.confirmation(answer.login.user_id, code)
        _set_cookie(page, STATE_COOKIE, state, STATE_SECONDS)
        return page
    cookies = services.editors.cookies
    opened = Response(status_code=HTTPStatus.SEE_OTHER, headers=NO_STORE | {"Location": pages.HOME})
    _set_cookie(opened, SESSION_COOKIE, cookies.issue(answer.login), int(cookies.lifetime.total_seconds()))
    _set_cookie(opened, STATE_COOKIE, "", 0)
    return opened


@router.api_route("/router/logout", methods=["GET", "POST"])
async def logout(request: Request, services: Given) -> Response:
    """End every login to the session, and close its editors: a cookie may have been copied."""
    visit = read_visit(request)
    if visit.approach.method != "POST" or not visit.approach.is_same_origin:
        allow = NO_STORE | {"Allow": "POST"}
        return problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Method Not Allowed", headers=allow)
    if await _known(request, services) is not None:
        await services.editors.revocations.revoke(visit.session_id)
    said = "Your workspace is closed in every browser. What runs in it goes on for a while, and your files are kept."
    page = pages.message(HTTPStatus.OK, "You are logged out", said)
    _set_cookie(page, SESSION_COOKIE, "", 0)
    return page


@router.get("/router/wait")
async def wait(request: Request, services: Given) -> Response:
    """Show the wake page again, or go where the browser wanted to go once the editor answers; wakes nothing."""
    visit = read_visit(request)
    to = pages.local_path(parameter(request, visit, "to"))
    onward = Response(status_code=HTTPStatus.SEE_OTHER, headers=NO_STORE | {"Location": to})
    try:
        if await _known(request, services) is None:
            return onward
        step = await services.editors.opening.look(visit.session_id)
    except NotFoundError:
        step = Step(Phase.GONE)
    except SessionctlError as error:
        step = Step(Phase.STARTING, detail_of(error))
    return onward if step.phase is Phase.READY else pages.waiting(step, to)


@router.get("/router/progress")
async def progress(request: Request, services: Given) -> Response:
    """Follow a session until its editor answers: an event for each step; wakes nothing."""
    visit = await _known(request, services)
    if visit is None:
        return Response(status_code=HTTPStatus.UNAUTHORIZED)
    editors = services.editors
    return EventStream(
        source=lambda: editors.opening.follow(visit.session_id),
        render=render,
        streams=editors.watchers,
        caller=visit.session_id,
        still_allowed=lambda: editors.cookies.identify(visit.session_id, visit.cookie),
        ending=services.life.ending,
    )


def render(step: Step) -> bytes:
    """Return one step as it is sent."""
    kind = "ready" if step.phase is Phase.READY else "step"
    data = json.dumps({"phase": step.phase, "reason": step.reason, **pages.words(step)})
    return f"event: {kind}\ndata: {data}\n\n".encode()


async def _known(request: Request, services: Services) -> Visit | None:
    """Return the visit of somebody with a good cookie; raises UnavailableError where nobody can say."""
    try:
        visit = read_visit(request)
        await services.editors.cookies.identify(visit.session_id, visit.cookie)
    except (NotFoundError, UnauthenticatedError):
        return None
    request.state.caller = visit.session_id
    return visit


def _log_in_again(visit: Visit) -> Response:
    if visit.approach.is_page:
        return pages.message(HTTPStatus.UNAUTHORIZED, "You are not logged in", "Ask your application for a link.")
    return problem(HTTPStatus.UNAUTHORIZED, UnauthenticatedError.code, "log in again", headers=NO_STORE)


def _set_cookie(response: Response, name: str, value: str, seconds: int) -> None:
    response.headers.append("Set-Cookie", f"{name}={value}; Max-Age={seconds}; Path=/; Secure; HttpOnly; SameSite=Lax")
