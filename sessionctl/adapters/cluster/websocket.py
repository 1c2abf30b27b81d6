"""One WebSocket to the API server: wsproto speaks it, over the same connections as every other request.

wsproto is loaded with this module, and this module at the first port-forward.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from sessionctl.adapters.cluster.dial import READ_BYTES, dial

if TYPE_CHECKING:
    from sessionctl.adapters.cluster.credentials import Endpoint
    from sessionctl.adapters.cluster.dial import Streams
    from sessionctl.adapters.cluster.http import Headers

SILENCE_SECONDS: Final = 30.0
"""After this time without a byte the server is asked for one; after the same time again the connection is dead."""
MAX_REFUSAL_BYTES: Final = 65536


class RefusedError(Exception):
    """The server answered the upgrade with an ordinary response."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(str(status))
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Part:
    """A piece of a binary message, as it arrived."""

    data: bytes
    ends: bool


class WebSocket:
    """A connection after its upgrade; what breaks it is an OSError."""

    def __init__(self, streams: Streams) -> None:
        self._reader, self._writer = streams
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: deque[Event] = deque()
        self._questioned = False

    @classmethod
    async def connect(cls, endpoint: Endpoint, target: str, headers: Headers, subprotocol: str) -> Self:
        """Connect and upgrade; raises RefusedError, OSError and h11's errors."""
        url = urlsplit(endpoint.server)
        request = Request(
            host=url.netloc,
            target=f"{url.path}{target}",
            extra_headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in headers],
            subprotocols=[subprotocol],
        )
        socket = cls(await dial(endpoint))
        try:
            await socket._shake_hands(request, subprotocol)
        except BaseException:
            socket.abort()
            raise
        return socket

    async def receive(self) -> Part | None:
        """Return the next piece of a message; None when the server has closed."""
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, BytesMessage):
                    return Part(bytes(event.data), event.message_finished)
                if isinstance(event, TextMessage):
                    raise ConnectionAbortedError("the server sent text where bytes were agreed")
                if isinstance(event, Ping):
                    # Whoever has closed meanwhile wants no answer.
                    with suppress(ProtocolError):
                        self._writer.write(self._protocol.send(event.response()))
                if isinstance(event, CloseConnection):
                    self._events.appendleft(event)
                    return None
            await self._read_on()

    async def send(self, message: bytes) -> None:
        """Send one binary message as one frame: the server takes the first byte of every frame for a channel."""
        try:
            frame = self._protocol.send(BytesMessage(data=message))
        except ProtocolError as error:
            raise BrokenPipeError("the server has closed the connection") from error
        self._writer.write(frame)
        await self._writer.drain()

    def close(self) -> None:
        """Say goodbye and close once it is sent; waits for nothing."""
        with suppress(ProtocolError):
            self._writer.write(self._protocol.send(CloseConnection(code=1000)))
        self._writer.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()

    async def _shake_hands(self, request: Request, subprotocol: str) -> None:
        self._writer.write(self._protocol.send(request))
        await self._writer.drain()
        while not self._events:
            await self._read_on()
        first = self._events.popleft()
        if isinstance(first, RejectConnection):
            raise RefusedError(first.status_code, await self._refusal() if first.has_body else b"")
        if not isinstance(first, AcceptConnection) or first.subprotocol != subprotocol:
            raise ConnectionAbortedError(f"the server does not speak {subprotocol}")

    async def _refusal(self) -> bytes:
        body = b""
        # The status says enough where the text does not come whole.
        with suppress(OSError):
            while len(body) < MAX_REFUSAL_BYTES:
                while not self._events:
                    await self._read_on()
                event = self._events.popleft()
                if not isinstance(event, RejectData):
                    break
                body += event.data
                if event.body_finished:
                    break
        return body

    async def _read_on(self) -> None:
        data = await self._read()
        try:
            # None is how wsproto is told of the end.
            self._protocol.receive_data(data or None)
            self._events.extend(self._protocol.events())
        except ProtocolError as error:
            raise ConnectionAbortedError(f"the server breaks the WebSocket protocol: {error}") from error
        if not data and not self._events:
            raise ConnectionResetError("the connection was closed")

    async def _read(self) -> bytes:
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    data = await self._reader.read(READ_BYTES)
            except TimeoutError:
                if self._questioned:
                    raise
                self._questioned = True
                with suppress(ProtocolError):
                    self._writer.write(self._protocol.send(Ping()))
                continue
            self._questioned = False
            return data
