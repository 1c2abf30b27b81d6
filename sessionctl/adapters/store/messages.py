"""``MessageStore`` on Redis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.base import StorePart, writable
from sessionctl.models import WaitingMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.models import MessageOutcome, SessionId


class RedisMessages(StorePart):
    """Chats in the demand list."""

    async def has_message(self, session_id: SessionId, message_id: str) -> bool:
        """See ``ports.MessageStore``."""
        with self._translated():
            return bool(await self._client.hexists(keys.record(session_id), f"message:{message_id}"))

    async def list_waiting(self, session_id: SessionId) -> Sequence[WaitingMessage]:
        """See ``ports.MessageStore``."""
        found = await self._run_fields("list_waiting", [keys.queue(session_id), keys.record(session_id)], [])
        return [
            _decode(json.loads(chat), running=sent == "1") for chat, sent in zip(found[::2], found[1::2], strict=True)
        ]

    async def settle_waiting(
        self, session_id: SessionId, outcome: MessageOutcome, reason: str, woken_at: int | None = None
    ) -> Sequence[str]:
        """See ``ports.MessageStore``."""
        return await self._run_fields(
            "settle_waiting",
            [
                keys.record(session_id),
                keys.queue(session_id),
                keys.tombstone(session_id),
                keys.DISPATCH_PENDING,
                keys.events(session_id),
                keys.marks(session_id),
                keys.EPOCH,
            ],
            [*self._endings(session_id), session_id, outcome, writable(reason), "" if woken_at is None else woken_at],
        )


def _decode(chat: dict[str, object], *, running: bool) -> WaitingMessage:
    return WaitingMessage(message_id=str(chat["id"]), message=str(chat.get("message", "")), running=running)
