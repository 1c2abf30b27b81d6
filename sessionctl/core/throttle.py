"""Rate limits of the API: per key or token, and per user."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from sessionctl.errors import RateLimitedError, StoreError
from sessionctl.labels import user_hash
from sessionctl.models import Caller, RateLimit, Scope

if TYPE_CHECKING:
    from sessionctl.ports import AccessStore, Clock
    from sessionctl.settings import ApiSettings

PATIENCE_SECONDS: Final = 1.0
"""A read does not wait longer than this for a Redis that may be away."""
PAUSE_SECONDS: Final = 1.0
"""After that, reads go by unlimited for so long without asking."""


class Throttle:
    """Counts requests in Redis, so that all managers count together."""

    def __init__(self, store: AccessStore, clock: Clock, settings: ApiSettings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._ask_again_at = 0.0

    async def take(self, caller: Caller, user_id: str | None, scope: Scope) -> None:
        """Count one request; raises RateLimitedError, and StoreError unless it only reads.

        While Redis is away reads are not limited: the answers that still work must not be taken away.
        """
        limits = [self._of_caller(caller)]
        if user_id is not None:
            limits.append(self._of_user(caller.tenant, user_id))
        if scope is not Scope.READ:
            await self._ask(limits)
            return
        if self._clock.monotonic() < self._ask_again_at:
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._ask(limits)
        except (StoreError, TimeoutError):
            self._ask_again_at = self._clock.monotonic() + PAUSE_SECONDS

    async def take_user(self, tenant: str, user_id: str) -> None:
        """Count a request that names a user; raises RateLimitedError and StoreError."""
        await self._ask([self._of_user(tenant, user_id)])

    async def _ask(self, limits: list[RateLimit]) -> None:
        wait = await self._store.take(limits)
        if wait is not None:
            seconds = max(1, math.ceil(wait.total_seconds()))
            raise RateLimitedError("too many requests", retry_after=seconds)

    def _of_caller(self, caller: Caller) -> RateLimit:
        kind = "key" if caller.session_id is None else "token"
        return RateLimit(f"{kind}:{caller.name}", self._settings.key_rate, self._settings.key_burst)

    def _of_user(self, tenant: str, user_id: str) -> RateLimit:
        return RateLimit(f"user:{tenant}:{user_hash(user_id)}", self._settings.user_rate, self._settings.user_burst)
