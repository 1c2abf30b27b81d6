"""status, why: what there is to know of a session. Nothing here wakes it."""

from __future__ import annotations

from fastapi import APIRouter

from sessionctl.api.guard import Given, GuardedRoute, Session, guarded
from sessionctl.core.reports import report, why_report
from sessionctl.models import Scope
from sessionctl.wire import SessionReport, Why

router = APIRouter(route_class=GuardedRoute, tags=["sessions"])


@router.get("/session/{uuid}/status", **guarded(Scope.READ))
async def status(services: Given, session_id: Session) -> SessionReport:
    """Show one session: its state, its replicas, what waits in its queue."""
    return report(await services.views.get_status(session_id), services.clock.now())


@router.get("/session/{uuid}/why", **guarded(Scope.READ))
async def why(services: Given, session_id: Session) -> Why:
    """Say what holds a session awake, when it will sleep, why it does not start, and which limits it has reached."""
    return why_report(await services.whys.explain(session_id), services.clock.now())
