"""From what core knows to the shapes that leave us: the same for the command line and the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sessionctl.core.replies import moment_of
from sessionctl.models import EventKind
from sessionctl.wire import ChatMessage, ChatReply, Conversation, Event, Holder, SessionBody, SessionReport, Why

if TYPE_CHECKING:
    from datetime import datetime

    from sessionctl.core.replies import Reply
    from sessionctl.models import ChatPage, SessionId, SessionView, StoredEvent, WhyView

_OF_WORDS: Final = {EventKind.MESSAGE_QUEUED, EventKind.MESSAGE_DELTA}


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
        at=moment_of(stored),
        detail=stored.detail,
        message_id=stored.message_id or None,
        outcome=stored.outcome,
        text=stored.text if stored.kind in _OF_WORDS else None,
        attempt=stored.attempt or None,
        first_seq=stored.first_seq or None,
        seq=stored.seq or None,
        partial=stored.partial or None,
    )


def chat_reply(session_id: SessionId, reply: Reply) -> ChatReply:
    """Translate a reply into the shape that leaves sessionctl."""
    return ChatReply(
        uuid=session_id,
        status=reply.outcome,
        message_id=reply.message_id,
        reply=reply.text,
        reason=reply.reason or None,
        partial=reply.partial,
    )


def conversation(session_id: SessionId, page: ChatPage) -> Conversation:
    """Translate a page of a conversation into the shape that leaves sessionctl."""
    found = [
        ChatMessage(
            message_id=entry.message_id,
            message=entry.message,
            status=entry.outcome.value if entry.outcome is not None else "running" if entry.running else "queued",
            reply=entry.reply,
            reason=entry.reason or None,
            at=entry.at,
        )
        for entry in page.entries
    ]
    return Conversation(uuid=session_id, messages=tuple(found), partial=page.partial, cursor=page.cursor)


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
