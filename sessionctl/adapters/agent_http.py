"""One request to an agent on a connection of its own: what its probe and its chats share.

The agent is tenant code: whatever it answers costs a bounded number of bytes, and no error repeats what it wrote.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final, Protocol

import h11

from sessionctl.errors import AgentError, SessionctlError, UnavailableError

if TYPE_CHECKING:
    from sessionctl.models import SessionId

READ_BYTES: Final = 8192
"""h11 measures a head that does not end only between two readings."""
RECEIVE_BYTES: Final = 65536
CONNECT_SECONDS: Final = 5.0
MAX_HEAD_PIECES: Final = 100
"""An honest answer has at most a handful of heads before its own."""
TURN: Final = 32
"""After so many pieces, which may be a byte each, everybody else on the event loop has a turn."""


class ByteStream(Protocol):
    """One connection to an agent."""

    async def read(self) -> bytes:
        """Return what comes next, nothing at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send."""
        ...

    def close(self) -> None:
        """Drop the connection without waiting for anybody."""
        ...


class Dial(Protocol):
    """Connects to the agent of a session; raises OSError and SessionctlError."""

    async def __call__(self, session_id: SessionId, /) -> ByteStream:
        """Connect."""
        ...


class TcpStream:
    """``ByteStream`` on a plain connection, made without regard to proxies: the token is for the pod alone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int) -> TcpStream:
        """Connect; raises OSError."""
        # The limit is half of what a sender who is faster than its reader can have waiting here.
        reader, writer = await asyncio.open_connection(host, port, limit=READ_BYTES)
        # And what the system holds is memory of this process's container too: by itself it goes up to megabytes.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        return cls(reader, writer)

    async def read(self) -> bytes:
        """See ``ByteStream``."""
        return await self._reader.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        """See ``ByteStream``."""
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """See ``ByteStream``."""
        self._writer.transport.abort()


class Exchange:
    """One request and its answer; both raise UnavailableError where they are cut off, and AgentError for no HTTP.

    Nothing here has a deadline: whoever asks knows how long an answer may take.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._protocol = h11.Connection(h11.CLIENT)
        self._ended = self._over = False
        self.received = 0
        """Bytes so far, heads and the framing of chunks included."""
        self.pieces = 0

    async def ask(self, method: str, target: str, token: str | None = None, body: bytes | None = None) -> int:
        """Send the request and return the status of the answer; a redirect is an answer like any other."""
        headers = [
            ("Host", "agent"),
            ("Accept", "application/json, application/x-ndjson"),
            ("Connection", "close"),
        ]
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        if body is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        question = self._protocol.send(h11.Request(method=method, target=target, headers=headers)) or b""
        if body is not None:
            question += self._protocol.send(h11.Data(data=body)) or b""
        question += self._protocol.send(h11.EndOfMessage()) or b""
        try:
            await self._stream.write(question)
        except (OSError, SessionctlError):
            # It may have answered before it had read everything: what it said says more.
            self._ended = True
        while True:
            event = await self._event()
            if self.pieces > MAX_HEAD_PIECES:
                raise AgentError(f"the agent answers with more than {MAX_HEAD_PIECES} heads")
            if isinstance(event, h11.Response):
                return event.status_code
            if not isinstance(event, h11.InformationalResponse):
                raise self._cut_off()

    async def read(self) -> bytes:
        """Return what has come of the answer's body, or nothing at its end."""
        found: list[bytes] = []
        while not self._over:
            event = self._next() if found else await self._event()
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.Data):
                found.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._over = True
            else:
                raise self._cut_off()
            if self.pieces % TURN == 0:
                await asyncio.sleep(0)
        return b"".join(found)

    async def _event(self) -> object:
        while (event := self._next()) is h11.NEED_DATA:
            try:
                data = await self._stream.read()
            except (OSError, SessionctlError) as error:
                raise self._cut_off() from error
            self._ended = self._ended or not data
            self.received += len(data)
            self._protocol.receive_data(data)
        return event

    def _next(self) -> object:
        try:
            event = self._protocol.next_event()
        except h11.RemoteProtocolError as error:
            if self._ended:
                raise self._cut_off() from error
            raise AgentError("what answers is no agent: it does not speak HTTP") from error
        self.pieces += event is not h11.NEED_DATA
        return event

    @staticmethod
    def _cut_off() -> UnavailableError:
        return UnavailableError("the agent's answer was cut off")
