"""wake, chat, sleep: whether a session is awake."""

from __future__ import annotations

import uuid as uuids
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query

from sessionctl.api.guard import Given, GuardedRoute, Session, Who, guarded
from sessionctl.api.routes.sessions import IdempotencyKey
from sessionctl.errors import (
    ConflictError,
    DemandGateClosedError,
    InvalidRequestError,
    KeyReusedError,
    OutcomeUnknownError,
    QueueFullError,
    QuotaExceededError,
    TooLargeError,
)
from sessionctl.models import Scope
from sessionctl.wire import Action, ChatRequest, QueuedChat

STORED: Final = "stored; it takes effect when the cluster is back"
"""What core says of it names addresses."""

router = APIRouter(route_class=GuardedRoute, tags=["sessions"])


@router.post(
    "/session/{uuid}/wake",
    response_model_exclude_none=True,
    **guarded(Scope.WRITE, ConflictError, QuotaExceededError, OutcomeUnknownError, status=HTTPStatus.ACCEPTED),
)
async def wake(services: Given, session_id: Session) -> Action:
    """Wake a session; one that is awake is counted as used now."""
    stored = await services.demand.wake(session_id) is not None
    return Action(uuid=session_id, action="wake", status="queued", notice=STORED if stored else None)


@router.post(
    "/session/{uuid}/chat",
    **guarded(
        Scope.WRITE,
        ConflictError,
        KeyReusedError,
        QueueFullError,
        QuotaExceededError,
        TooLargeError,
        OutcomeUnknownError,
        status=HTTPStatus.ACCEPTED,
    ),
)
async def chat(
    services: Given, who: Who, session_id: Session, body: ChatRequest, idempotency_key: IdempotencyKey = None
) -> QueuedChat:
    """Store a message for the session's agent and wake the session."""
    try:
        size = len(body.message.encode())
    except UnicodeEncodeError:
        raise InvalidRequestError("holds half of a surrogate pair", field="message") from None
    if size > services.settings.api.max_message_bytes:
        raise InvalidRequestError(f"has more than {services.settings.api.max_message_bytes} bytes", field="message")
    request = {"call": "chat", "uuid": session_id, "message": body.message}
    message_id = await services.idempotency.bind(who.caller.tenant, idempotency_key, request, str(uuids.uuid4()))
    await services.demand.enqueue(session_id, message_id, body.message, services.settings.sessions.max_waiting)
    return QueuedChat(uuid=session_id, message_id=message_id)


@router.post(
    "/session/{uuid}/sleep",
    response_model_exclude_none=True,
    **guarded(Scope.WRITE, ConflictError, DemandGateClosedError, OutcomeUnknownError),
)
async def sleep(
    services: Given,
    session_id: Session,
    force: Annotated[bool, Query(description="Cancel the messages that wait or run.")] = False,
) -> Action:
    """Put a session to sleep now, whatever its idle time."""
    await services.demand.sleep(session_id, force=force)
    return Action(uuid=session_id, action="sleep", status="sleeping")
