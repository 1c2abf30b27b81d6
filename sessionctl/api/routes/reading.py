"""status, why, messages: what there is to know of a session. Nothing here wakes it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from sessionctl.api.guard import Given, GuardedRoute, Session, guarded
from sessionctl.core.reports import report, why_report
from sessionctl.models import Scope
from sessionctl.wire import ChatMessage, Conversation, SessionReport, Why

router = APIRouter(route_class=GuardedRoute, tags=["sessions"])


@router.get("/session/{uuid}/status", **guarded(Scope.READ))
async def status(services: Given, session_id: Session) -> SessionReport:
    """Show one session: its state, its replicas, what waits in its queue."""
    return report(await services.views.get_status(session_id), services.clock.now())


@router.get("/session/{uuid}/why", **guarded(Scope.READ))
async def why(services: Given, session_id: Session) -> Why:
    """Say what holds a session awake, when it will sleep, why it does not start, and which limits it has reached."""
    return why_report(await services.whys.explain(session_id), services.clock.now())


@router.get("/session/{uuid}/messages", **guarded(Scope.READ))
async def messages(
    services: Given,
    session_id: Session,
    cursor: Annotated[str | None, Query(max_length=128, description="Of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> Conversation:
    """Show the conversation, as far as Redis holds it."""
    waiting = await services.store.list_waiting(session_id)
    ids = [message.message_id for message in waiting]
    start = ids.index(cursor) + 1 if cursor in ids else 0
    chosen = waiting[start : start + limit]
    found = [ChatMessage(message_id=each.message_id, message=each.message, status="queued") for each in chosen]
    more = len(waiting) > start + limit
    return Conversation(
        uuid=session_id, messages=tuple(found), partial=True, cursor=found[-1].message_id if more else None
    )
