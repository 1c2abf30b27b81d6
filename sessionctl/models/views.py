"""What is known of a session, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
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


@dataclass(frozen=True)
class SessionPage:
    """A part of a list; ``cursor`` leads to what comes after it, None at the end."""

    sessions: tuple[SessionView, ...]
    cursor: str | None = None


class HolderKind(StrEnum):
    """What can hold a session awake."""

    RECENT = "recent"
    """Activity younger than the idle timeout."""
    MESSAGE = "message"
    OUTSIDE = "outside"
    """Demand in its list that is not ours."""
    HOLD = "hold"
    EDITOR = "editor"
    SILENT = "silent"
    """Its agent does not answer, which counts as work."""
    STARTING = "starting"
    GATE = "gate"
    """Nothing may sleep at present."""
    WOKEN = "woken"
    """It has been woken, and its pod is about to be made."""


@dataclass(frozen=True)
class Holder:
    """One reason why a session is awake; ``until`` is when it ends by itself, if nothing else happens."""

    kind: HolderKind
    detail: str
    until: datetime | None = None


@dataclass(frozen=True)
class WhyView:
    """Why a session is awake or asleep; ``wire.Why`` says what the fields mean."""

    session_id: SessionId
    status: SessionStatus
    reason: str | None
    awake: bool
    held_by: tuple[Holder, ...]
    sleeps_at: datetime | None
    expires_at: datetime | None
    deleted_for_good_at: datetime | None
    limits: tuple[str, ...]
