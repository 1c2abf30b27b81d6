"""A message and its reply, put together from the events that tell of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessionctl.core.moments import moment
from sessionctl.models import ChatEntry, EventKind

if TYPE_CHECKING:
    from datetime import datetime

    from sessionctl.core.holdings import Share
    from sessionctl.models import MessageOutcome, StoredEvent


@dataclass(frozen=True)
class Reply:
    """How a message ended, and what was replied."""

    message_id: str
    outcome: MessageOutcome
    text: str
    reason: str = ""
    partial: bool = False
    """A part of the reply is missing."""


@dataclass
class ReplyDraft:
    """What is known of one message; ``add`` takes its events, in order."""

    message_id: str
    message: str = ""
    at: datetime | None = None
    running: bool = False
    outcome: MessageOutcome | None = None
    reason: str = ""
    share: Share | None = None
    """Where what is held of the reply is counted; None holds all of it."""
    whole: bool = False
    """Nothing is missing of what was told of it."""
    cut: bool = False
    """There was no room for all of the reply: only its beginning is held."""
    _attempt: int = 0
    _seq: int = 0
    _pieces: list[str] = field(default_factory=list)

    def add(self, event: StoredEvent) -> None:
        """Take the next event of the message."""
        match event.kind:
            case EventKind.MESSAGE_QUEUED:
                self.message, self.at, self.whole = event.text, moment_of(event), True
            case EventKind.MESSAGE_STARTED:
                self.running = True
            case EventKind.MESSAGE_DELTA:
                self.running = True
                self._append(event)
            case EventKind.MESSAGE_ENDED:
                self.running, self.outcome, self.reason = False, event.outcome, event.detail
                self.whole = self.whole and not event.lacks(self._attempt, self._seq)
            case _:
                pass

    def _append(self, event: StoredEvent) -> None:
        if event.attempt > self._attempt:
            self._attempt, self._seq = event.attempt, 0
            self._pieces.clear()
            self.whole, self.cut = self.at is not None, False
            if self.share is not None:
                self.share.empty()
        self.whole = self.whole and event.first_seq == self._seq + 1
        self._seq = event.seq
        self.cut = self.cut or not (self.share is None or self.share.take(event.text))
        if not self.cut:
            self._pieces.append(event.text)

    @property
    def text(self) -> str:
        """What was replied so far, by the last attempt."""
        return "".join(self._pieces)

    def entry(self) -> ChatEntry:
        """Return it as part of a conversation."""
        return ChatEntry(
            message_id=self.message_id,
            message=self.message,
            running=self.running,
            outcome=self.outcome,
            reason=self.reason,
            reply=self.text if self.whole and (self._pieces or self.outcome is not None) else None,
            at=self.at,
        )


def moment_of(event: StoredEvent) -> datetime:
    """Return when an event happened."""
    return moment(event.milliseconds)
