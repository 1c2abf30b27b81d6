"""``QuotaStore`` on Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.base import StorePart

if TYPE_CHECKING:
    from sessionctl.models import SessionId

RESERVATION_MS: Final = 300_000
"""Longer than any install takes; a manager that died during one holds the place for no longer."""


class RedisQuota(StorePart):
    """Counts the sessions in the index of their user."""

    async def reserve_session(self, session_id: SessionId, owner_tenant: str, owner_user: str, limit: int) -> bool:
        """See ``ports.QuotaStore``."""
        prefixes = (keys.RECORD_PREFIX, keys.TOMBSTONE_PREFIX, keys.RESERVATION_PREFIX)
        counted = await self._run(
            "reserve_session",
            [keys.user_index(owner_tenant, owner_user)],
            [session_id, limit, RESERVATION_MS, *prefixes],
        )
        return counted == 1

    async def cancel_reservation(self, session_id: SessionId, owner_tenant: str, owner_user: str) -> None:
        """See ``ports.QuotaStore``."""
        await self._run(
            "cancel_reservation",
            [
                keys.user_index(owner_tenant, owner_user),
                keys.record(session_id),
                keys.reservation(session_id),
            ],
            [session_id],
        )
