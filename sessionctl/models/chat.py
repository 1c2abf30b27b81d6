"""Chats on their way: who delivers them, how far an answer has come, what an agent says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from sessionctl.models.basics import SessionId
    from sessionctl.models.events import MessageOutcome


@dataclass(frozen=True)
class Fence:
    """The right to deliver a session's chats, until somebody else has it."""

    session_id: SessionId
    number: int
    """Greater than that of whoever had the right before."""
    owner: str

    @property
    def token(self) -> str:
        """The value of the lock while this one holds."""
        return f"{self.number}:{self.owner}"


@dataclass(frozen=True)
class Progress:
    """The last line of an answer that is recorded; ``attempt`` 0 when there is none."""

    attempt: int = 0
    seq: int = 0


@dataclass(frozen=True)
class NextMessage:
    """The first chat in the list, as whoever delivers it finds it."""

    message_id: str
    message: str
    user_id: str
    queued_at: int
    """Milliseconds since the epoch by the clock of Redis."""
    hold_until: int | None = None
    """Until then (clock of Redis) a pod that was there at ``filled_at`` may still be taken down; None when none may."""
    now: int = 0
    """The clock of Redis."""
    filled_at: int = 0
    """When the list was last seen empty (clock of Redis), by this message or by a wake before it."""
    started_in: str | None = None
    """The pod that it was sent to; None when it was never sent."""
    progress: Progress = Progress()
    reply_bytes: int = 0
    """Of the attempt so far, whether or not they were kept."""
    cancelling: bool = False


class Cancellation(StrEnum):
    """What became of the wish to cancel a chat."""

    CANCELLED = "cancelled"
    """It had not begun and has this outcome now, or has it already."""
    CANCELLING = "cancelling"
    """It was sent to its agent: whoever delivers it has been told."""
    ENDED = "ended"
    """It has another outcome already."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class AgentMessage:
    """A chat as an agent is asked to run it, or to go on telling of it."""

    session_id: SessionId
    message_id: str
    message: str
    user_id: str
    resume: Progress = Progress()
    """The answer is wanted from the line after this one."""
    begun: bool = False
    """It was begun before: an agent that does not know of it has lost its files, and must not begin it again."""


@dataclass(frozen=True)
class ReplyDelta:
    """One line of an agent's answer: the next piece of the reply."""

    attempt: int
    seq: int
    text: str


@dataclass(frozen=True)
class ReplyEnd:
    """The last line of an agent's answer."""

    attempt: int
    seq: int
    outcome: MessageOutcome
    reason: str = ""


@dataclass(frozen=True)
class ChatEntry:
    """One message of a conversation. ``outcome`` is None while it waits or runs."""

    message_id: str
    message: str
    running: bool = False
    outcome: MessageOutcome | None = None
    reason: str = ""
    reply: str | None = None
    cut: bool = False
    """One of the texts is longer than what its agent shows of it."""
    at: datetime | None = None


@dataclass(frozen=True)
class ChatPage:
    """Some of a conversation, oldest first. ``partial`` says that the workspace was not asked, because it sleeps."""

    entries: tuple[ChatEntry, ...]
    partial: bool
    cursor: str | None = None
    """Give it back to get what comes before; None when there is no more."""
