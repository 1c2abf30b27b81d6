"""A TCP proxy before an HTTP server, on the test's event loop: it loses requests and replies, and cuts streams."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from tests.support.tcp_server import HOST, TcpServer

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK: Final = 65536
WHOLE: Final = 1 << 60


class HttpProxy:
    """Asks ``bytes_of_reply`` at each connection how many bytes of the replies come through before it is cut.

    Zero loses a reply whose request was carried out; below zero, the connection ends as soon as the request is through.
    """

    def __init__(self, port: int, bytes_of_reply: Callable[[], int] = lambda: WHOLE) -> None:
        self._target = port
        self._bytes_of_reply = bytes_of_reply
        self._server = TcpServer(self._serve)
        self.cuts = 0

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._server.__aexit__(*failure)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self._server.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        allowed = self._bytes_of_reply()
        upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self._target)
        try:
            if allowed < 0:
                await self._hand_on_one(reader, upstream_writer)
                return
            up = asyncio.create_task(self._pump(reader, upstream_writer, WHOLE))
            down = asyncio.create_task(self._pump(upstream_reader, writer, allowed))
            try:
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (up, down):
                    task.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            upstream_writer.close()

    async def _hand_on_one(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        upstream.write(head + await reader.readexactly(int(length[1]) if length else 0))
        await upstream.drain()
        self.cuts += 1

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: int) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                writer.write(data[:allowed])
                await writer.drain()
                allowed -= len(data)
                if allowed <= 0:
                    self.cuts += 1
                    return
