"""``DemandStore`` on Redis."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.base import StorePart, refuse, writable
from sessionctl.models import Enqueued, EnqueueOutcome, MessageOutcome, Queue, ReleaseOutcome, Woken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.models import SessionId

_MILLISECOND = timedelta(milliseconds=1)


class RedisDemand(StorePart):
    """The demand list: one script per operation."""

    async def wake(self, session_id: SessionId) -> Woken:
        """See ``ports.DemandStore``."""
        return await self.touch(session_id, timedelta())

    async def touch(self, session_id: SessionId, age: timedelta) -> Woken:
        """See ``ports.DemandStore``."""
        word, *answer = await self._run_fields(
            "wake",
            [keys.record(session_id), keys.queue(session_id), keys.tombstone(session_id)],
            [max(0, age // _MILLISECOND)],
        )
        refuse(session_id, word)
        return _woken(answer)

    async def enqueue(
        self,
        session_id: SessionId,
        message_id: str,
        message: str,
        max_waiting: int,
        hold: timedelta,
        *,
        tenant_bytes: int = 0,
    ) -> Enqueued:
        """See ``ports.DemandStore``."""
        message = writable(message)
        element = json.dumps({"id": message_id, "message": message}, ensure_ascii=False)
        word, *answer = await self._run_fields(
            "enqueue",
            [
                keys.record(session_id),
                keys.queue(session_id),
                keys.tombstone(session_id),
                keys.DISPATCH_PENDING,
                keys.events(session_id),
                keys.marks(session_id),
                keys.ended(session_id, message_id),
            ],
            [
                *self._endings(session_id),
                session_id,
                message_id,
                element,
                message,
                max_waiting,
                hold // _MILLISECOND,
                tenant_bytes,
            ],
        )
        refuse(session_id, word)
        fresh, last_active, event_id, ended = answer
        return Enqueued(
            outcome=EnqueueOutcome(word),
            woken=_woken((fresh, last_active)),
            event_id=event_id,
            ended=MessageOutcome(ended) if ended else None,
        )

    async def release(
        self, session_id: SessionId, release_after: timedelta, *, force: bool, woken_at: int | None = None
    ) -> ReleaseOutcome:
        """See ``ports.DemandStore``."""
        judged = "" if woken_at is None else woken_at
        return await self._release(session_id, release_after // _MILLISECOND, int(force), "sleeping", judged)

    async def give_up(self, session_id: SessionId, woken_at: int) -> ReleaseOutcome:
        """See ``ports.DemandStore``."""
        return await self._release(session_id, 0, 1, "failed", woken_at)

    async def _release(self, session_id: SessionId, *arguments: int | str) -> ReleaseOutcome:
        word = await self._run("release", [keys.record(session_id), keys.queue(session_id), keys.EPOCH], arguments)
        return ReleaseOutcome(str(word))

    async def get_time(self) -> int:
        """See ``ports.DemandStore``."""
        with self._translated():
            seconds, microseconds = await self._client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def get_queue(self, session_id: SessionId) -> Queue:
        """See ``ports.DemandStore``."""
        awake, chats, outside = await self._run_fields(
            "get_queue", [keys.queue(session_id), keys.record(session_id)], []
        )
        return Queue(awake=int(awake), chats=int(chats), outside=int(outside))

    async def get_lengths(self, session_ids: Sequence[SessionId]) -> Sequence[int]:
        """See ``ports.DemandStore``."""
        with self._translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for session_id in session_ids:
                    pipeline.llen(keys.queue(session_id))
                found = await pipeline.execute(raise_on_error=False)
        # A key of another type is demand too: one element.
        return [length if isinstance(length, int) else 1 for length in found]

    async def list_demanded(self, session_ids: Sequence[SessionId]) -> Sequence[SessionId]:
        """See ``ports.DemandStore``."""
        with self._translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for session_id in session_ids:
                    # Not LLEN: a key of another type is demand too, and no error.
                    pipeline.exists(keys.queue(session_id))
                present = await pipeline.execute()
        return [session_id for session_id, there in zip(session_ids, present, strict=True) if there]


def _woken(answer: Sequence[str]) -> Woken:
    fresh, last_active = answer
    return Woken(fresh=fresh == "1", last_active=int(last_active))
