"""``Store`` on a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.adapters.store.access import RedisAccess
from sessionctl.adapters.store.demand import RedisDemand
from sessionctl.adapters.store.dispatch import RedisDispatch
from sessionctl.adapters.store.events import RedisEvents
from sessionctl.adapters.store.gate import RedisGate
from sessionctl.adapters.store.messages import RedisMessages
from sessionctl.adapters.store.quota import RedisQuota
from sessionctl.adapters.store.records import RedisRecords

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class RedisStore(
    RedisDemand, RedisRecords, RedisGate, RedisEvents, RedisMessages, RedisDispatch, RedisAccess, RedisQuota
):
    """All ports on one pool of connections; an async context manager that closes it, and its route with it."""

    async def __aenter__(self) -> Self:
        """Connections are made at first use."""
        if self._route is not None:
            self._address = await self._route.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pool, and the connection that waits for events."""
        try:
            for name in ("_client", "_listening"):
                if name in self.__dict__:
                    await self.__dict__[name].aclose(close_connection_pool=True)
        finally:
            if self._route is not None:
                await self._route.close()
