"""access: the editor's one-time address, and session tokens."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response

from sessionctl.api.guard import Given, GuardedRoute, Session, Who, guarded
from sessionctl.core.demand import unknown_session
from sessionctl.errors import ConflictError, OutcomeUnknownError
from sessionctl.labels import session_url
from sessionctl.models import Scope
from sessionctl.wire import Access, AccessRequest

router = APIRouter(route_class=GuardedRoute, tags=["access"])

TOKEN_SCOPES = frozenset({Scope.READ, Scope.WRITE})
"""What a session token may be good for, as far as the key that asks for it is."""


@router.post("/session/{uuid}/access", **guarded(Scope.ACCESS, ConflictError, OutcomeUnknownError))
async def grant(
    services: Given, who: Who, session_id: Session, response: Response, body: AccessRequest | None = None
) -> Access:
    """Make a one-time address of the session's editor, and a token for this session alone.

    With ``state`` the address works in the browser that came with it, at once; without, in the first one that opens it,
    and its user is asked.
    """
    settings = services.settings
    if who.owner is None:
        raise unknown_session(session_id)
    if await services.store.get_record(session_id) is None:
        # Deleted, or forgotten by Redis: tokens are valid for as long as there is a record.
        await services.demand.rebuild_record(session_id)
    token = await services.tokens.issue(session_id, who.caller.tenant, TOKEN_SCOPES & who.caller.scopes)
    code = await services.editors.logins.grant(session_id, who.owner, body.state if body else None)
    response.headers["Cache-Control"] = "no-store"
    return Access(
        uuid=session_id,
        url=f"{session_url(session_id, settings.sessions.domain)}_session/login?code={code}",
        url_expires_at=services.clock.now() + settings.api.code_lifetime,
        token=token.text,
        expires_at=token.expires_at,
        scopes=tuple(sorted(token.scopes)),
    )


@router.delete(
    "/session/{uuid}/access",
    response_class=Response,
    **guarded(Scope.ACCESS, OutcomeUnknownError, status=HTTPStatus.NO_CONTENT),
)
async def revoke(services: Given, session_id: Session) -> None:
    """Make every token, login and unused address of the session invalid, and close its editor's open connections.

    Takes some seconds for a session that is awake: whoever is cut off and comes back at once is cut off again.
    """
    await services.editors.revocations.revoke(session_id)
