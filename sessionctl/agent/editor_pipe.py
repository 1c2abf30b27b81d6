"""The way into the editor: a port whose connections are carried to code-server's socket, byte for byte.

code-server could listen by itself, but it cannot be told to hang up: an open editor would outlive the right to it.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from sessionctl.agent.listening import listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BLOCK: Final = 64 * 1024
_SILENT_SECONDS: Final = 60
_PROBES: Final = 3


class Pipe:
    """Carries connections while it is open."""

    def __init__(self, host: str, port: int, target: Path) -> None:
        self._address = host, port
        self._target = target
        self._carried: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Listen until the end of the block, and yield the port; raises OSError where it is taken.

        Outside of it connections are refused at once, which the router takes for an editor that is not there yet.
        """
        listener = listen(*self._address)
        # A router that went with its node says nothing any more; its connection would count as somebody's for hours.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_SECONDS)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENT_SECONDS // _PROBES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        server = await asyncio.start_server(self._accept, sock=listener, limit=BLOCK)
        try:
            yield listener.getsockname()[1]
        finally:
            server.close()
            self.hang_up()

    def hang_up(self) -> None:
        """End every connection."""
        for task in self._carried:
            task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                there, back = await asyncio.open_unix_connection(self._target, limit=BLOCK)
                try:
                    await _both_ways((reader, back), (there, writer))
                finally:
                    back.transport.abort()
        finally:
            writer.transport.abort()


async def _both_ways(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Copy until both sides have ended; raises OSError when one of them is lost."""
    tasks = [asyncio.create_task(_copy(*way)) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(BLOCK):
        writer.write(data)
        await writer.drain()
    # The connection is aborted when both ways are done: nothing may be left in it then.
    writer.transport.set_write_buffer_limits(0)
    await writer.drain()
    writer.write_eof()
