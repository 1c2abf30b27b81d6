"""The one thing the editor can be told: to hang up. The agent asks for it, the editor's container does it.

The port is on loopback, where it needs no secret: the worst that whoever runs in the pod can do is to cut off its own
editor, which connects again.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from sessionctl.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HOST: Final = "127.0.0.1"
AGAIN_SECONDS: Final = 2.0
"""The router remembers for a second who may connect, and a connection may be on its way: it meets the second end."""
ANSWER_SECONDS: Final = 5.0
MAX_HEAD_BYTES: Final = 8192
_REQUEST: Final = b"POST /close HTTP/1.1"
_ENDED: Final = "204 No Content"
_UNKNOWN: Final = "404 Not Found"


class Editor:
    """The agent's side."""

    def __init__(self, control_port: int) -> None:
        self._port = control_port

    async def hang_up(self) -> None:
        """End the connections to the editor, those of the next seconds too; raises UnavailableError."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(HOST, self._port)
                try:
                    writer.write(_REQUEST + b"\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
                    answer = await reader.read(MAX_HEAD_BYTES)
                finally:
                    writer.transport.abort()
        except ConnectionRefusedError:
            return  # where there is no editor there are no connections to it
        except (OSError, TimeoutError) as error:
            raise UnavailableError("the editor could not be told to hang up") from error
        if not answer.startswith(f"HTTP/1.1 {_ENDED}".encode()):
            raise UnavailableError("the editor did not hang up")


class Control:
    """The editor's side."""

    def __init__(self, port: int, hang_up: Callable[[], None]) -> None:
        self._port = port
        self._hang_up = hang_up

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Listen until the end of the block, and yield the port; raises OSError where it is taken."""
        server = await asyncio.start_server(self._answer, HOST, self._port, limit=MAX_HEAD_BYTES)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    status = self._act(head.partition(b"\r\n")[0])
                    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                    await writer.drain()
                    writer.write_eof()
                    await reader.read()
        finally:
            writer.transport.abort()

    def _act(self, request: bytes) -> str:
        if request != _REQUEST:
            return _UNKNOWN
        self._hang_up()
        asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._hang_up)
        return _ENDED
