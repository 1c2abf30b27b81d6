"""``DispatchStore`` on Redis."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.base import StorePart, refuse, writable
from sessionctl.errors import FenceLostError, MessageEndedError
from sessionctl.labels import SESSION_ID
from sessionctl.models import Cancellation, Fence, MessageOutcome, NextMessage, Progress, SessionId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.models import ReplyDelta

MAX_REASON_BYTES: Final = 4096
"""An agent's own words may be among them."""
_MILLISECOND: Final = timedelta(milliseconds=1)


class RedisDispatch(StorePart):
    """Who delivers a session's chats, and what is recorded of them."""

    async def list_pending(self) -> Sequence[SessionId]:
        """See ``ports.DispatchStore``."""
        with self._translated():
            found = await self._client.smembers(keys.DISPATCH_PENDING)
        return [SessionId(text) for text in map(str, found) if SESSION_ID.fullmatch(text)]

    async def take_dispatch(self, session_id: SessionId, owner: str, lifetime: timedelta) -> Fence | None:
        """See ``ports.DispatchStore``."""
        word, *number = await self._run_fields(
            "take_dispatch",
            [keys.record(session_id), keys.dispatch_lock(session_id), keys.DISPATCH_PENDING],
            [session_id, owner, lifetime // _MILLISECOND],
        )
        refuse(session_id, word)
        return Fence(session_id=session_id, number=int(number[0]), owner=owner) if number else None

    async def renew_dispatch(self, fence: Fence, lifetime: timedelta) -> Sequence[str]:
        """See ``ports.DispatchStore``."""
        word, *cancelling = await self._run_fields(
            "renew_dispatch",
            [keys.record(fence.session_id), keys.dispatch_lock(fence.session_id)],
            [fence.token, lifetime // _MILLISECOND],
        )
        _check(fence, word)
        return cancelling

    async def drop_dispatch(self, fence: Fence) -> None:
        """See ``ports.DispatchStore``."""
        await self._run(
            "drop_dispatch", [keys.record(fence.session_id), keys.dispatch_lock(fence.session_id)], [fence.token]
        )

    async def get_next(self, fence: Fence) -> NextMessage | None:
        """See ``ports.DispatchStore``."""
        session_id = fence.session_id
        word, *answer = await self._run_fields(
            "get_next",
            [
                keys.record(session_id),
                keys.dispatch_lock(session_id),
                keys.queue(session_id),
                keys.DISPATCH_PENDING,
                keys.events(session_id),
                keys.marks(session_id),
                keys.tombstone(session_id),
            ],
            [*self._endings(session_id), session_id, fence.token],
        )
        _check(fence, word)
        return _decode(*answer) if answer else None

    async def start_message(self, fence: Fence, message_id: str, pod: str) -> None:
        """See ``ports.DispatchStore``."""
        word = await self._run(
            "start_message", self._written(fence.session_id), [*self._caps, fence.token, message_id, pod]
        )
        _check(fence, str(word), message_id)

    async def append_reply(
        self, fence: Fence, message_id: str, piece: ReplyDelta, first_seq: int, total_bytes: int = 0
    ) -> None:
        """See ``ports.DispatchStore``."""
        word = await self._run(
            "append_reply",
            self._written(fence.session_id),
            [
                *self._caps,
                fence.token,
                message_id,
                piece.attempt,
                first_seq,
                piece.seq,
                writable(piece.text),
                total_bytes,
            ],
        )
        _check(fence, str(word), message_id)

    async def finish_message(self, fence: Fence, message_id: str, outcome: MessageOutcome, reason: str) -> None:
        """See ``ports.DispatchStore``."""
        session_id = fence.session_id
        record, *history = self._written(session_id)
        reason = writable(reason).encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        word = await self._run(
            "finish_message",
            [record, keys.queue(session_id), *history],
            [*self._endings(session_id), fence.token, message_id, outcome, reason],
        )
        _check(fence, str(word))

    async def cancel_message(self, session_id: SessionId, message_id: str) -> Cancellation:
        """See ``ports.DispatchStore``."""
        record, *history = self._written(session_id)
        word = await self._run(
            "cancel_message",
            [record, keys.queue(session_id), *history],
            [*self._endings(session_id), message_id],
        )
        return Cancellation(str(word))

    async def get_outcome(self, session_id: SessionId, message_id: str) -> MessageOutcome | None:
        """See ``ports.DispatchStore``."""
        with self._translated():
            ended = await self._client.get(keys.ended(session_id, message_id))
        return MessageOutcome(str(ended).partition(" ")[0]) if ended else None

    def _written(self, session_id: SessionId) -> list[str]:
        return [
            keys.record(session_id),
            keys.events(session_id),
            keys.marks(session_id),
            keys.tombstone(session_id),
        ]


def _check(fence: Fence, word: str, message_id: str | None = None) -> None:
    """Raise what a script's refusal means; that a message has ended is one only where the message is named."""
    if word == "lost":
        msg = f"the right to deliver the messages of session {fence.session_id} is lost"
        raise FenceLostError(msg, hint="Whoever has it now goes on.")
    if word == "ended" and message_id is not None:
        msg = f"message {message_id} of session {fence.session_id} has its outcome"
        raise MessageEndedError(msg)


def _decode(message_id: str, element: str, state: str, user_id: str, cancelling: str, now: str) -> NextMessage:
    chat = json.loads(state)
    hold = int(chat.get("hold", 0))
    return NextMessage(
        message_id=message_id,
        message=str(json.loads(element)["message"]),
        user_id=user_id,
        queued_at=int(chat.get("at", 0)),
        hold_until=hold if hold > int(now) else None,
        now=int(now),
        filled_at=int(chat.get("filled", 0)),
        started_in=chat.get("pod"),
        progress=Progress(attempt=int(chat.get("attempt", 0)), seq=int(chat.get("seq", 0))),
        reply_bytes=int(chat.get("bytes", 0)),
        cancelling=cancelling == "1",
    )
