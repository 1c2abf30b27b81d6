"""Workspaces as the API server would show them, for tests that need no cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sessionctl.core.identity import new_session_id
from sessionctl.models import Owner, SessionId, Workspace

HOLD = timedelta(seconds=15)
"""How long a message that finds an empty list may wait."""
CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)


def make_workspace(
    session_id: SessionId | None = None,
    *,
    replicas: int = 0,
    user_id: str = "alice",
    woken_at: int | None = None,
    slept_at: int | None = None,
    deleted_at: datetime | None = None,
) -> Workspace:
    """Return a Deployment as it would be seen; a fresh session without an id."""
    return Workspace(
        session_id=session_id or new_session_id(),
        owner=Owner(user_id=user_id, tenant="default", profile="default", created_at=CREATED_AT),
        resource_version="1",
        replicas=replicas,
        ready_replicas=replicas,
        keeps_volume=True,
        woken_at=woken_at,
        slept_at=slept_at,
        deleted_at=deleted_at,
        purge=False,
    )
