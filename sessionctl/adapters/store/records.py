"""``RecordStore`` on Redis."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.base import StorePart, milliseconds, record_fields
from sessionctl.errors import StoreError
from sessionctl.labels import SESSION_ID
from sessionctl.models import Owner, Record, SessionId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessionctl.models import Workspace


DELETED: Final = "the session was deleted"
"""Why the messages that still waited were cancelled."""
FIELDS: Final = ("user_id", "tenant", "profile", "created_at", "last_active", "released_at", "woken_at")


class RedisRecords(StorePart):
    """Records, the index of users, tombstones."""

    async def get_record(self, session_id: SessionId) -> Record | None:
        """See ``ports.RecordStore``."""
        with self._translated():
            # Not the whole hash: it remembers the ids of the session's messages too.
            reply = await self._client.hmget(keys.record(session_id), FIELDS)
        fields = {name: str(value) for name, value in zip(FIELDS, reply, strict=True) if value is not None}
        return _decode(session_id, fields) if "user_id" in fields else None

    async def has_record(self, session_id: SessionId) -> bool:
        """See ``ports.RecordStore``."""
        with self._translated():
            return bool(await self._client.exists(keys.record(session_id)))

    async def get_idle_times(self, session_ids: Sequence[SessionId]) -> Sequence[timedelta | None]:
        """See ``ports.RecordStore``."""
        with self._translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.time()
                for session_id in session_ids:
                    pipeline.hget(keys.record(session_id), "last_active")
                (seconds, microseconds), *stamps = await pipeline.execute()
        now = int(seconds) * 1000 + int(microseconds) // 1000
        return [timedelta(milliseconds=now - int(stamp)) if (stamp or "").isdigit() else None for stamp in stamps]

    async def ensure_record(self, workspace: Workspace) -> bool:
        """See ``ports.RecordStore``."""
        session_id, owner = workspace.session_id, workspace.owner
        written = await self._run(
            "ensure_record",
            [
                keys.record(session_id),
                keys.queue(session_id),
                keys.tombstone(session_id),
                keys.user_index(owner.tenant, owner.user_id),
                keys.events(session_id),
                keys.marks(session_id),
            ],
            [session_id, int(workspace.replicas > 0), milliseconds(workspace), *record_fields(workspace)],
        )
        return written == 1

    async def list_record_ids(self) -> Sequence[SessionId]:
        """See ``ports.RecordStore``."""
        with self._translated():
            found = [key async for key in self._client.scan_iter(match=f"{keys.RECORD_PREFIX}*", count=1000)]
        # Another application may use the same database and the same prefix.
        ids = (key.removeprefix(keys.RECORD_PREFIX) for key in found)
        return [SessionId(text) for text in ids if SESSION_ID.fullmatch(text)]

    async def bury(self, session_id: SessionId, owner_tenant: str, owner_user: str, retention: timedelta) -> None:
        """See ``ports.RecordStore``."""
        await self._bury(session_id, owner_tenant, owner_user, retention, unwanted=False)

    async def bury_unwanted(
        self, session_id: SessionId, owner_tenant: str, owner_user: str, retention: timedelta
    ) -> bool:
        """See ``ports.RecordStore``."""
        return await self._bury(session_id, owner_tenant, owner_user, retention, unwanted=True)

    async def _bury(
        self, session_id: SessionId, owner_tenant: str, owner_user: str, retention: timedelta, *, unwanted: bool
    ) -> bool:
        done = await self._run(
            "bury",
            [
                keys.tombstone(session_id),
                keys.record(session_id),
                keys.queue(session_id),
                keys.events(session_id),
                keys.marks(session_id),
                keys.DISPATCH_PENDING,
                keys.user_index(owner_tenant, owner_user),
                keys.EPOCH,
                keys.dispatch_lock(session_id),
            ],
            [
                *self._endings(session_id),
                session_id,
                max(1, retention // timedelta(milliseconds=1)),
                DELETED,
                int(unwanted),
            ],
        )
        return done == 1

    async def get_burial_age(self, session_id: SessionId) -> timedelta | None:
        """See ``ports.RecordStore``."""
        with self._translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.time()
                pipeline.get(keys.tombstone(session_id))
                (seconds, microseconds), buried_at = await pipeline.execute()
        if buried_at is None:
            return None
        now = int(seconds) * 1000 + int(microseconds) // 1000
        # What is not ours to read was there long ago.
        return timedelta(milliseconds=now - (int(buried_at) if str(buried_at).isdigit() else 0))

    async def unbury(self, workspace: Workspace) -> None:
        """See ``ports.RecordStore``."""
        session_id, owner = workspace.session_id, workspace.owner
        await self._run(
            "unbury",
            [
                keys.tombstone(session_id),
                keys.record(session_id),
                keys.events(session_id),
                keys.marks(session_id),
                keys.user_index(owner.tenant, owner.user_id),
            ],
            [session_id, milliseconds(workspace), *record_fields(workspace)],
        )


def _decode(session_id: SessionId, fields: Mapping[str, str]) -> Record:
    try:
        return Record(
            owner=Owner(
                user_id=fields["user_id"],
                tenant=fields["tenant"],
                profile=fields["profile"],
                created_at=datetime.fromisoformat(fields["created_at"]),
            ),
            last_active=int(fields["last_active"]),
            released_at=int(fields["released_at"]) if "released_at" in fields else None,
            woken_at=int(fields.get("woken_at", "0")),
        )
    except (KeyError, ValueError) as error:
        msg = f"the record {keys.record(session_id)} in Redis cannot be read: {error}"
        raise StoreError(msg, hint=f"Remove it with DEL {keys.record(session_id)}; it is rebuilt.") from error
