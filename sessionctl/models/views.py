"""What is known of a session, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sessionctl.models.basics import Owner, SessionId, SessionStatus


@dataclass(frozen=True)
class Activity:
    """What the agent says of its workspace: ages, never timestamps, so that no clock has to agree (DESIGN 5)."""

    message_running: bool = False
    hold: timedelta | None = None
    """How long the present ``hold`` has lasted."""
    editor_input: timedelta | None = None
    """How long ago somebody typed."""
    editor_connected: timedelta | None = None
    """How long the oldest open editor connection has been there."""


@dataclass(frozen=True)
class SessionView:
    """One session as ``status`` and ``list`` show it."""

    session_id: SessionId
    owner: Owner
    status: SessionStatus
    reason: str | None
    url: str
    replicas: int
    ready_replicas: int
    queue_length: int | None
    """None when Redis did not answer."""
    last_active: datetime | None = None
    deleted_at: datetime | None = None
    restorable_until: datetime | None = None
    notices: tuple[str, ...] = field(default=())
