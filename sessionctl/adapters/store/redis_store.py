"""``Store`` on a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.adapters.store.demand import RedisDemand
from sessionctl.adapters.store.gate import RedisGate
from sessionctl.adapters.store.records import RedisRecords

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class RedisStore(RedisDemand, RedisRecords, RedisGate):
    """All three ports on one pool of connections; an async context manager that closes it, and its route with it."""

    async def __aenter__(self) -> Self:
        """Connections are made at first use."""
        if self._route is not None:
            self._address = await self._route.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pool."""
        try:
            if "_client" in self.__dict__:
                await self._client.aclose(close_connection_pool=True)
        finally:
            if self._route is not None:
                await self._route.close()
