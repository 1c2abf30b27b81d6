"""HTTP/1.1 to one server over asyncio streams, spoken by h11: a pool of connections, requests, streamed answers.

Written out because it is on the way of every command: the client libraries take longer to import than the requests
take to be answered (docs/decisions/0002).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import h11

from sessionctl.adapters.cluster.dial import READ_BYTES, dial

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from sessionctl.adapters.cluster.credentials import Endpoint

MAX_CONNECTIONS: Final = 64

Headers = list[tuple[str, str]]
HttpError = (OSError, h11.ProtocolError)
"""What a broken connection raises; timeouts are OSErrors too."""


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))

    async def ask(self, request: h11.Request, body: bytes) -> h11.Response:
        """Send a request and read the head of its answer."""
        parts = [self.protocol.send(request)]
        if body:
            parts.append(self.protocol.send(h11.Data(data=body)))
        parts.append(self.protocol.send(h11.EndOfMessage()))
        self.writer.write(b"".join(part for part in parts if part))
        await self.writer.drain()
        while not isinstance(event := await self.next_event(), h11.Response):
            pass  # informational answers come before the real one
        return event

    async def next_event(self) -> h11.Event:
        """Read the next part of an answer; raises one of HttpError when the connection ends before it."""
        while (event := self.protocol.next_event()) is h11.NEED_DATA:
            self.protocol.receive_data(await self.reader.read(READ_BYTES))
        if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            raise ConnectionResetError("the connection was closed")
        return event  # type: ignore[return-value]  # the sentinels are handled above

    @property
    def is_reusable(self) -> bool:
        """Whether question and answer are both complete and the server keeps the connection."""
        return self.protocol.our_state is h11.DONE and self.protocol.their_state is h11.DONE

    def close(self) -> None:
        """Drop the connection at once."""
        self.writer.transport.abort()


@dataclass
class Answer:
    """The answer to one request; valid inside its ``async with`` block."""

    status: int
    _connection: _Connection

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives."""
        while isinstance(event := await self._connection.next_event(), h11.Data):
            yield bytes(event.data)

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([chunk async for chunk in self.chunks()])


class HttpPool:
    """Connections to one server."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._url = urlsplit(endpoint.server)
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: list[_Connection] = []

    @asynccontextmanager
    async def send(self, method: str, target: str, headers: Headers, body: bytes) -> AsyncGenerator[Answer, None]:
        """Send a request; raises one of HttpError. ``target`` is appended to the server's path."""
        given = [("Host", self._url.netloc), *headers]
        if body:
            given.append(("Content-Length", str(len(body))))
        request = h11.Request(method=method, target=f"{self._url.path}{target}", headers=_encoded(given))
        async with self._slots:
            connection, head = await self._begin(request, body)
            try:
                yield Answer(head.status_code, connection)
            finally:
                if connection.is_reusable:
                    connection.protocol.start_next_cycle()
                    self._idle.append(connection)
                else:
                    connection.close()

    async def close(self) -> None:
        """Drop all connections that are not in use."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    async def _begin(self, request: h11.Request, body: bytes) -> tuple[_Connection, h11.Response]:
        while self._idle:
            connection = self._idle.pop()
            # The server may have closed it meanwhile. All our requests may be sent twice, so it is tried on another.
            with suppress(*HttpError):
                return connection, await _ask(connection, request, body)
        connection = _Connection(*await dial(self._endpoint))
        return connection, await _ask(connection, request, body)


async def _ask(connection: _Connection, request: h11.Request, body: bytes) -> h11.Response:
    try:
        return await connection.ask(request, body)
    except BaseException:
        connection.close()
        raise


def _encoded(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]
