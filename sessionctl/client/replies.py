"""A reply as it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessionctl.models import EventKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from sessionctl.models import MessageOutcome
    from sessionctl.wire import Event


@dataclass(frozen=True)
class ReplyPiece:
    """The next piece of a reply."""

    text: str
    replaces: bool = False
    """The message was begun anew: this is the beginning of its reply, and what came before is void."""
    gap: bool = False
    """Something before it is missing: the reader was cut off for longer than the server keeps everything."""


class ReplyStream:
    """An asynchronous iterator of the pieces of one reply; ``outcome`` and ``reason`` are there when it has ended.

    A piece is a part of the agent's text as it happened to come: it need not be a line, or a word.
    """

    def __init__(self, message_id: str, events: AsyncIterator[Event]) -> None:
        self.message_id = message_id
        self.text = ""
        """What was replied so far."""
        self.outcome: MessageOutcome | None = None
        self.reason: str | None = None
        """Why it did not end well."""
        self.partial = False
        """Whether a part of it is missing, because the server keeps it no longer."""
        self._events = events
        self._attempt = 0
        self._seq = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReplyPiece:
        async for event in self._events:
            if event.event is EventKind.MESSAGE_DELTA:
                return self._take(event)
            if event.event is EventKind.MESSAGE_ENDED:
                self.outcome, self.reason = event.outcome, event.detail or None
                self.partial = self.partial or event.lacks(self._attempt, self._seq)
        raise StopAsyncIteration

    def _take(self, event: Event) -> ReplyPiece:
        attempt, text = event.attempt or 1, event.text or ""
        replaces = attempt > self._attempt > 0
        if attempt > self._attempt:
            self._attempt, self._seq, self.text, self.partial = attempt, 0, "", False
        gap = event.first_seq is not None and event.first_seq != self._seq + 1
        self.partial = self.partial or gap
        self._seq = event.seq or 0
        self.text += text
        return ReplyPiece(text, replaces=replaces, gap=gap)
