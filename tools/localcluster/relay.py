"""Lets this machine's loopback reach both APIs and the edge of a cluster whose network has no other way in or out."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

_CHUNK: Final = 65536


@dataclass(frozen=True)
class Relay:
    """Copies between connections that come from outside and one address inside.

    A name is looked up anew for each. A socket stays in the network it was made in, so the listener of the machine is
    accepted from by a process inside.
    """

    host: str
    port: int

    async def serve(self, listener: socket.socket) -> asyncio.Server:
        """Serve until the loop ends."""
        return await asyncio.start_server(self._relay, sock=listener)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            # As if nobody listened.
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            for each in (writer, inner_writer):
                each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
