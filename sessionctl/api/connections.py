"""Connections whose requests do not come to their end are closed: each one holds a socket."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 10.0
"""How long the head of a request may take, from the connection's or its own first byte."""


class TimedProtocol(H11Protocol):
    """HTTP/1.1 with a limit on the time that the head of a request takes; bodies have one of their own."""

    head_seconds = HEAD_SECONDS
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._judge()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._judge()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._disarm()
        super().connection_lost(exc)

    def _judge(self) -> None:
        # Both sides are in the same state only while no request is under way.
        waits = self.conn.our_state is self.conn.their_state
        if waits and self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self.transport.close)
        elif not waits:
            self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
