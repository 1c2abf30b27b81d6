"""What happens to sessions, and how messages end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sessionctl.models.basics import SessionId


class MessageOutcome(StrEnum):
    """How a chat message ended; each accepted one ends in exactly one of these (DESIGN 1)."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


class EventKind(StrEnum):
    """What can happen to a session: the kinds of ``events:<uuid>``, and a counter each."""

    CREATED = "created"
    WOKEN = "woken"
    READY = "ready"
    SLEPT = "slept"
    ADOPTED = "adopted"
    """Demand from outside was found where the session would have been put to sleep."""
    GUARD_WOKEN = "guard-woken"
    """It was asleep against its demand, and the watch guard woke it."""
    SLEEP_REFUSED = "sleep-refused"
    """The release was answered, but the Deployment moved or did not answer: judged anew."""
    AGENT_SILENT = "agent-silent"
    UNKNOWN_LIMIT = "unknown-limit"
    """Its agent was silent for longer than ``idle.unknownLimit``."""
    HOLD_LIMIT = "hold-limit"
    EDITOR_LIMIT = "editor-limit"
    START_FAILED = "start-failed"
    QUOTA_REFUSED = "quota-refused"
    EXPIRED = "expired"
    """It is older than ``sessions.maxLifetime`` and was deleted while it slept."""
    DELETED = "deleted"
    RESTORED = "restored"
    REPAIRED = "repaired"
    VOLUME_REMOVED = "volume-removed"
    RECORD_REBUILT = "record-rebuilt"
    DEMAND_RESTORED = "demand-restored"
    """Redis was lost or restarted, and its demand has been given back."""
    EDITOR_LOGIN = "editor-login"
    """Somebody logged in to its editor."""
    TOKENS_REVOKED = "tokens-revoked"
    """Tokens, cookies and connections of its editor: all that was granted."""
    MESSAGE_QUEUED = "message-queued"
    MESSAGE_STARTED = "message-started"
    """It has been sent to the agent."""
    MESSAGE_DELTA = "message-delta"
    """The next piece of its reply."""
    MESSAGE_CANCELLING = "message-cancelling"
    """Somebody wishes to cancel it while it runs."""
    MESSAGE_ENDED = "message-ended"
    """A chat has its outcome."""


@dataclass(frozen=True)
class SessionEvent:
    """Something that happened to a session."""

    session_id: SessionId
    kind: EventKind
    detail: str = ""
    """A sentence for people; never a secret, never a user's text."""
    message_id: str = ""
    outcome: MessageOutcome | None = None
    once: str = ""
    """Where several managers see the same thing: an event of this kind with this mark is written once."""


OLDEST_EVENT: Final = "0-0"
"""What comes before every event."""


@dataclass(frozen=True)
class StoredEvent:
    """An event of the stream."""

    session_id: SessionId
    event_id: str
    """Milliseconds since the epoch by the clock of Redis, a hyphen, and a number: ordered, and unique in a session."""
    kind: EventKind
    detail: str = ""
    message_id: str = ""
    outcome: MessageOutcome | None = None
    text: str = ""
    """A user's or an agent's own words: of a message that was queued, or a piece of its reply."""
    attempt: int = 0
    """Of a piece of a reply: those of a later attempt replace those of earlier ones."""
    seq: int = 0
    """The last line of the agent's answer that is in this piece."""
    first_seq: int = 0
    """The first one: one more than ``seq`` of the piece before, unless pieces are missing."""

    @property
    def milliseconds(self) -> int:
        """When it happened."""
        return int(self.event_id.partition("-")[0])


@dataclass(frozen=True)
class EventPage:
    """Some events of a session in order, and where the stream stood just before they were read."""

    events: tuple[StoredEvent, ...]
    last: str
    """Up to where this page goes: the id of its last entry, or the one it was asked to come after."""
    newest: str
    """The newest id of all; ``OLDEST_EVENT`` for a stream that is not there."""
