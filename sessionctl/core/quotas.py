"""Quotas of the Session API: sessions of a user, awake sessions of a tenant. Zero is no limit."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.errors import ClusterError, ConflictError, QuotaExceededError, StoreError, UnavailableError
from sessionctl.models import EventKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sessionctl.core.journal import Journal
    from sessionctl.core.mirror import Mirror
    from sessionctl.models import Owner, SessionId
    from sessionctl.ports import Clock, QuotaStore
    from sessionctl.settings import QuotaSettings

UNSEEN_SECONDS: Final = 10.0
"""A wake that was admitted and is not seen in the cluster after this time came to nothing."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Admitted:
    """A wake that the view of the cluster does not show yet."""

    tenant: str
    at: float


class Quotas:
    """Refuses what would be too much. For the API only: whoever has a kubeconfig may have what the cluster bears.

    Sessions are counted in Redis, where no two managers give the last place away twice. Awake ones are counted in this
    manager's view of the cluster, with the wakes that it has admitted itself: several managers may together admit some
    more while their views are behind.
    """

    def __init__(
        self, view: Mirror, store: QuotaStore, journal: Journal, clock: Clock, settings: QuotaSettings
    ) -> None:
        self._view = view
        self._store = store
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._admitted: dict[SessionId, _Admitted] = {}

    @asynccontextmanager
    async def making(self, session_id: SessionId, owner: Owner) -> AsyncGenerator[None, None]:
        """Count a session while it is made; raises QuotaExceededError and StoreError.

        It stays counted when it was made. One whose making was cut off ends to count by itself.
        """
        limit = self._settings.sessions_per_user
        if not limit:
            yield
            return
        if not await self._store.reserve_session(session_id, owner.tenant, owner.user_id, limit):
            # It has no history, and never will.
            self._journal.count(EventKind.QUOTA_REFUSED)
            msg = f"the user has {limit} sessions already, and may not have more"
            raise QuotaExceededError(msg, hint="Delete one of them, or raise quotas.sessionsPerUser.")
        try:
            yield
        except ConflictError:
            raise  # somebody else is making it, and it counts for them
        except BaseException:
            await self._cancel(session_id, owner)
            raise

    async def _cancel(self, session_id: SessionId, owner: Owner) -> None:
        try:
            await self._store.cancel_reservation(session_id, owner.tenant, owner.user_id)
        except StoreError as error:
            _log.info("its place is free again in some minutes: %s", error, extra={"session": session_id})

    async def admit_wake(self, session_id: SessionId) -> None:
        """Raise QuotaExceededError when the session sleeps and its tenant has as many awake as it may.

        One that is awake or waking is never refused, and neither is anything while the cluster is not known.
        """
        limit = self._settings.awake_per_tenant
        if not limit:
            return
        try:
            workspace = await self._view.find_workspace(session_id)
            if workspace is None or workspace.replicas:
                return
            tenant = workspace.owner.tenant
            awake = self._view.count_awake(tenant)
            await self._forget_seen()
        except (ClusterError, UnavailableError):
            return
        others = [s for s, admitted in self._admitted.items() if admitted.tenant == tenant and s != session_id]
        if awake + len(others) >= limit:
            self._refuse(session_id, limit)
        self._admitted[session_id] = _Admitted(tenant, self._clock.monotonic())

    async def _forget_seen(self) -> None:
        oldest = self._clock.monotonic() - UNSEEN_SECONDS
        for session_id, admitted in list(self._admitted.items()):
            seen = await self._view.find_workspace(session_id)
            if seen is None or seen.replicas or admitted.at < oldest:
                del self._admitted[session_id]

    def _refuse(self, session_id: SessionId, limit: int) -> None:
        # A caller that asks again and again must not fill the session's history.
        minute = f"{self._clock.now():%Y-%m-%dT%H:%M}"
        msg = f"the tenant has {limit} sessions awake already, and may not have more"
        self._journal.note(session_id, EventKind.QUOTA_REFUSED, f"not woken: {msg}", once=minute)
        raise QuotaExceededError(msg, hint="Try again when one of them sleeps, or raise quotas.awakePerTenant.")
