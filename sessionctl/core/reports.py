"""From what core knows to the shapes that leave us: the same for the command line and the HTTP API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sessionctl.wire import Event, Holder, SessionBody, SessionReport, Why

if TYPE_CHECKING:
    from sessionctl.models import SessionView, StoredEvent, WhyView


def report(view: SessionView, now: datetime) -> SessionReport:
    """Translate a view into the shape that leaves sessionctl."""
    return SessionReport(
        uuid=view.session_id,
        session=SessionBody(
            user_id=view.owner.user_id,
            tenant=view.owner.tenant,
            profile=view.owner.profile,
            status=view.status,
            reason=view.reason,
            url=view.url,
            created_at=view.owner.created_at,
            last_active=view.last_active,
            deleted_at=view.deleted_at,
            restorable_until=view.restorable_until,
        ),
        queue_length=view.queue_length,
        replicas=view.replicas,
        ready_replicas=view.ready_replicas,
        timestamp=now,
        notices=view.notices,
    )


def event(stored: StoredEvent) -> Event:
    """Translate an event into the shape that leaves sessionctl."""
    return Event(
        id=stored.event_id,
        event=stored.kind,
        uuid=stored.session_id,
        at=datetime.fromtimestamp(stored.milliseconds / 1000, UTC),
        detail=stored.detail,
        message_id=stored.message_id or None,
        outcome=stored.outcome,
    )


def why_report(view: WhyView, now: datetime) -> Why:
    """Translate an explanation into the shape that leaves sessionctl."""
    return Why(
        uuid=view.session_id,
        status=view.status,
        reason=view.reason,
        awake=view.awake,
        held_by=tuple(Holder(kind=each.kind, detail=each.detail, until=each.until) for each in view.held_by),
        sleeps_at=view.sleeps_at,
        expires_at=view.expires_at,
        deleted_for_good_at=view.deleted_for_good_at,
        limits=view.limits,
        timestamp=now,
    )
