"""Connections whose requests do not come to their end are closed: each one holds a socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

HEAD_SECONDS: Final = 10.0
"""How long the head of a request may take, from the connection's or its own first byte."""
HEAD_BYTES: Final = 64 * 1024
"""So much may be no body: head, framing and trailer. The parser has no limit of its own."""


class TimedProtocol(HttpToolsProtocol):
    """HTTP/1.1, parsed in C as everybody waits for it, with limits on the head of a request; bodies have others."""

    head_seconds = HEAD_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _overhead = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._judge()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > HEAD_BYTES:
            self.transport.abort()
        self._judge()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._overhead = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._overhead -= len(body)
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._disarm()
        super().connection_lost(exc)

    def _judge(self) -> None:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        waits = cycle is None or cycle.response_complete
        if waits and self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self.transport.close)
        elif not waits:
            self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
