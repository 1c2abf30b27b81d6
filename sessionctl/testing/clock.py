"""``Clock`` that a test moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Starts at a fixed moment; sleeping moves it on at once."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0

    def now(self) -> datetime:
        """See ``ports.Clock``."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """See ``ports.Clock``."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """See ``ports.Clock``."""
        self._elapsed += seconds
        await asyncio.sleep(0)
