"""access: the editor's one-time address, and session tokens."""

from __future__ import annotations

import secrets
from http import HTTPStatus

from fastapi import APIRouter, Response

from sessionctl.api.guard import Given, GuardedRoute, Session, Who, guarded
from sessionctl.errors import ConflictError, OutcomeUnknownError
from sessionctl.labels import session_url
from sessionctl.models import Scope
from sessionctl.wire import Access

router = APIRouter(route_class=GuardedRoute, tags=["access"])

TOKEN_SCOPES = frozenset({Scope.READ, Scope.WRITE})
"""What a session token may be good for, as far as the key that asks for it is."""


@router.post("/session/{uuid}/access", **guarded(Scope.ACCESS, ConflictError, OutcomeUnknownError))
async def grant(services: Given, who: Who, session_id: Session, response: Response) -> Access:
    """Make a one-time address of the session's editor, and a token for this session alone."""
    settings = services.settings
    if await services.store.get_record(session_id) is None:
        # Deleted, or forgotten by Redis: tokens are valid for as long as there is a record.
        await services.demand.rebuild_record(session_id)
    token = await services.tokens.issue(session_id, who.caller.tenant, TOKEN_SCOPES & who.caller.scopes)
    code = secrets.token_urlsafe(32)
    await services.store.put_code(code, session_id, settings.api.code_lifetime)
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
    """Make every token of the session invalid."""
    await services.store.revoke_tokens(session_id)
