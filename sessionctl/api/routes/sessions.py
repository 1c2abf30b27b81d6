"""create, list, delete, restore."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Header, Query

from sessionctl.api.guard import Given, GuardedRoute, Session, Who, guarded
from sessionctl.core.cursors import parse_cursor
from sessionctl.core.identity import new_session_id, parse_name, parse_user_id
from sessionctl.core.reports import report
from sessionctl.core.sessions import NewSession
from sessionctl.errors import (
    ConflictError,
    DeadlineExceededError,
    HelmError,
    InProgressError,
    InvalidRequestError,
    KeyReusedError,
    NotFoundError,
    QuotaExceededError,
    TooLargeError,
)
from sessionctl.labels import session_url
from sessionctl.models import Scope, SessionId, SessionStatus
from sessionctl.wire import Action, CreatedReport, CreateRequest, SessionList

MAX_PAGE: Final = 500

Found = TypeVar("Found")

router = APIRouter(route_class=GuardedRoute, tags=["sessions"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Send the same key to repeat a request whose answer was lost: it is done once.",
    ),
]


@router.post(
    "/session/create",
    **guarded(
        Scope.WRITE,
        KeyReusedError,
        InProgressError,
        ConflictError,
        QuotaExceededError,
        TooLargeError,
        HelmError,
        status=HTTPStatus.CREATED,
    ),
)
async def create(
    services: Given, who: Who, body: CreateRequest, idempotency_key: IdempotencyKey = None
) -> CreatedReport:
    """Create a session for a user: asleep, with its own id, volume and address."""
    user_id = _field("user_id", lambda: parse_user_id(body.user_id))
    profile = _field("profile", lambda: parse_name("profile", body.profile))
    tenant = _own_tenant(who, body.tenant)
    await services.throttle.take_user(tenant, user_id)
    request = {"call": "create", "user_id": user_id, "profile": profile}
    session_id = await services.idempotency.bind(tenant, idempotency_key, request, new_session_id())
    wanted = NewSession(user_id=user_id, tenant=tenant, profile=profile, session_id=SessionId(session_id))
    try:
        async with services.sessions() as sessions:
            made = await sessions.create(wanted)
    except NotFoundError as error:
        raise InvalidRequestError(error.message, field="profile") from error
    return CreatedReport(
        uuid=made.session_id,
        user_id=made.owner.user_id,
        status="created",
        created_at=made.owner.created_at,
        url=session_url(made.session_id, services.settings.sessions.domain),
    )


def _own_tenant(who: Who, wanted: str | None) -> str:
    if wanted not in {None, who.caller.tenant}:
        raise InvalidRequestError(f"the API key is of the tenant {who.caller.tenant}, and of no other", field="tenant")
    return who.caller.tenant


def _field(name: str, parse: Callable[[], Found]) -> Found:
    try:
        return parse()
    except InvalidRequestError as error:
        raise InvalidRequestError(error.message, field=name) from None


@router.get("/sessions", **guarded(Scope.READ))
async def list_sessions(
    services: Given,
    who: Who,
    user_id: Annotated[str | None, Query(min_length=1, max_length=256, description="Only of this user.")] = None,
    status: Annotated[SessionStatus | None, Query(description="Only in this state.")] = None,
    tenant: Annotated[str | None, Query(max_length=63, description="Refused unless it is the key's own.")] = None,
    cursor: Annotated[str | None, Query(max_length=200, description="Of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> SessionList:
    """List the tenant's sessions, oldest first; deleted ones that can be restored with ``status=deleted``."""
    if cursor is not None:
        _field("cursor", lambda: parse_cursor(cursor))
    page = await services.views.list_sessions(
        user_id=user_id, tenant=_own_tenant(who, tenant), status=status, limit=limit, cursor=cursor
    )
    now = services.clock.now()
    return SessionList(sessions=tuple(report(view, now) for view in page.sessions), cursor=page.cursor)


@router.delete(
    "/session/{uuid}",
    response_model_exclude_none=True,
    **guarded(Scope.WRITE, ConflictError, HelmError, DeadlineExceededError, status=HTTPStatus.ACCEPTED),
)
async def delete(
    services: Given,
    session_id: Session,
    purge: Annotated[bool, Query(description="Remove the volume too: the files are gone for good.")] = False,
) -> Action:
    """Delete a session; its files are kept for the retention time."""
    async with services.sessions() as sessions:
        kept = await sessions.delete(session_id, purge=purge)
    return Action(uuid=session_id, action="delete", status="deleted" if kept is not None else "purged")


@router.post(
    "/session/{uuid}/restore",
    response_model_exclude_none=True,
    **guarded(Scope.WRITE, ConflictError, HelmError, DeadlineExceededError),
)
async def restore(services: Given, session_id: Session) -> Action:
    """Bring a deleted session back within its retention time: same id, same files, asleep."""
    async with services.sessions() as sessions:
        await sessions.restore(session_id)
    return Action(uuid=session_id, action="restore", status="restored")
