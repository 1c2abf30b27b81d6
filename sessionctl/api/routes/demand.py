"""wake, sleep: whether a session is awake."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query

from sessionctl.api.guard import Given, GuardedRoute, Session, guarded
from sessionctl.errors import ConflictError, DemandGateClosedError, OutcomeUnknownError, QuotaExceededError
from sessionctl.models import Scope
from sessionctl.wire import Action

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
    await services.chats.sleep(session_id, force=force)
    return Action(uuid=session_id, action="sleep", status="sleeping")
