"""How fast each tenant's agents may have one manager write: a token bucket for each tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sessionctl.ports import Clock

MOST_BUCKETS: Final = 1000
"""Beyond it those are forgotten that are full again, which changes nothing."""


class TenantBudget:
    """Nobody is refused: whoever has used more than there was waits until it is made up for."""

    def __init__(self, clock: Clock, rate: int) -> None:
        self._clock = clock
        self._rate = rate
        self._full_at: dict[str, float] = {}

    def charge(self, tenant: str, size: int) -> float:
        """Take ``size`` of a tenant's budget, of which a second's worth is there at most; returns seconds to wait."""
        now = self._clock.monotonic()
        full_at = max(now, self._full_at.get(tenant, now)) + size / self._rate
        self._full_at[tenant] = full_at
        if len(self._full_at) > MOST_BUCKETS:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        return max(0.0, full_at - now - 1.0)
