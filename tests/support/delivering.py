"""Delivers one session's chats as a test says, step by step, in the dispatcher's place and over its own port."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.models import MessageOutcome, ReplyDelta
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sessionctl.models import Fence, NextMessage, SessionId
    from sessionctl.ports import Store

_LIFETIME: Final = timedelta(minutes=10)


class Deliverer:
    """Whoever has the right to deliver a session's chats."""

    def __init__(self, store: Store, fence: Fence) -> None:
        self._store = store
        self._fence = fence
        self._at: dict[str, ReplyDelta] = {}

    async def next(self) -> NextMessage:
        """Return the first message that waits or runs, as soon as there is one."""
        # Asked while nothing waits, the store would take the right away.
        await until(lambda: self._store.list_waiting(self._fence.session_id), "a message waits")
        found = await self._store.get_next(self._fence)
        assert found is not None
        return found

    async def begin(self) -> NextMessage:
        """As ``next``, and record that it was sent."""
        found = await self.next()
        await self._store.start_message(self._fence, found.message_id, "pod")
        return found

    async def say(self, message_id: str, *pieces: str, attempt: int = 1) -> None:
        """Append pieces of the reply, each of as many lines as it has characters."""
        for text in pieces:
            last = self._at.get(message_id)
            first = last.seq + 1 if last is not None and last.attempt == attempt else 1
            piece = ReplyDelta(attempt, first + max(1, len(text)) - 1, text)
            await self._store.append_reply(self._fence, message_id, piece, first)
            self._at[message_id] = piece

    async def end(self, message_id: str, outcome: MessageOutcome = MessageOutcome.DONE, reason: str = "") -> None:
        """Give a message its outcome."""
        await self._store.finish_message(self._fence, message_id, outcome, reason)

    async def wished(self) -> list[str]:
        """Return the messages that somebody wishes to cancel."""
        return list(await self._store.renew_dispatch(self._fence, _LIFETIME))

    async def answer(self, *pieces: str, outcome: MessageOutcome = MessageOutcome.DONE, reason: str = "") -> str:
        """Deliver the next message; returns its id."""
        message = await self.begin()
        await self.say(message.message_id, *pieces)
        await self.end(message.message_id, outcome, reason)
        return message.message_id


@asynccontextmanager
async def delivering(store: Store, session_id: SessionId) -> AsyncGenerator[Deliverer, None]:
    """Have the right to deliver a session's chats within the block; no manager has it then."""
    fence = await until(lambda: store.take_dispatch(session_id, "test", _LIFETIME), "nobody else delivers")
    assert fence is not None
    try:
        yield Deliverer(store, fence)
    finally:
        await store.drop_dispatch(fence)
