"""The calls about what is said to a session's agent, and about what happens."""

from __future__ import annotations

import json
import math
import time
import uuid
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final, overload

from sessionctl.client.calls import Calls, idempotent, session_path
from sessionctl.client.replies import ReplyStream
from sessionctl.client.transport import Opening
from sessionctl.errors import InvalidRequestError
from sessionctl.labels import MESSAGE_ID
from sessionctl.models import EventKind
from sessionctl.wire import CancelledChat, ChatReply, Conversation, Event, QueuedChat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import timedelta

KINDS: Final = frozenset(EventKind)
LONGEST_WAIT_SECONDS: Final = 20
"""One request waits no longer, whoever stands between may end a silent one; the next goes on waiting."""


class ChatCalls(Calls):
    """Part of ``SessionClient``."""

    @overload
    async def chat(self, session_id: str, message: str, *, idempotency_key: str | None = None) -> QueuedChat: ...

    @overload
    async def chat(
        self, session_id: str, message: str, *, wait: timedelta, idempotency_key: str | None = None
    ) -> ChatReply | QueuedChat: ...

    async def chat(
        self, session_id: str, message: str, *, wait: timedelta | None = None, idempotency_key: str | None = None
    ) -> ChatReply | QueuedChat:
        """Store a message for a session and wake it; with ``wait`` return the reply if it is there in time.

        The same ``idempotency_key`` and message again are the same message: whoever lost the answer, or waited in vain,
        asks so once more.
        """
        key = idempotency_key if idempotency_key is not None else str(uuid.uuid4())
        ends = time.monotonic() + (wait.total_seconds() if wait is not None else 0.0)
        while True:
            left = ends - time.monotonic()
            seconds = min(max(1, math.ceil(left)), LONGEST_WAIT_SECONDS)
            params = {"wait": str(seconds)} if wait is not None else {}
            answer = await self._transport.call(
                "POST",
                session_path(session_id, "chat"),
                params=params,
                body={"message": message},
                headers=idempotent(key),
            )
            if not _is_queued(answer):
                return self._read(ChatReply, answer)
            if left <= LONGEST_WAIT_SECONDS:
                return self._read(QueuedChat, answer)

    @asynccontextmanager
    async def stream(
        self, session_id: str, message: str, *, idempotency_key: str | None = None
    ) -> AsyncGenerator[ReplyStream, None]:
        """Send a message and follow its reply; entered when the message is stored.

        Wherever the connection ends, the next one goes on: no piece is missing, none comes twice. Leaving the block
        does not cancel the message: that is ``cancel``.
        """
        async with aclosing(self.chat_events(session_id, message, idempotency_key=idempotency_key)) as events:
            first = await anext(events)
            yield ReplyStream(first.message_id or "", events)

    async def chat_events(
        self, session_id: str, message: str, *, idempotency_key: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """Send a message and yield what happens to it, from ``message-queued`` to ``message-ended``.

        To go on after a cut it needs the right to read, not only that to write.
        """
        headers, message_id = idempotent(idempotency_key), ""

        def opening() -> Opening:
            if not message_id:
                path = session_path(session_id, "chat")
                return Opening(path, "POST", body={"message": message}, headers=headers)
            return Opening(session_path(session_id, "events"), params={"message_id": message_id})

        frames = self._transport.stream(opening, last_id=None, endless=True)
        async with aclosing(frames):
            async for frame in frames:
                if frame.event not in KINDS:
                    continue
                event = self._read(Event, frame.data.encode())
                message_id = event.message_id or message_id
                yield event
                if event.event is EventKind.MESSAGE_ENDED:
                    return

    async def cancel(self, session_id: str, message_id: str) -> CancelledChat:
        """Cancel a message that waits or runs; ConflictError when it has ended already.

        ``cancelling`` says that its agent is about to end it: what comes of it is its outcome.
        """
        if not MESSAGE_ID.fullmatch(message_id):
            msg = f"{message_id[:80]!r} is not the id of a message"
            raise InvalidRequestError(msg, hint="It is in the answer of chat, and in the conversation.")
        path = session_path(session_id, "messages", message_id)
        return self._read(CancelledChat, await self._transport.call("DELETE", path))

    async def messages(self, session_id: str, *, cursor: str | None = None, limit: int | None = None) -> Conversation:
        """Show the newest messages, oldest first, or those before a page's ``cursor``; never wakes the session."""
        params = {"cursor": cursor} if cursor is not None else {}
        params |= {"limit": str(limit)} if limit is not None else {}
        answer = await self._transport.call("GET", session_path(session_id, "messages"), params=params)
        return self._read(Conversation, answer)

    async def events(
        self, session_id: str, *, after: str | None = None, follow: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Yield what happened to a session since the event ``after``, or all that is kept, and then what happens.

        Wherever the connection ends, the next one goes on after the last event: none is missing, none comes twice.
        Without ``follow`` it ends with what is there. Kinds that only a newer server knows are left out.
        """
        opening = Opening(session_path(session_id, "events"), params={} if follow else {"follow": "false"})
        frames = self._transport.stream(lambda: opening, last_id=after, endless=follow)
        try:
            async for frame in frames:
                if frame.event in KINDS:
                    yield self._read(Event, frame.data.encode())
        finally:
            await frames.aclose()


def _is_queued(answer: bytes) -> bool:
    try:
        found = json.loads(answer)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("status") == "queued"
