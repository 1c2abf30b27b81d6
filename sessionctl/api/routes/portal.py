"""The demo portal: one page on the public API, a login without a password, and the way into the editor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, HTTPException, Query, Request, Response

from sessionctl.api.guard import Given
from sessionctl.core.identity import parse_session_id
from sessionctl.core.portal import TENANT, VISIT_SCOPES, VISITOR, Portal
from sessionctl.errors import InvalidRequestError, NotFoundError
from sessionctl.labels import session_url
from sessionctl.wire import PortalLogin, PortalVisit

if TYPE_CHECKING:
    from sessionctl.api.services import Services
    from sessionctl.models import SessionId

COOKIE: Final = "__Host-portal"
COOKIE_SECONDS: Final = 12 * 3600
HOME: Final = "/portal/"
_PAGES: Final = {
    "": ("index.html", "text/html; charset=utf-8"),
    "portal.css": ("portal.css", "text/css; charset=utf-8"),
    "portal.js": ("portal.js", "text/javascript; charset=utf-8"),
}
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # As new as the manager that answers.
    "Cache-Control": "no-cache",
}

router = APIRouter(prefix="/portal", include_in_schema=False)


@router.get("")
async def arrive() -> Response:
    """Lead to the page, whose links are relative to its folder."""
    return _to(HOME)


@router.get("/")
@router.get("/portal.css")
@router.get("/portal.js")
async def page(request: Request) -> Response:
    """Return the page or what belongs to it."""
    name, kind = _PAGES[request.url.path.rpartition("/")[2]]
    return Response(_read(name), headers=dict(_HEADERS), media_type=kind)


@cache
def _read(name: str) -> bytes:
    return (files("sessionctl.api") / "portal" / name).read_bytes()


@router.post("/login")
async def log_in(request: Request, services: Given, body: PortalLogin, response: Response) -> PortalVisit:
    """Give the page a token of the session of this name, which is made if there is none."""
    _check_origin(request)
    request.state.caller = VISITOR.name
    session_id = await _portal(services).enter(body.name)
    await _ensure_record(services, session_id)
    token = await services.tokens.issue(session_id, TENANT, VISIT_SCOPES)
    response.headers["Cache-Control"] = "no-store"
    # The name as it is: who may give any name gains nothing by writing another one into the cookie.
    response.set_cookie(COOKIE, quote(body.name, safe=""), COOKIE_SECONDS, secure=True, httponly=True, samesite="lax")
    return PortalVisit(
        name=body.name,
        uuid=session_id,
        token=token.text,
        expires_at=token.expires_at,
        editor_url=_editor_url(services, session_id),
    )


def _check_origin(request: Request) -> None:
    """Refuse pages of others: workspaces are siblings of this host, so a cookie's SameSite does not keep them out."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = site != "same-origin" if site is not None else origin is not None and not _is_ours(request, origin)
    if foreign:
        raise HTTPException(HTTPStatus.FORBIDDEN, "the portal is used by its own page only")


def _is_ours(request: Request, origin: str) -> bool:
    # A proxy may drop the port.
    return urlsplit(origin).hostname == urlsplit(f"//{request.headers.get('host', '')}").hostname


def _editor_url(services: Services, session_id: SessionId) -> str:
    if services.settings.editor.login_url:
        # The router sends whoever has no cookie yet to a login that knows the browser, and so asks nothing.
        return session_url(session_id, services.settings.sessions.domain)
    return f"{HOME}editor?session={session_id}"


@router.get("/editor")
async def editor(
    request: Request,
    services: Given,
    session: Annotated[str, Query(max_length=64)],
    state: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """Send a browser into the editor of its own session; the router sends it here (``config.editor.loginUrl``)."""
    request.state.caller = VISITOR.name
    name = unquote(request.cookies.get(COOKIE, ""))
    try:
        session_id = parse_session_id(session)
        owner = await _portal(services).owner_of(name, session_id)
        await _ensure_record(services, session_id)
        code = await services.editors.logins.grant(session_id, owner, state)
    except (InvalidRequestError, NotFoundError):
        # Whoever comes from the editor's address sees a page.
        return _to(f"{HOME}#{'not-yours' if name else 'who-are-you'}")
    domain = services.settings.sessions.domain
    return _to(f"{session_url(session_id, domain)}_session/login?code={code}")


def _portal(services: Services) -> Portal:
    return Portal(
        views=services.views,
        tenancy=services.tenancy,
        throttle=services.throttle,
        store=services.store,
        idempotency=services.idempotency,
        open_sessions=services.sessions,
        max_sessions=services.settings.portal.max_sessions,
    )


async def _ensure_record(services: Services, session_id: SessionId) -> None:
    if await services.store.get_record(session_id) is None:
        # Tokens are valid for as long as there is a record.
        await services.demand.rebuild_record(session_id)


def _to(place: str) -> Response:
    headers = {"Location": place, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return Response(status_code=HTTPStatus.SEE_OTHER, headers=headers)
